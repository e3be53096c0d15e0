"""Replace trained methods by stock layers that compute the same in evaluation."""

from __future__ import annotations

import copy
from typing import cast

from torch import nn

from dropact.methods._activation import Method, is_method
from dropact.surgery._fused import stock_class
from dropact.surgery._refuse import refuse_wrapped
from dropact.surgery._rewrite import rewriting_of
from dropact.surgery._steps import Child, Class, Step
from dropact.surgery._table import one_line
from dropact.surgery.receipt import Change, Receipt


def fold_(model: nn.Module) -> Receipt:
    """Put stock layers in place of dropact's, in place.

    >>> import dropact
    >>> model = nn.Sequential(nn.Linear(2, 2), dropact.DropActivation(0.05))
    >>> receipt = dropact.fold_(model)
    >>> model[1]
    LeakyReLU(negative_slope=0.05)

    Drop-Activation of ReLU becomes ``nn.LeakyReLU(drop_prob)``, RReLU ``nn.LeakyReLU((lower + upper) / 2)``;
    Drop-Activation of another activation and AID become a ``torch.fx.GraphModule`` of stock operations, StochA a ReLU;
    GAAF and surrogate gradients become the activation itself, a BatchNorm of ``fuse_`` torch's own. The folded model's
    output is that of the model in eval mode, in train mode as well (BatchNorm and Dropout aside, which keep their own).

    Where ``convert_`` made several layers of one module and they are still equal, they become one again. Where it
    edited calls of functions, those stay edited: such a model needs dropact to be unpickled as a whole, while its
    ``state_dict``, ``torch.export`` and ONNX do not.

    Returns:
        A :class:`Receipt` with ``undo()``; empty if there was nothing of dropact's in the model.

    Raises:
        TypeError: a scripted, compiled or wrapped model.
        ValueError: the model is itself such a layer, with no parent to replace it in.
    """
    refuse_wrapped(model, "fold_")
    if is_method(model):
        raise ValueError(
            f"the model is itself a {type(model).__name__}, with no parent to replace it in: use its .folded(), or "
            "wrap it in nn.Sequential"
        )
    folded: dict[int, nn.Module] = {}
    changes: list[Change] = []
    steps: list[Step] = []
    for name, owner in list(model.named_modules()):
        base, twins = _mergeable(owner)
        for leaf, child in owner._modules.items():
            one = owner._modules[twins.get(leaf, leaf)]
            if not is_method(child) or not is_method(one):
                continue
            if id(one) not in folded:
                folded[id(one)] = cast(Method, one).folded()
            changes.append(Change(f"{name}.{leaf}".lstrip("."), child, folded[id(one)]))
            steps.append(Child(name, leaf, child, None if leaf in twins else folded[id(one)], like=child))
        if base is not None:
            steps.append(Class(name, type(owner), base))
        if (stock := stock_class(owner)) is not None:
            changes.append(Change(name, copy.copy(owner), owner))
            steps.append(Class(name, type(owner), stock))
    receipt = Receipt(model, tuple(changes), (), tuple(steps))
    receipt.apply()
    return receipt


def _mergeable(owner: nn.Module) -> tuple[type[nn.Module] | None, dict[str, str]]:
    """The class and the twins of a module whose edits did no more than make one layer several, still equal ones."""
    found = rewriting_of(owner)
    if found is None:
        return None, {}
    base, rewriting = found
    twins = {}
    for child, twin_of in rewriting.children:
        one, other = owner._modules.get(twin_of or ""), owner._modules.get(child)
        if not (is_method(one) and type(one) is type(other) and one_line(one) == one_line(other)):
            return None, {}
        twins[child] = twin_of or ""
    return base, twins
