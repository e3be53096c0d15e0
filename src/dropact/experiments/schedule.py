"""The learning rate as a pure function of the step."""

from dropact.experiments.config import RunConfig

WARM_UP_SHARE = 0.2


def learning_rate(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of step `step`, counted from 0 over the whole run.

    >>> config = RunConfig(dataset="digits", network="simple-small", epochs=10, lr=0.1, schedule="one-cycle")
    >>> [round(learning_rate(config, step, steps_per_epoch=1), 3) for step in range(10)]
    [0.033, 0.067, 0.1, 0.088, 0.075, 0.062, 0.05, 0.038, 0.025, 0.013]
    """
    if config.schedule == "step":
        epoch = step // steps_per_epoch
        return config.lr * config.lr_factor ** sum(milestone <= epoch for milestone in config.milestones)
    if config.schedule == "one-cycle":
        total = config.epochs * steps_per_epoch
        warm_up = int(WARM_UP_SHARE * total)
        if step < warm_up:
            return config.lr * (step + 1) / (warm_up + 1)  # the first step learns too
        return config.lr * (total - step) / (total - warm_up)
    return config.lr
