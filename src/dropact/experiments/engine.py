"""The one training loop."""

import copy
from dataclasses import dataclass, field

from torch import Tensor

from dropact.experiments.batches import Part, part_of
from dropact.experiments.checkpoint import Checkpoints
from dropact.experiments.config import RunConfig
from dropact.experiments.data import Dataset
from dropact.experiments.errors import DivergedError
from dropact.experiments.evaluation import error_percent
from dropact.experiments.hardware import autocast, checked_device, repeatable
from dropact.experiments.ranks import ALONE, Ranks
from dropact.experiments.records import Epoch, Recalibrated, Result, Shift, last_and_best
from dropact.experiments.trainer import Trainer
from dropact.experiments.watch import Watcher

SILENT = Watcher()


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: one record per epoch, the summary, the weights (in the plain network's names), seconds.

    `seconds` are those of the epochs, `end_seconds` what followed them: recalibration, the train error.
    `readings` are those of `config.recorded`: `step` from 0, `site`, and `variance_shift` (None where there is none).
    """

    metrics: list[Epoch]
    result: Result
    state: dict[str, Tensor]
    seconds: list[float]
    readings: list[Shift] = field(default_factory=list)
    end_seconds: float = 0.0


def train(
    config: RunConfig,
    data: Dataset,
    watcher: Watcher = SILENT,
    *,
    device: str = "cpu",
    checkpoints: Checkpoints | None = None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Trains one run; the same config and data on the same machine give the same bits, stopped in between or not.

    >>> from dropact.experiments import RunConfig, load_dataset
    >>> config = RunConfig(dataset="digits", network="simple-small", epochs=1)
    >>> outcome = train(config, load_dataset("digits"))
    >>> sorted(outcome.metrics[0])
    ['epoch', 'test_error', 'train_error', 'train_loss', 'validation_error']

    Args:
        watcher: told of every step and every epoch's record: `epoch` from 1, `train_loss` (nats, smoothed labels
            included) and `train_error` while training, `validation_error` (None where the validation part is trained
            on) and `test_error` in eval mode, both None at an epoch that is not evaluated; errors in percent.
        device: "cpu" or "cuda".
        checkpoints: where the state is kept in mid-run, and gone on from if there is one.
        ranks: the processes that train this run together. All call this with the same config and data, rank 0 alone
            with `watcher` and `checkpoints`; on all of them the outcome is the same, but for the readings of
            `recorded`, which are rank 0's.

    Returns:
        The records, and a result whose `test_error` is that of the last epoch. The best epoch is noted beside it and
        never used. `train_error` in the result is that of the final weights in eval mode. With `ema_decay` above 0
        everything in eval mode, and the weights, are those of the average. With `recalibrated` there is a
        `recalibrated_test_error` beside, that of the same weights.

    Raises:
        DivergedError: the loss or the weights are no longer finite.
        RecordError: a checkpoint cannot be written.
    """
    where = checked_device(device)
    with repeatable(where):
        trainer = Trainer(config, data, where, ranks)
        validation = (
            part_of(data.x_validation, data.y_validation, config, where) if config.train_on == "train" else None
        )
        test = part_of(data.x_test, data.y_test, config, where)

        def error(part: Part) -> float:
            return error_percent(trainer.evaluated, part, trainer.batches.normalise, autocast(config, where), ranks)

        watcher.started(config, len(trainer.batches.part))
        if checkpoints and checkpoints.found:
            checkpoints.restore(trainer.load, copy.deepcopy(trainer.state()))
        found = ranks.broadcast(checkpoints.found if checkpoints else None)
        if found is not None:
            if ranks.rank:
                trainer.load(found.state, found.header["step"])
            watcher.resumed(config, trainer.metrics, trainer.seen)

        def after_step() -> None:
            watcher.stepped(config, trainer.seen)
            if checkpoints and checkpoints.due():
                trainer.check()
                trainer.check_weights()
                checkpoints.save(trainer.steps, trainer.state())

        try:
            with trainer.batches:
                while len(trainer.metrics) < config.epochs:
                    trainer.run_epoch(after_step)
                    trainer.check()
                    trainer.check_weights()
                    loss, train_error = trainer.training_metrics()
                    evaluates = config.evaluates(len(trainer.metrics) + 1)
                    trainer.close_epoch(
                        {
                            "epoch": len(trainer.metrics) + 1,
                            "train_loss": loss,
                            "train_error": train_error,
                            "validation_error": error(validation) if validation and evaluates else None,
                            "test_error": error(test) if evaluates else None,
                        }
                    )
                    watcher.epoch(config, trainer.metrics[-1])
                    watcher.network(config, len(trainer.metrics), trainer.evaluated)
                    if checkpoints and checkpoints.due(epoch_ended=True):
                        checkpoints.save(trainer.steps, trainer.state())
                recalibrated: Recalibrated = {}
                if config.recalibrated:
                    with trainer.recalibrated():
                        recalibrated["recalibrated_test_error"] = error(test)
        except DivergedError as stopped:
            if checkpoints:
                sentence = f"{stopped}; the last good checkpoint: {checkpoints.last}"
                raise DivergedError(sentence, stopped.step, stopped.epoch) from stopped
            raise
        last, best_epoch, best = last_and_best(trainer.metrics)
        result: Result = {
            "epochs": config.epochs,
            "test_error": last,
            "validation_error": trainer.metrics[-1]["validation_error"],
            "train_error": error(trainer.batches.part),
            **recalibrated,
            "best_epoch": best_epoch,
            "best_test_error": best,
        }
    state = trainer.evaluated.state_dict()
    return Outcome(trainer.metrics, result, state, trainer.seconds, trainer.readings, trainer.elapsed)
