"""The comparison that `dropact compare` makes when nothing else is said."""

from typing import Any

from dropact.experiments.config import RunConfig

DEMO_METHODS = ("baseline", "dropout", "rrelu", "drop-activation")
DEMO_SEEDS = 10


def default_setting(dataset: str = "digits", network: str | None = None) -> dict[str, Any]:
    """The fields that runs on `dataset` share unless told otherwise.

    >>> default_setting()["network"], default_setting("cifar10")["network"]
    ('simple-small', 'simple')

    Raises:
        ConfigError: an unknown name.
    """
    if dataset == "digits":
        config = RunConfig(dataset=dataset, network=network or "simple-small", epochs=30, batch_size=64, lr=0.1)
    else:
        config = RunConfig(dataset=dataset, network=network or "simple", epochs=12, batch_size=128, lr=0.1)
    return config.setting
