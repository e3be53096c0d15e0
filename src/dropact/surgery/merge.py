"""Multiply what has become linear: fewer layers, the same outputs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dropact._arguments import check_choice
from dropact.surgery._merging.affine import CannotMerge
from dropact.surgery._merging.chains import Chain, Decide, Found, chains, rebuilt, shapes
from dropact.surgery._refuse import refuse_shapeless, refuse_wrapped
from dropact.surgery._steps import Child, Step, held_as_well, make
from dropact.surgery._trial import Inputs, arguments, run
from dropact.surgery.receipt import Change, Receipt, Skip

BORDERS = ("exact", "move")
_ROUNDS, _SECONDS = 7, 0.05


def merge_(
    model: nn.Module, inputs: Inputs | None = None, *, border: str = "exact", only_where_faster: bool = True
) -> Receipt:
    """Put one stock layer in place of neighbours that are linear together, in place.

    >>> import dropact
    >>> model = nn.Sequential(nn.Linear(8, 64), dropact.DropActivation(1.0), nn.Linear(64, 8)).eval()
    >>> receipt = dropact.merge_(model)
    >>> receipt.changes[0].location
    '0 · 2'
    >>> model
    Sequential(
      (0): Linear(in_features=8, out_features=8, bias=True)
      (1): Identity()
      (2): Identity()
    )

    Merged are fully connected layers, convolutions and BatchNorm in evaluation, one behind the other; a nonlinearity
    that is always dropped (``drop_prob`` 1), a Dropout of rate 0 and an identity between them do not matter. So are two
    ways from one place to a sum, one of which may be the shortcut: a residual block whose inside is linear. Kernels
    grow, strides multiply, groups stay as far as both have them. The model's own code is kept, with identities where
    layers were; a block whose sum went becomes an ``nn.Sequential``, or a ``torch.fx.GraphModule`` where it is more.

    Products are exact. A convolution that pads with zeros, behind another of more than one pixel or with a bias, is
    none at the border, and is refused; with ``border="move"`` its padding is done before the first instead, which
    changes what the model computes near the border: fine-tune behind it. With ``inputs`` the receipt says by how much
    at most.

    Args:
        model: to be merged as it is in evaluation.
        inputs: what to call the model with: a tensor, a tuple of positional or a mapping of keyword arguments. With
            them the clock decides which merge is faster, else the number of multiply-adds.
        border: "exact" or "move".
        only_where_faster: leave layers apart where one would be slower than they are. A merged kernel may cost more.

    Returns:
        A :class:`Receipt` with ``undo()``, which names the neighbours left apart and why.

    Raises:
        TypeError: a scripted, compiled or wrapped model.
        ValueError: an unknown ``border``, or ``torch.fx`` cannot follow the model.
    """
    refuse_wrapped(model, "merge_")
    refuse_shapeless(model)
    check_choice(border, "border", BORDERS)
    given = None if inputs is None else arguments(inputs)
    before = None if given is None else _output(model, given)
    seen = {} if given is None else shapes(model, *given)
    run = _Merging(model, seen, border == "move", only_where_faster)
    try:
        run.sums()
        run.products()
    except CannotMerge as error:
        raise ValueError(str(error)) from None
    finally:
        make(model, tuple(run.steps), forward=False)
    moved = any(chain.moved for chain in run.made)
    receipt = Receipt(model, tuple(run.changes), tuple(run.skips()), tuple(run.steps))
    receipt.apply()
    if moved and given is not None and before is not None:
        after = _output(model, given)
        difference = max((float((a - b).abs().max()) for a, b in zip(before, after, strict=True)), default=0.0)
        said = f"padding was moved: outputs differ by at most {difference:.3g} on the inputs given"
        receipt = replace(receipt, notes=(said,))
    return receipt


class _Merging:
    """The merges of one model, made one after the other so that each sees those before it."""

    def __init__(self, model: nn.Module, seen: dict[str, Tensor], move: bool, only_where_faster: bool) -> None:
        self.model, self.move = model, move
        self.changes: list[Change] = []
        self.steps: list[Step] = []
        self.made: list[Chain] = []
        self._refused: dict[str, str] = {}
        self._fresh: list[str] = []  # blocks that are new as a whole: what changes in them needs no step of its own
        self._seen, self._decides = seen, only_where_faster

    def sums(self) -> None:
        """Blocks whose residual sum, or other sum of two ways, is one layer."""
        for name, module in list(self.model.named_modules()):
            if not name or isinstance(module, nn.Sequential) or not list(module.children()):
                continue
            try:
                found = chains(module, self._decide(f"{name}."), sums=True, move=self.move)
            except CannotMerge:
                continue
            if any(chain.sums for chain in found.chains.values()):
                self._note(found, f"{name}.")
                self._replace(name, module, rebuilt(module, found), next(c for c in found.chains.values() if c.sums))
                self._fresh.append(f"{name}.")

    def products(self) -> None:
        """Layers one behind the other, wherever in the model they stand."""
        found = chains(self.model, self._decide(""), sums=False, move=self.move)
        self._note(found, "")
        for chain in found.chains.values():
            if not chain.is_merged:
                continue
            names = [part.name for part in chain.parts]
            place = next((part.name for part in chain.parts if not part.affine.every), names[0])
            self._replace(place, self.model.get_submodule(place), chain.affine.layer(), chain)
            for name in (*names, *chain.through):
                old = self.model.get_submodule(name)
                if name != place and type(old) is not nn.Identity:
                    self._put(name, old, nn.Identity())

    def skips(self) -> list[Skip]:
        """The neighbours left apart."""
        left = []
        for name, reason in self._refused.items():
            if any(name.startswith(fresh) for fresh in self._fresh):
                continue
            left.append(Skip(name, self.model.get_submodule(name), reason))
        return left

    def _note(self, found: Found, prefix: str) -> None:
        self.made += [chain for chain in found.chains.values() if chain.is_merged]
        self._refused |= {prefix + name: reason for name, reason in found.refused.items()}

    def _replace(self, name: str, old: nn.Module, new: nn.Module, chain: Chain) -> None:
        self.changes.append(Change(name, old, new, location=chain.text))
        self._put(name, old, new)

    def _put(self, name: str, old: nn.Module, new: nn.Module) -> None:
        owner, _, leaf = name.rpartition(".")
        step = Child(owner, leaf, old, new, like=old)
        steps = (step, *held_as_well(self.model, [step]))
        if not any(name.startswith(fresh) for fresh in self._fresh):
            self.steps += steps
        make(self.model, steps, forward=True)

    def _decide(self, prefix: str) -> Decide:
        if not self._decides:
            return lambda merged, apart: ""
        return lambda merged, apart: why_not(merged, apart, self._seen.get(prefix + merged.parts[0].name))


def why_not(merged: Chain, apart: tuple[Chain, ...], example: Tensor | None) -> str:
    """Why one layer is no better than these: by the clock where there is an input of that shape, else by counting."""
    if merged.affine.dimensions == 0 or example is None or all(part.affine.every for part in apart[-1].parts):
        one, more = _macs(merged), sum(_macs(chain) * _positions(chain, apart) for chain in apart)
        return "" if one <= more else f"one layer takes {one / more:.2f} times their multiply-adds"
    layers = [chain.affine.layer() for chain in apart]
    whole = merged.affine.layer()

    def separate() -> Tensor:
        if merged.sums:
            y = layers[0](example)
            return y + (layers[1](example) if len(layers) > 1 else example)
        y = example
        for layer in layers:
            y = layer(y)
        return y

    ratio = _ratio(lambda: whole(example), separate)
    return "" if ratio < 1 else f"one layer takes {ratio:.2f} times their time"


def _macs(chain: Chain) -> float:
    return float(chain.affine.weight.numel())


def _positions(chain: Chain, apart: tuple[Chain, ...]) -> float:
    """How many of the chain's outputs there are for one of the last layer's."""
    if chain is apart[-1] or chain.source is apart[-1].source:
        return 1.0
    number = 1.0
    for stride in apart[-1].affine.stride:
        number *= stride
    return number


@torch.no_grad()
def _ratio(one: Callable[[], Any], other: Callable[[], Any]) -> float:
    """Median of the ratios of two times, taken in turns."""
    began = time.perf_counter()
    one(), other()
    repeats = max(1, int(_SECONDS / _ROUNDS / max(time.perf_counter() - began, 1e-7)))

    def seconds(call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return time.perf_counter() - start

    return statistics.median(seconds(one) / seconds(other) for _ in range(_ROUNDS))


def _output(model: nn.Module, given: tuple[tuple[Any, ...], dict[str, Any]]) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(run(model, *given)) if isinstance(leaf, Tensor)]
