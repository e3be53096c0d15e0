"""Replace trained methods by stock layers that compute the same in evaluation."""

from __future__ import annotations

from torch import nn

from dropact.methods import DropActivation, RandomizedReLU
from dropact.surgery._walk import Decision, replace_modules
from dropact.surgery.receipt import Receipt

METHODS = (DropActivation, RandomizedReLU)


def fold_(model: nn.Module) -> Receipt:
    """Put stock layers in place of dropact's, in place: what remains needs torch alone.

    >>> import dropact
    >>> model = nn.Sequential(nn.Linear(2, 2), dropact.DropActivation(0.05))
    >>> receipt = dropact.fold_(model)
    >>> model[1]
    LeakyReLU(negative_slope=0.05)

    Drop-Activation of ReLU becomes ``nn.LeakyReLU(drop_prob)``, RReLU ``nn.LeakyReLU((lower + upper) / 2)``;
    Drop-Activation of another activation becomes a ``torch.fx.GraphModule`` of stock operations. The folded model's
    output is that of the model in eval mode, in train mode as well.

    Returns:
        A :class:`Receipt` with ``undo()``; empty if there was nothing of dropact's in the model.

    Raises:
        ValueError: the model is itself such a layer, with no parent to replace it in.
    """
    if isinstance(model, METHODS):
        raise ValueError(
            f"the model is itself a {type(model).__name__}, with no parent to replace it in: use its .folded(), or "
            "wrap it in nn.Sequential"
        )

    def decide(name: str, module: nn.Module) -> Decision:
        return module.folded() if isinstance(module, METHODS) else None

    return replace_modules(model, decide)
