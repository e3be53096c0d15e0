"""Who is timed: ours, torch's own, and the mask arithmetic of the paper's authors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropact.functional import aid, drop_activation, gaaf, randomized_relu, stocha
from dropact.methods import AID, GAAF, DropActivation, RandomizedReLU, StochA
from dropact.surgery import convert_

DROP_PROB = 0.05
BASELINE, COPY = "relu", "copy"


def mask_arithmetic(x: Tensor) -> Tensor:
    """Drop-Activation as the authors' repository computes it: a float mask, and both branches for every element.

    >>> x = torch.ones(3)
    >>> mask_arithmetic(x)
    tensor([1., 1., 1.])
    """
    mask = torch.bernoulli(torch.full_like(x, 1 - DROP_PROB))
    return mask * F.relu(x) + (1 - mask) * x


class MaskArithmetic(nn.Module):
    """`mask_arithmetic` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return mask_arithmetic(x)


class _Copy(torch.autograd.Function):
    """The least that an operation can move: forward reads and writes a tensor, and so does backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.empty_like(x).copy_(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.empty_like(grad).copy_(grad)


@dataclass(frozen=True)
class Candidate:
    """One row: how tables call it, the operation, and how a network of ReLUs comes to use it (None: no step)."""

    label: str
    operation: Callable[[Tensor], Tensor]
    convert: Callable[[nn.Module], object] | None = None


# Plain functions rather than partials: a compiler caches by code object.
CANDIDATES: Mapping[str, Candidate] = {
    "relu": Candidate("F.relu", F.relu, lambda network: None),
    COPY: Candidate("copy", _Copy.apply),
    "leaky_relu": Candidate("F.leaky_relu", lambda x: F.leaky_relu(x, DROP_PROB)),
    "rrelu": Candidate(
        "F.rrelu", lambda x: F.rrelu(x, training=True), lambda network: convert_(network, lambda *_: nn.RReLU())
    ),
    "dropout": Candidate("F.dropout", lambda x: F.dropout(x, DROP_PROB)),
    "mask_arithmetic": Candidate(
        "mask arithmetic", mask_arithmetic, lambda network: convert_(network, lambda *_: MaskArithmetic())
    ),
    "drop_activation": Candidate(
        "drop_activation",
        lambda x: drop_activation(x, DROP_PROB),
        lambda network: convert_(network, DropActivation(DROP_PROB)),
    ),
    "randomized_relu": Candidate(
        "randomized_relu", randomized_relu, lambda network: convert_(network, RandomizedReLU())
    ),
    "gaaf": Candidate("gaaf", gaaf, lambda network: convert_(network, GAAF())),
    "aid": Candidate("aid", aid, lambda network: convert_(network, AID())),
    "stocha": Candidate("stocha", stocha, lambda network: convert_(network, StochA())),
    "gelu": Candidate("F.gelu", F.gelu),
    "drop_activation_gelu": Candidate("drop_activation, gelu", lambda x: drop_activation(x, DROP_PROB, "gelu")),
    "silu": Candidate("F.silu", F.silu),
    "drop_activation_silu": Candidate("drop_activation, silu", lambda x: drop_activation(x, DROP_PROB, "silu")),
}
NAMES = tuple(CANDIDATES)


def chosen(only: tuple[str, ...], *, step: bool, copy: bool = False) -> list[str]:
    """The names in the table's order: all or `only` these, those that have a step if `step`, the baseline always.

    The copy is there if `copy`, or if `only` names it.

    >>> chosen(("drop_activation", "gelu"), step=True)
    ['relu', 'drop_activation']
    """
    return [
        name
        for name, candidate in CANDIDATES.items()
        if (name == COPY and copy) or name == BASELINE or name in only or (not only and name != COPY)
        if not (step and candidate.convert is None)
    ]
