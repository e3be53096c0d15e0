"""The sum of a shortcut and a residual branch that is left out at random: draws, and what is computed of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from dropact._arguments import check_choice, check_number, check_probability
from dropact._random import as_seed, check_seed, chosen_on_host, is_chosen, random_bits_like
from dropact.methods._rows import AllAndSome, Alone, add_rows, select_rows
from dropact.methods._shared import SharedSeeds

MODES = ("batch", "row")
SCALINGS = ("test", "train")
COMPUTES = ("skip", "masked")

Branch = Callable[..., Tensor]
Seed = int | Tensor | SharedSeeds | None
_HOST = torch.empty(0, device="cpu")  # decisions that Python acts on are drawn where it can read them without waiting


@dataclass(frozen=True)
class How:
    mode: str
    scaling: str
    compute: str
    residual_scale: float

    def __post_init__(self) -> None:
        check_choice(self.mode, "mode", MODES)
        check_choice(self.scaling, "scaling", SCALINGS)
        check_choice(self.compute, "compute", COMPUTES)
        check_number(self.residual_scale, "residual_scale")

    def training_factor(self, drop_prob: float | Tensor) -> float | Tensor:
        return self.residual_scale if self.scaling == "test" else self.residual_scale / (1 - drop_prob)

    def evaluation_factor(self, drop_prob: float | Tensor) -> float | Tensor:
        return self.residual_scale * (1 - drop_prob) if self.scaling == "test" else self.residual_scale


def check_rate(drop_prob: float | Tensor, scaling: str) -> float | Tensor:
    drop_prob = check_probability(drop_prob, "drop_prob")
    if scaling == "train" and not isinstance(drop_prob, Tensor) and drop_prob == 1:
        raise ValueError("drop_prob must be below 1 with scaling='train', which divides by 1 - drop_prob, got 1.0")
    return drop_prob


def check_shape(mask: Tensor, x: Tensor, mode: str) -> None:
    if tuple(mask.shape) != (shape := (_row_count(x),) if mode == "row" else ()):
        raise ValueError(f"mask must have the shape {shape} in mode {mode!r}, got {tuple(mask.shape)}")


def _row_count(x: Tensor) -> int:
    if not x.dim():
        raise ValueError("mode 'row' needs a tensor with a first dimension of samples, got one of shape ()")
    return x.shape[0]


def draw_mask(x: Tensor, drop_prob: float | Tensor, how: How, seed: int | Tensor | None) -> Tensor:
    """True where dropped: 0-d, or one for each row."""
    size = _row_count(x) if how.mode == "row" else 1
    chosen = is_chosen(random_bits_like(as_seed(seed, x), torch.empty(size, device=x.device)), drop_prob)
    return chosen if how.mode == "row" else chosen[0]


def _survivors(x: Tensor, drop_prob: float | Tensor, how: How, seed: Seed) -> Tensor:
    """The same on the host, as the rows that are kept; in mode "batch", where all are one, 0 or none."""
    if isinstance(seed, SharedSeeds):
        seed = seed.next()
    drawn = int(as_seed(seed, _HOST).item()) if seed is None or isinstance(seed, Tensor) else check_seed(seed)
    count = _row_count(x) if how.mode == "row" else 1
    dropped = set(chosen_on_host(drawn, count, float(drop_prob)))
    return torch.tensor([row for row in range(count) if row not in dropped], dtype=torch.int64)


_untraced: Callable[..., Tensor] | None = None


def draw_survivors(x: Tensor, drop_prob: float | Tensor, how: How, seed: Seed) -> Tensor:
    """``_survivors``, into which no compiler looks: it would follow Python's integers through the hash."""
    global _untraced
    if not torch.compiler.is_compiling():
        return _survivors(x, drop_prob, how, seed)
    if _untraced is None:  # here, where the compiler is loaded already: that takes a second
        _untraced = torch.compiler.disable(_survivors)
    return _untraced(x, drop_prob, how, seed)


def times(y: Tensor, factor: float | Tensor) -> Tensor:
    return y if isinstance(factor, float) and factor == 1 else y * factor


def add_mean(shortcut: Tensor, y: Tensor, drop_prob: float | Tensor, how: How) -> Tensor:
    return shortcut + times(y, how.evaluation_factor(drop_prob))


def add_masked(shortcut: Tensor, y: Tensor, mask: Tensor, drop_prob: float | Tensor, how: How) -> Tensor:
    keep = (~mask).to(y.dtype)  # without the factor, which that dtype would round
    y = times(y, how.training_factor(drop_prob))
    return shortcut + y * (keep.view(-1, *[1] * (y.dim() - 1)) if how.mode == "row" else keep)


def add_surviving(
    shortcut: Tensor,
    branch: Branch,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kept: Tensor,
    drop_prob: float | Tensor,
    how: How,
    parameters: Callable[[], Iterable[Tensor]],
) -> Tensor:
    count, rows = len(kept), _row_count(shortcut) if how.mode == "row" else 1
    if not count:
        read: list[Tensor] = []
        if torch.is_grad_enabled():
            given = (value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor))
            read = [t for t in (*parameters(), *given) if t.requires_grad and t is not shortcut]
        return Alone.apply(shortcut, *read) if read else shortcut.clone()
    factor = how.training_factor(drop_prob)
    if count == rows:
        return shortcut + times(branch(*args, **kwargs), factor)
    index = kept.to(shortcut.device, non_blocking=True)

    whole = shortcut
    # Mostly the branch and the shortcut are of one tensor, whose gradients can then be added in one pass.
    both = any(value is shortcut for value in args)
    some: Tensor | None = None
    if both and torch.is_grad_enabled() and shortcut.requires_grad:
        shortcut, some = AllAndSome.apply(shortcut, index)

    def surviving(value: Any) -> Any:
        if value is whole and some is not None:
            return some
        batched = isinstance(value, Tensor) and value.dim() and value.shape[0] == rows
        return select_rows(value, index) if batched else value

    some_args, some_kwargs = tree_map(surviving, (args, kwargs))
    y = branch(*some_args, **some_kwargs)
    if not y.dim() or y.shape[0] != count:
        raise ValueError(
            f"in mode 'row' the branch must return one row for each that it is given: got {tuple(y.shape)} for "
            f"{count}; mode 'batch' or compute='masked' need no rows"
        )
    dtype, shape = torch.promote_types(shortcut.dtype, y.dtype), torch.broadcast_shapes(shortcut.shape[1:], y.shape[1:])
    shortcut = shortcut.to(dtype).expand(rows, *shape)
    y = times(y, factor).to(dtype).expand(count, *shape)
    return add_rows(shortcut, index, y)
