"""Put a method in place of a model's activation modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import nn

from dropact.methods import DropActivation, RandomizedReLU
from dropact.methods._activation import ELEMENTWISE_MODULES
from dropact.surgery._walk import Decision, replace_modules
from dropact.surgery.receipt import Receipt, census

SITES = (*ELEMENTWISE_MODULES, DropActivation, RandomizedReLU)


@runtime_checkable
class Method(Protocol):
    """A layer that can say what it would be in place of a given activation; ``None``: it cannot replace that one."""

    def replacement_for(self, activation: nn.Module) -> nn.Module | None: ...


def convert_(
    model: nn.Module,
    method: Method | Callable[[nn.Module], nn.Module | None],
    where: Callable[[str, nn.Module], bool] = lambda name, module: True,
) -> Receipt:
    """Replace the activation modules of ``model``, in place.

    >>> import dropact
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.GELU())
    >>> receipt = dropact.convert_(model, dropact.DropActivation(drop_prob=0.05))
    >>> model[3]
    DropActivation(drop_prob=0.05, activation=gelu)

    Each site keeps the activation that stands there (a GELU becomes Drop-Activation of GELU), its ``inplace`` and
    ``training`` flags, device and hooks; a module shared by several parents stays one shared module. Parameters,
    optimisers and ``state_dict`` keys stay as they are. Converting twice with the same method changes nothing;
    another method or rate replaces the first.

    Activations that the model calls as functions (``F.relu(x)``) are not modules and are not reached.

    Args:
        model: any module but a bare activation, which has no parent to be replaced in.
        method: a layer with the settings wanted, ``DropActivation(...)`` or ``RandomizedReLU(...)``, which is copied
            to each site; or a function from the activation module to its replacement, ``None`` to leave it. With a
            function, converting once or twice is the function's own affair.
        where: called with each site's dotted name and module; False leaves the site as it is.

    Returns:
        A :class:`Receipt`: what changed, what was left and why, and ``undo()``.

    Raises:
        TypeError: ``method`` is neither, or a class instead of a layer.
        ValueError: no site was found; the message says what was looked for and what the model has.
    """
    replacement_for = _replacement(method)
    if isinstance(model, SITES):
        raise ValueError(
            f"the model is itself an activation, {type(model).__name__}, with no parent to replace it in: "
            "use the method's layer directly, or wrap the model in nn.Sequential"
        )

    def decide(name: str, module: nn.Module) -> Decision:
        if not isinstance(module, SITES):
            return None
        if not where(name, module):
            return "where(name, module) is false"
        after = replacement_for(module)
        if after is module:
            return ALREADY
        return after if after is not None else "the method does not replace this activation"

    receipt = replace_modules(model, decide)
    if not receipt.changes and not any(skip.reason == ALREADY for skip in receipt.skipped):
        looked_for = ", ".join(cls.__name__ for cls in SITES)
        left = "".join(f"; {skip.name}: {skip.reason}" for skip in receipt.skipped)
        raise ValueError(
            f"no activation was converted. Looked for modules of the classes {looked_for}; the model has "
            f"{census(model)}{left}. Activations called as functions (F.relu) are not modules and are not reached"
        )
    return receipt


ALREADY = "already so"


def _replacement(method: object) -> Callable[[nn.Module], nn.Module | None]:
    if not isinstance(method, type):
        if isinstance(method, Method):
            return method.replacement_for
        if callable(method) and not isinstance(method, nn.Module):
            return method
    what = f"the class {method.__name__}" if isinstance(method, type) else repr(method)
    raise TypeError(
        "method must be a layer such as dropact.DropActivation(drop_prob=0.05) or dropact.RandomizedReLU(), or a "
        f"function from an activation module to its replacement, got {what}"
    )
