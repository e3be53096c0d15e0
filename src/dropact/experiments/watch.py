"""Who wants to know how far runs have come."""

from collections.abc import Sequence

from torch import nn

from dropact.experiments.config import RunConfig
from dropact.experiments.errors import UserError
from dropact.experiments.records import Epoch, Result


class Watcher:
    """Is told, and does nothing. Those who want to know override what they want to know."""

    def skipped(self, config: RunConfig) -> None:
        """The run was finished before."""

    def started(self, config: RunConfig, images: int) -> None:
        """The run begins or goes on; it trains on `images` images per epoch."""

    def resumed(self, config: RunConfig, metrics: Sequence[Epoch], seen: int) -> None:
        """It goes on behind these epochs, with `seen` images trained on so far."""

    def stepped(self, config: RunConfig, seen: int) -> None:
        """A step is done; `seen` images have been trained on since the run began. Called often: be quick."""

    def epoch(self, config: RunConfig, metrics: Epoch) -> None:
        """An epoch is done and evaluated."""

    def network(self, config: RunConfig, epoch: int, network: nn.Module) -> None:
        """That epoch is done, and this is the network that was evaluated; it must not be changed."""

    def finished(self, config: RunConfig, result: Result) -> None:
        """The run is finished and kept."""

    def failed(self, config: RunConfig, error: UserError) -> None:
        """The run is given up, and others go on."""


class Watchers(Watcher):
    """Several, told in turn."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def skipped(self, config: RunConfig) -> None:
        for watcher in self._watchers:
            watcher.skipped(config)

    def started(self, config: RunConfig, images: int) -> None:
        for watcher in self._watchers:
            watcher.started(config, images)

    def resumed(self, config: RunConfig, metrics: Sequence[Epoch], seen: int) -> None:
        for watcher in self._watchers:
            watcher.resumed(config, metrics, seen)

    def stepped(self, config: RunConfig, seen: int) -> None:
        for watcher in self._watchers:
            watcher.stepped(config, seen)

    def epoch(self, config: RunConfig, metrics: Epoch) -> None:
        for watcher in self._watchers:
            watcher.epoch(config, metrics)

    def network(self, config: RunConfig, epoch: int, network: nn.Module) -> None:
        for watcher in self._watchers:
            watcher.network(config, epoch, network)

    def finished(self, config: RunConfig, result: Result) -> None:
        for watcher in self._watchers:
            watcher.finished(config, result)

    def failed(self, config: RunConfig, error: UserError) -> None:
        for watcher in self._watchers:
            watcher.failed(config, error)
