"""Who wants to know how far runs have come."""

from collections.abc import Callable, Sequence

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
        def telling(name: str) -> Callable[..., None]:
            def tell(*news: object) -> None:
                for watcher in watchers:
                    getattr(watcher, name)(*news)

            return tell

        for name, method in vars(Watcher).items():
            if callable(method):
                setattr(self, name, telling(name))
