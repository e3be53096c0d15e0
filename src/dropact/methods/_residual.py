"""The sum of a shortcut and a residual branch that is left out at random: draws, and what is computed of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from dropact._arguments import check_choice, check_number, check_probability
from dropact._random import as_seed, check_seed, chosen_on_host, is_chosen, random_words
from dropact._sharding import is_sharded, of_parts, part_of, replicated, whole_values
from dropact.kernels import forward_mode
from dropact.methods._owners import parameters_of, waits_for_ranks
from dropact.methods._rows import AllAndSome, Alone, SomeAdded, add_rows, select_rows
from dropact.methods._shared import SharedSeeds

MODES = ("batch", "row", "subset")
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

    @property
    def by_row(self) -> bool:
        return self.mode != "batch"

    def training_factor(self, drop_prob: float | Tensor, rows: int) -> float | Tensor:
        if self.scaling == "test":
            return self.residual_scale
        if self.mode == "subset":
            return self.residual_scale * rows / max(1, subset_size(rows, float(drop_prob)))
        return self.residual_scale / (1 - drop_prob)

    def evaluation_factor(self, drop_prob: float | Tensor) -> float | Tensor:
        return self.residual_scale * (1 - drop_prob) if self.scaling == "test" else self.residual_scale


def check_rate(drop_prob: float | Tensor, scaling: str) -> float | Tensor:
    drop_prob = check_probability(drop_prob, "drop_prob")
    if scaling == "train" and not isinstance(drop_prob, Tensor) and drop_prob == 1:
        raise ValueError("drop_prob must be below 1 with scaling='train', which divides by 1 - drop_prob, got 1.0")
    return drop_prob


def check_shape(mask: Tensor, x: Tensor, how: How, drop_prob: float | Tensor) -> None:
    rows = _row_count(x, how)
    if tuple(mask.shape) != (shape := (rows,) if how.by_row else ()):
        raise ValueError(f"mask must have the shape {shape} in mode {how.mode!r}, got {tuple(mask.shape)}")
    if how.mode == "subset":
        kept, size = int((~mask).sum()), subset_size(rows, float(drop_prob))
        if kept != size:
            raise ValueError(
                f"mask must keep {size} of {rows} rows in mode 'subset' at drop_prob={float(drop_prob):g}, got one "
                f"that keeps {kept}"
            )


def _row_count(x: Tensor, how: How) -> int:
    if not how.by_row:
        return 1
    if not x.dim():
        raise ValueError(f"mode {how.mode!r} needs a tensor with a first dimension of samples, got one of shape ()")
    return x.shape[0]


def subset_size(rows: int, drop_prob: float) -> int:
    """How many of the rows mode "subset" keeps.

    >>> subset_size(128, 0.25), subset_size(5, 0.3), subset_size(4, 1.0), subset_size(0, 0.5)
    (96, 4, 1, 0)
    """
    # Rounded in two steps: a rate of 0.3 is below it in binary, and would make 3 of 3.5.
    return min(rows, max(1, round(round((1 - drop_prob) * rows, 6))))


def _words(x: Tensor, rows: int, seed: int | Tensor | None) -> Tensor:
    return random_words(as_seed(seed, x), rows)


def draw_mask(x: Tensor, drop_prob: float | Tensor, how: How, seed: int | Tensor | None) -> Tensor:
    """True where dropped: 0-d, or one for each row."""
    rows = _row_count(x, how)
    words = _words(x, rows, seed)
    if how.mode == "subset":  # the same rows as draw_subset's: no two words are equal
        size = subset_size(rows, float(drop_prob))
        return words < words.topk(size).values.min() if size else words < 0
    chosen = is_chosen(words, drop_prob)
    return chosen if how.by_row else chosen[0]


def draw_subset(x: Tensor, size: int, seed: int | Tensor | None) -> Tensor:
    """The rows with the largest words, in order: nobody on the host needs to know which, as their number is fixed."""
    return _words(x, x.shape[0], seed).topk(size).indices.sort().values


def _survivors(x: Tensor, drop_prob: float | Tensor, how: How, seed: int | Tensor | None) -> Tensor:
    """Those of ``draw_mask`` on the host, as the rows that are kept; in mode "batch", where all are one, 0 or none."""
    drawn = int(as_seed(seed, _HOST).item()) if seed is None or isinstance(seed, Tensor) else check_seed(seed)
    count = _row_count(x, how)
    dropped = set(chosen_on_host(drawn, count, float(drop_prob)))
    return torch.tensor([row for row in range(count) if row not in dropped], dtype=torch.int64)


def _kept(
    x: Tensor, size: int | None, drop_prob: float | Tensor, how: How, seed: Seed, owners: Iterable[object]
) -> tuple[Tensor, bool]:
    shared = isinstance(seed, SharedSeeds)
    drawn = seed.next() if isinstance(seed, SharedSeeds) else seed
    if size is not None:
        return draw_subset(x, size, drawn), False
    waits = waits_for_ranks(owners) if 0 < float(drop_prob) < 1 else None
    if waits is not None and not shared and (how.mode == "batch" or waits[1]):
        or_else = "" if waits[1] else ", or mode='subset'"
        raise RuntimeError(
            f"{waits[0]} in the branch communicates, and ranks that decide for themselves would wait for each other "
            f"for ever: give shared= a number, the same on all ranks{or_else}"
        )
    return _survivors(x, drop_prob, how, drawn), shared or waits is not None


_untraced: Callable[..., tuple[Tensor, bool]] | None = None


def draw_kept(
    x: Tensor, size: int | None, drop_prob: float | Tensor, how: How, seed: Seed, owners: Iterable[object]
) -> tuple[Tensor, bool]:
    """The rows that are kept, ``size`` of them if their number is fixed; and whether other ranks, with other rows or
    another number of them, wait for the branch to be called.

    No compiler looks into what Python decides: it would follow its integers through the hash.
    """
    global _untraced
    if size is not None and not isinstance(seed, SharedSeeds):
        return draw_subset(x, size, seed), False
    if not torch.compiler.is_compiling():
        return _kept(x, size, drop_prob, how, seed, owners)
    if _untraced is None:  # here, where the compiler is loaded already: that takes a second
        _untraced = torch.compiler.disable(_kept)
    return _untraced(x, size, drop_prob, how, seed, owners)


def times(y: Tensor, factor: float | Tensor) -> Tensor:
    return y if isinstance(factor, float) and factor == 1 else y * factor


def add_mean(shortcut: Tensor, y: Tensor, drop_prob: float | Tensor, how: How) -> Tensor:
    return shortcut + times(y, how.evaluation_factor(drop_prob))


def add_masked(shortcut: Tensor, y: Tensor, mask: Tensor, drop_prob: float | Tensor, how: How) -> Tensor:
    keep = replicated((~mask).to(y.dtype), shortcut)  # without the factor, which that dtype would round
    y = times(y, how.training_factor(drop_prob, _row_count(shortcut, how)))
    return shortcut + y * (keep.view(-1, *[1] * (y.dim() - 1)) if how.by_row else keep)


def add_dropped(
    shortcut: Tensor,
    branch: Branch,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    drop_prob: float | Tensor,
    how: How,
    owners: Iterable[object],
    seed: Seed = None,
    mask: Tensor | None = None,
) -> Tensor:
    """What training makes of the sum: of a draw, or of ``mask``. The owners are the modules and parameters that the
    branch uses."""
    if how.compute == "masked":
        if mask is None:
            assert not isinstance(seed, SharedSeeds)  # ResidualSum refuses it
            mask = draw_mask(shortcut, drop_prob, how, seed)
        return add_masked(shortcut, branch(*args, **kwargs), mask, drop_prob, how)
    rows = _row_count(shortcut, how)
    factor = how.training_factor(drop_prob, rows)
    size = subset_size(rows, float(drop_prob)) if how.mode == "subset" else None
    if size == rows:
        return shortcut + times(branch(*args, **kwargs), factor)
    if mask is not None:
        kept, awaited = (~mask).reshape(-1).nonzero().reshape(-1), False
    else:
        kept, awaited = draw_kept(shortcut, size, drop_prob, how, seed, owners)
    if len(kept) == rows:
        return shortcut + times(branch(*args, **kwargs), factor)
    if len(kept):
        return _add_some(shortcut, branch, args, kwargs, kept.to(shortcut.device, non_blocking=True), factor, how)
    if awaited and how.mode == "row":
        nothing = torch.ones(rows, dtype=torch.bool, device=shortcut.device)
        return add_masked(shortcut, branch(*args, **kwargs), nothing, drop_prob, how)
    read: list[Tensor] = []
    if torch.is_grad_enabled():
        given = (value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor))
        read = [t for t in (*parameters_of(owners), *given) if t.requires_grad and t is not shortcut]
    return Alone.apply(shortcut, *read) if read else shortcut.clone()


def _add_some(
    shortcut: Tensor,
    branch: Branch,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    index: Tensor,
    factor: float | Tensor,
    how: How,
) -> Tensor:
    """The branch of some rows, added to them."""
    whole, rows, count = shortcut, shortcut.shape[0], len(index)
    # Tangents go through plain operations: a compiler does not take functions that have a rule for them.
    # So do DTensors, whose parts have a number of rows that the ranks agree about.
    sharded = is_sharded(shortcut)
    recorded = torch.is_grad_enabled() and not sharded and (torch.compiler.is_compiling() or not forward_mode())
    some: Tensor | None = None
    # Mostly the branch and the shortcut are of one tensor, whose gradients can then be added in one pass.
    if recorded and shortcut.requires_grad and any(value is shortcut for value in args):
        shortcut, some = AllAndSome.apply(shortcut, index)

    def selected(value: Any) -> Any:
        if value is whole and some is not None:
            return some
        batched = isinstance(value, Tensor) and value.dim() and value.shape[0] == rows
        return select_rows(value, index) if batched else value

    some_args, some_kwargs = tree_map(selected, (args, kwargs))
    y = branch(*some_args, **some_kwargs)
    if not y.dim() or y.shape[0] != count:
        raise ValueError(
            f"in mode {how.mode!r} the branch must return one row for each that it is given: got {tuple(y.shape)} for "
            f"{count}; mode 'batch' or compute='masked' need no rows"
        )
    dtype, shape = torch.promote_types(shortcut.dtype, y.dtype), torch.broadcast_shapes(shortcut.shape[1:], y.shape[1:])
    shortcut = shortcut.to(dtype).expand(rows, *shape)
    y = times(y, factor).to(dtype).expand(count, *shape)
    if sharded:
        part = part_of(y, whole_values(shortcut))
        return of_parts(shortcut, lambda x: SomeAdded.apply(x, index, part))
    return (SomeAdded.apply if recorded else add_rows)(shortcut, index, y)
