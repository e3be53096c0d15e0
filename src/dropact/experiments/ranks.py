"""The processes that train one run together: ranks, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dropact.experiments.errors import ConfigError


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is; a process on its own is rank 0 of 1.

    >>> Ranks(rank=1, count=2).share(images=7, microbatches=4)  # of 2, 2, 2 and 1
    [2, 1]
    """

    rank: int = 0
    count: int = 1

    def check(self, microbatches: int) -> None:
        """That so many microbatches can be shared out evenly.

        Raises:
            ConfigError: they cannot.
        """
        if microbatches % self.count:
            raise ConfigError(
                f"ranks: got {self.count} for {microbatches} microbatches, accepted: a divisor of {microbatches}"
            )

    def share(self, images: int, microbatches: int) -> list[int]:
        """Sizes of this rank's microbatches, when a batch of `images` is cut into equal parts (± 1)."""
        each = microbatches // self.count
        return sizes(images, microbatches)[self.rank * each : (self.rank + 1) * each]

    def place(self, images: int, microbatches: int) -> slice:
        """Where this rank's share lies in a batch."""
        before = sum(sizes(images, microbatches)[: self.rank * (microbatches // self.count)])
        return slice(before, before + sum(self.share(images, microbatches)))

    def sum_(self, values: Tensor) -> Tensor:
        """`values` with those of all ranks added to it."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, value: Any) -> Any:
        """What rank 0 says, on every rank."""
        if self.count == 1:
            return value
        said = [value]
        dist.broadcast_object_list(said)
        return said[0]


ALONE = Ranks()


def sizes(count: int, parts: int) -> list[int]:
    """The sizes of `parts` equal parts (± 1), as `torch.tensor_split` cuts them."""
    return [count // parts + (part < count % parts) for part in range(parts)]


def launched() -> int:
    """How many ranks torchrun started; 1 where it did not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """This process among those that torchrun started with it: over gloo on the CPU, over nccl on GPUs, one for each.

    Raises:
        ConfigError: there is no GPU for this rank.
    """
    if launched() == 1:
        yield ALONE
        return
    if device == "cuda":
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise ConfigError(f"ranks: got one with local number {local} and {there} CUDA devices, accepted: one each")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    yield Ranks(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()  # not after an error: the others may wait in an operation that never ends
