"""Put stochastic depth into the residual branches of a model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from dropact._arguments import check_choice, check_number
from dropact._random import derived_seed
from dropact.methods import ResidualSum
from dropact.surgery._plan import bring, without_shortcuts
from dropact.surgery._refuse import refuse_shapeless, refuse_wrapped
from dropact.surgery._residuals.branches import Branches, BranchSite, find_branches
from dropact.surgery._residuals.drop_paths import Rate
from dropact.surgery._steps import Attribute, Child, Class, Step, held_as_well
from dropact.surgery._trial import Inputs, arguments, patched, run
from dropact.surgery.receipt import Change, Receipt, warn_of_missed

Survival = float | Sequence[float] | Callable[[int], Sequence[float]]
MakeSum = Callable[[int, float, BranchSite], ResidualSum]  # from a branch's number, survival rate and site


def add_stochastic_depth_(
    model: nn.Module,
    survival: Survival = 0.5,
    *,
    mode: str = "batch",
    scaling: str = "test",
    compute: str = "skip",
    residual_scale: float | str = 1.0,
    shared: int | None = None,
    where: Callable[[str, nn.Module], bool] = lambda name, module: True,
    inputs: Inputs | None = None,
    existing: str = "set",
) -> Receipt:
    """Let the residual branches of ``model`` be left out at random in training, in place.

    >>> import dropact
    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4)
    ...
    ...     def forward(self, x):
    ...         y = self.norm(x)
    ...         y = self.linear(y)
    ...         return x + y
    >>> model = nn.Sequential(Block(), Block())
    >>> receipt = dropact.add_stochastic_depth_(model, [1.0, 0.5])
    >>> [(change.name, change.call, change.after.drop_prob) for change in receipt]
    [('0.residual', 'x + y', 0.0), ('1.residual', 'x + y', 0.5)]
    >>> model[1].residual
    ResidualSum(drop_prob=0.5, mode=batch, scaling=test)
    >>> receipt.undo(); hasattr(model[1], "residual")
    False

    A branch is found where the source of a module adds two values that come from the same one, of which one has passed
    more weights on the way: that is the branch, the other the shortcut, projected or not. The module gets a class of
    its own, whose method has the branch in a function that the new child ``residual`` calls, or does not. So a dropped
    branch costs nothing. Tests of the module's own attributes (``if self.downsample is not None``) are decided as they
    stand now. Parameters and ``state_dict`` keys stay.

    A branch that a module of somebody else's drops already (known by what it does: DropPath of timm, StochasticDepth of
    torchvision, ...) keeps it and gets the rate there: by that layer's own mode and scaling, and computed all the same.
    ``existing="replace"`` skips there as well and sets that layer's rate to 0. Converting again replaces the rates.

    Args:
        model: a plain module.
        survival: probability that a branch is kept: one for all, one for each branch in the model's order or for each
            block that holds some, or a function from their number to such a list
            (``functools.partial(linear_survival, last=0.5)``): of the branches; of the blocks where a layer of somebody
            else's drops several branches of its block by one rate, as in Swin and SegFormer.
        mode, scaling, compute: see :func:`dropact.functional.stochastic_depth`. In modes "row" and "subset" all that a
            branch reads and that has as many rows as the shortcut is cut to the surviving ones.
        residual_scale: number that every branch is multiplied by; "stable" for 1 / sqrt(number of branches).
        shared: ``None``, or a number from which decisions are made that are the same on all ranks; with
            ``compute="skip"`` only.
        where: called with each site's dotted name and module; False leaves it.
        inputs: what to run the model with, in evaluation mode: to order the branches as they are called rather than as
            they stand in the tree, to leave those that are not called, and to check that with nothing dropped the
            model computes what it did. The run leaves no trace.
        existing: "set" or "replace".

    Returns:
        A :class:`Receipt`: every branch with its rate, what was left and why, and ``undo()``.

    Raises:
        TypeError: the model is scripted, compiled or wrapped; ``survival`` is none of these.
        ValueError: no branch was found, or another number of rates than branches; ``residual_scale`` where a branch is
            left to a layer of somebody else's; parameters have no shape yet.
        RuntimeError: the converted model computes something else (see ``inputs``); it is put back.

    Warns:
        UserWarning: branches were seen that cannot be dropped.
    """
    refuse_wrapped(model, "add_stochastic_depth_")
    refuse_shapeless(model)
    check_choice(existing, "existing", ("set", "replace"))
    if isinstance(residual_scale, str):
        check_choice(residual_scale, "residual_scale", ("stable",))
    else:
        check_number(residual_scale, "residual_scale")
    if not callable(survival):
        _check_rates(survival)
    settings = ResidualSum(0.0, mode, scaling, compute, shared=shared)  # refused before anything is changed
    replace = existing == "replace"
    found = find_branches(model, where, replace, None, inputs is not None)
    if inputs is not None and found.sites:
        seen = _called(model, found, replace, inputs)
        found = find_branches(model, where, replace, seen, True)
        found.sites.sort(key=lambda site: list(seen).index(site.name))
    if not found.sites:
        raise ValueError(_nothing(model, found))
    rates = _rates(survival, found)
    depth = len(found.sites)
    scale = 1 / math.sqrt(depth) if residual_scale == "stable" else float(residual_scale)
    if scale != 1 and (foreign := next((s for s in found.sites if s.rate), None)) is not None:
        raise ValueError(
            f"residual_scale={residual_scale!r} cannot be set where a {type(foreign.module).__name__} drops the "
            f"branch, as at {foreign.name!r}: existing='replace' puts a layer of ours there"
        )

    def make(number: int, rate: float, site: BranchSite) -> ResidualSum:
        how = settings._how
        seed = None if shared is None else derived_seed(shared, number)
        return ResidualSum(1 - rate, how.mode, how.scaling, how.compute, residual_scale=scale, shared=seed)

    receipt = _receipt(model, found, rates, replace, make)
    receipt.apply()
    warn_of_missed(found.skipped, "residual branch", "residual branches", "cannot be dropped")
    return receipt


def _check_rates(survival: float | Sequence[float]) -> list[float]:
    if isinstance(survival, str) or not isinstance(survival, Sequence | Tensor | int | float):
        raise TypeError(
            "survival must be a number, a sequence of one for each residual branch, or a function from their number to "
            f"such a sequence, got {survival!r}"
        )
    if isinstance(survival, Tensor):
        survival = survival.tolist()
    values = survival if isinstance(survival, Sequence) else [survival]
    return [check_number(value, "survival", low=0.0, high=1.0) for value in values]


def _rates(survival: Survival, found: Branches) -> list[float]:
    sites = found.sites
    blocks = list(dict.fromkeys(site.owner for site in sites))
    given = survival(len(blocks if found.shared else sites)) if callable(survival) else survival
    rates = _check_rates(given)
    if isinstance(given, int | float):
        return rates * len(sites)
    if len(rates) == len(sites):
        return rates
    if len(rates) == len(blocks):
        of = dict(zip(blocks, rates, strict=True))
        return [of[site.owner] for site in sites]
    names = ", ".join(site.name for site in sites[:4])
    raise ValueError(
        f"survival must have one rate for each of the {len(sites)} residual branches ({names}, ...) or of the "
        f"{len(blocks)} blocks that they stand in, got {len(rates)}"
    )


def _receipt(model: nn.Module, found: Branches, rates: Sequence[float], replace: bool, make: MakeSum) -> Receipt:
    """What happens, and how it is undone; nothing is changed yet."""
    changes: list[Change] = []
    steps: list[Step] = []
    for number, (site, rate) in enumerate(zip(found.sites, rates, strict=True)):
        if site.rate is not None:
            before = copy.deepcopy(site.module)
            attribute = site.rate.attribute
            steps.append(Attribute(site.name, attribute, getattr(site.module, attribute), site.rate.at(rate)))
            changes.append(Change(site.name, before, site.module))
            continue
        layer = make(number, rate, site)
        layer.train(site.module.training)
        bring(layer, (site.module, model))
        if site.residual is None:
            steps.append(Child(site.owner, site.child, site.module, layer, like=site.module))
            changes.append(Change(site.name, site.module, layer))
            continue
        steps.append(Child(site.owner, site.child, None, layer))
        changes.append(Change(site.name, site.module, layer, site.residual.text, site.residual.location))
        drop_path = site.residual.drop_path
        if drop_path is not None and replace:
            steps += _silenced(model, drop_path, found.rates[id(drop_path)], steps)
    for name, module, cls in found.classes:
        steps += [Class(name, type(module), cls), *without_shortcuts(name, module, model)]
    return Receipt(model, tuple(changes), tuple(found.skipped), (*steps, *held_as_well(model, steps)))


def _silenced(model: nn.Module, drop_path: nn.Module, rate: Rate, steps: list[Step]) -> list[Step]:
    name = next(name for name, module in model.named_modules() if module is drop_path)
    if any(isinstance(step, Attribute) and step.owner == name for step in steps):
        return []  # one module for several branches
    return [Attribute(name, rate.attribute, getattr(drop_path, rate.attribute), rate.at(1.0))]


def _called(model: nn.Module, found: Branches, replace: bool, inputs: Inputs) -> dict[str, str]:
    """The names of the sites in the order of their first call, the model being the same as before where all is kept,
    each with the reason why it is no branch, or ""."""
    args, kwargs = arguments(inputs)
    foreign = [site for site in found.sites if site.rate is not None]
    with _evaluating(model):
        plain = _output(model, args, kwargs)
        receipt = _receipt(model, found, [1.0] * len(found.sites), replace, _neutral)
        receipt.apply()
        seen: dict[str, str] = {}
        watched = {change.name: change.after for change in receipt.changes} | {s.name: s.module for s in foreign}
        try:
            with patched([(module, _watching(module, name, seen)) for name, module in watched.items()]):
                converted = _output(model, args, kwargs)
        finally:
            receipt.undo()
    for one, other in zip(plain, converted, strict=True):
        if not torch.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise RuntimeError(
                "with nothing dropped the converted model does not compute what it did (largest difference "
                f"{float((one - other).abs().max()):.3g}); nothing was changed. Leave branches out by "
                "where= to see which it is"
            )
    return seen


def _watching(module: nn.Module, name: str, seen: dict[str, str]) -> Callable[..., Any]:
    plain = module.forward

    def passed(*args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        seen.setdefault(name, "")
        return output

    def added(
        shortcut: Any, branch: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, owners: Any = ()
    ) -> Any:
        y = branch(*args, **(kwargs or {}))
        seen[name] = seen.get(name) or _why_no_branch(shortcut, y)
        # Layers that stand there already have a rate and a scale of their own, as the model had before.
        return shortcut + y if seen[name] else plain(shortcut, lambda *_, **__: y, args, kwargs, owners)

    return added if isinstance(module, ResidualSum) else passed


def _why_no_branch(shortcut: object, branch: object) -> str:
    if not all(isinstance(t, Tensor) and t.is_floating_point() for t in (shortcut, branch)):
        return "what it adds are no floating tensors"
    assert isinstance(shortcut, Tensor)
    assert isinstance(branch, Tensor)
    if shortcut.shape[:1] != branch.shape[:1] or torch.broadcast_shapes(shortcut.shape, branch.shape) != shortcut.shape:
        return f"the shapes {tuple(shortcut.shape)} and {tuple(branch.shape)} are added, as no residual block does"
    return ""


def _neutral(number: int, rate: float, site: BranchSite) -> ResidualSum:
    """What changes nothing: the sum itself, or such as stands there already."""
    return copy.deepcopy(site.module) if isinstance(site.module, ResidualSum) else ResidualSum(0.0)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, training in flags:
            module.training = training


def _output(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    output = run(model, args, kwargs, seed=0)
    return [t for t in tree_flatten(output)[0] if isinstance(t, Tensor) and t.is_floating_point()]


def _nothing(model: nn.Module, found: Branches) -> str:
    names: dict[str, list[str]] = {}
    for skip in found.skipped:
        names.setdefault(skip.reason, []).append(skip.name)
    left = "".join(
        f"; {of[0]}{f' and {len(of) - 1} more' if len(of) > 1 else ''}: {reason}" for reason, of in names.items()
    )
    return (
        "no residual branch was found. Looked for sums of two values that come from the same one, in the source of "
        f"each module's forward, and for modules that drop a branch already, in a {type(model).__name__}{left}"
    )
