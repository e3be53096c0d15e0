"""Replace trained methods by stock layers that compute the same in evaluation."""

from __future__ import annotations

from typing import cast

from torch import nn

from dropact.methods import ResidualSum, StochasticDepth
from dropact.methods._activation import Method, is_method
from dropact.surgery._refuse import refuse_wrapped
from dropact.surgery._rewrite import rewriting_of
from dropact.surgery._steps import Child, Class, Step, held_as_well
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
    GAAF and surrogate gradients become the activation itself, ``StochasticDepth`` a ``torch.fx.GraphModule`` around its
    branch, which it always adds. The folded model's output is that of the model
    in eval mode, in train mode as well (BatchNorm and Dropout aside, which keep their own).

    Where ``convert_`` made several layers of one module and they are still equal, they become one again; where
    ``add_stochastic_depth_`` edited an addition and evaluation is the plain sum (``scaling="train"``, or nothing was
    dropped), it is that again. Other edits stay, calls of functions and sums with a factor on the branch, which a layer
    ``FixedSum`` computes: such a model needs dropact to be unpickled as a whole, while its ``state_dict``,
    ``torch.export`` and ONNX do not. Layers of others that drop branches stay.

    Returns:
        A :class:`Receipt` with ``undo()``; empty if there was nothing of dropact's in the model.

    Raises:
        TypeError: a scripted, compiled or wrapped model.
        ValueError: the model is itself such a layer, with no parent to replace it in.
    """
    refuse_wrapped(model, "fold_")
    if is_method(model) or isinstance(model, ResidualSum):
        raise ValueError(
            f"the model is itself a {type(model).__name__}, with no parent to replace it in: use its .folded(), or "
            "wrap it in nn.Sequential"
        )
    folds = _Folds()
    changes: list[Change] = []
    steps: list[Step] = []
    for name, owner in list(model.named_modules()):
        if owner is not model and folds.of(owner) is not None:
            continue  # what it holds has gone with it
        base, gone = _undone(owner)
        for leaf, child in owner._modules.items():
            one = owner._modules[gone.get(leaf) or leaf]
            after = None if child is None or one is None else folds.of(one)
            if child is None or after is None:
                continue
            stays = gone.get(leaf, leaf) is None  # the module adds the branch itself, as it did
            changes.append(Change(f"{name}.{leaf}".lstrip("."), child, owner if stays else after))
            steps.append(Child(name, leaf, child, None if leaf in gone else after, like=child))
        if base is not None:
            steps.append(Class(name, type(owner), base))
    receipt = Receipt(model, tuple(changes), (), (*steps, *held_as_well(model, steps)))
    receipt.apply()
    return receipt


class _Folds:
    """What modules of ours become, each once however often it stands in the model."""

    def __init__(self) -> None:
        self._made: dict[int, nn.Module | None] = {}

    def of(self, module: nn.Module) -> nn.Module | None:
        """``None`` where a module stays as it is."""
        if id(module) not in self._made:
            self._made[id(module)] = self._folded(module)
        return self._made[id(module)]

    def _folded(self, module: nn.Module) -> nn.Module | None:
        if is_method(module):
            return cast(Method, module).folded()
        if isinstance(module, ResidualSum):
            return module.folded()
        if not isinstance(module, StochasticDepth) or type(module).forward is not StochasticDepth.forward:
            return None
        if (made := module.folded()) is not None:
            for leaf, child in made._modules.items():
                made._modules[leaf] = child if child is None else self.of(child) or child
        return made  # else its sum is folded where it stands


def _undone(owner: nn.Module) -> tuple[type[nn.Module] | None, dict[str, str | None]]:
    """The class that a module can have back, and the children that go then, each with the one it becomes one with.

    It can where its edits did no more than make one layer several, still equal ones, or let branches be dropped that
    are added as they are in evaluation.
    """
    base: type[nn.Module] | None = None
    gone: dict[str, str | None] = {}
    while (found := rewriting_of(base or type(owner))) is not None:
        before, rewriting = found
        for child, twin_of in rewriting.children:
            one, other = owner._modules.get(twin_of or ""), owner._modules.get(child)
            equal = is_method(one) and type(one) is type(other) and one_line(one) == one_line(other)
            plain = twin_of is None and isinstance(other, ResidualSum) and other.folded().factor == 1
            if not equal and not plain:
                return base, gone
        gone |= dict(rewriting.children)
        base = before
    return base, gone
