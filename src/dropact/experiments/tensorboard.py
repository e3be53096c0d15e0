"""Metrics for TensorBoard, in the folder `tensorboard` of each run."""

from pathlib import Path
from typing import Any

from torch import nn

from dropact.experiments.config import RunConfig
from dropact.experiments.errors import UserError
from dropact.experiments.records import RUNS, Epoch, Result
from dropact.experiments.watch import Watcher


class TensorBoard(Watcher):
    """Writes every epoch's numbers, and histograms of the weights.

    The records of a run are its JSON files; this is a view of them.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._new: Any = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def epoch(self, config: RunConfig, metrics: Epoch) -> None:
        epoch = metrics["epoch"]
        if self._writer is None:
            # What an earlier process wrote of epochs that are trained again is not shown twice.
            self._writer = self._new(self._folder / RUNS / config.key / "tensorboard", purge_step=epoch)
        for name, value in metrics.items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(name, value, epoch)

    def network(self, config: RunConfig, epoch: int, network: nn.Module) -> None:
        for name, weights in network.named_parameters():
            self._writer.add_histogram(f"weights/{name}", weights.detach().float(), epoch)

    def finished(self, config: RunConfig, result: Result) -> None:
        self._close()

    def failed(self, config: RunConfig, error: UserError) -> None:
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
