"""Seeds that all ranks of a distributed run have in common, without communication."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dropact._random import as_seed, derived_seed, draw_seed

_REMEMBERED = 256  # forward passes whose recomputation may still come
_LIKE = torch.empty(0, device="cpu")


class SharedSeeds:
    """The n-th seed is a function of ``base`` and n alone.

    >>> a, b = SharedSeeds(7), SharedSeeds(7)
    >>> (a.next(), a.next()) == (b.next(), b.next())
    True

    It depends on nothing that a rank has of its own. A forward pass that is computed again, under activation
    checkpointing, is one within a backward pass, and gets the seed of the first time: it is known by the state that
    torch's default generator was put back to, of which one seed is drawn here and remembered.

    Attributes:
        base: the number given.
        count: how many seeds there were.
    """

    def __init__(self, base: int) -> None:
        as_seed(base, _LIKE)
        self.base, self.count = base, 0
        self._numbers: dict[int, int] = {}

    def next(self) -> int:
        drawn = int(draw_seed(_LIKE))
        if torch._C._current_graph_task_id() < 0:  # not within a backward pass
            self._numbers.pop(drawn, None)  # a generator that was seeded again comes by here again
            self._numbers[drawn] = self.count
            self.count += 1
            if len(self._numbers) > _REMEMBERED:
                del self._numbers[next(iter(self._numbers))]
        elif drawn not in self._numbers:
            raise RuntimeError(
                "a branch with shared decisions is computed again in a backward pass, with another state of torch's "
                "default generator than at first, so that nobody knows which decision to take again: "
                "checkpoint(preserve_rng_state=True)"
            )
        return derived_seed(self.base, self._numbers[drawn])


@contextmanager
def no_shared_seed_taken(model: nn.Module) -> Iterator[None]:
    """Forward passes in here, which other ranks may not make, take none of the seeds that the ranks have in common."""
    held = [
        (seeds, seeds.count, dict(seeds._numbers))
        for module in model.modules()
        if isinstance(seeds := vars(module).get("shared"), SharedSeeds)
    ]
    try:
        yield
    finally:
        for seeds, count, numbers in held:
            seeds.count, seeds._numbers = count, numbers
