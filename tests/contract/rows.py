"""One row per method: what the laws need to know of it. A method without a row fails `test_every_method_has_a_row`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dropact
from dropact.functional import (
    aid,
    drop_activation,
    gaaf,
    randomized_relu,
    stocha,
    stochastic_activation,
    stochastic_depth,
    surrogate_gradient,
)


@dataclass(frozen=True)
class Row:
    """``mean`` and ``variance`` are of one training output given ``x``, written down independently of the library.

    ``name`` begins with that of the function in ``dropact.functional``.

    A method that draws nothing has, in place of a random output, a ``slope``: the derivative that its backward uses in
    training, which is not that of its output.
    """

    name: str
    layer: Callable[..., nn.Module]  # accepts inplace=
    call: Callable[..., Tensor]  # (x, *, training=, seed=)
    stock: Callable[[], nn.Module]  # what the layer stands in for
    mean: Callable[[Tensor], Tensor]
    variance: Callable[[Tensor], Tensor]
    rounds: bool  # whether a training output may be anything but x or 0, and so be rounded to the dtype
    slope: Callable[[Tensor], Tensor] | None = None
    evaluation: Callable[[Tensor], Tensor] | None = None  # what evaluation computes, where that is not the mean
    exempt: frozenset[str] = frozenset()  # laws that say nothing of it

    def evaluated(self, x: Tensor) -> Tensor:
        return (self.evaluation or self.mean)(x)


def drop_row(drop_prob: float, activation: str, stock: type[nn.Module], f: Callable[[Tensor], Tensor]) -> Row:
    return Row(
        name=f"drop_activation-{activation}-{drop_prob}",
        layer=lambda inplace=False: dropact.DropActivation(drop_prob, activation, inplace=inplace),
        call=lambda x, **kw: drop_activation(x, drop_prob, activation, **kw),
        stock=stock,
        mean=lambda x: drop_prob * x + (1 - drop_prob) * f(x),
        variance=lambda x: drop_prob * (1 - drop_prob) * (x - f(x)) ** 2,
        rounds=activation != "relu",
    )


def slope_row(
    name: str,
    layer: Callable[..., nn.Module],
    call: Callable[..., Tensor],
    stock: type[nn.Module],
    f: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
) -> Row:
    return Row(
        name=name,
        layer=layer,
        call=lambda x, seed=None, **kw: call(x, **kw),
        stock=stock,
        mean=f,
        variance=torch.zeros_like,
        rounds=stock is not nn.ReLU,
        slope=slope,
    )


def bump(x: Tensor) -> Tensor:
    return 1 / (1 + x**2)


def normal_density(x: Tensor) -> Tensor:
    return torch.exp(-(x**2) / 2) / (2 * torch.pi) ** 0.5


# One draw for a row of the batch, whatever its place in memory; nothing to be done in place.
OF_ROWS = frozenset({"mask_follows_storage_order", "shape_dtype_and_layout_are_kept", "inplace_equals_out_of_place"})
# Decisions that Python acts on.
ON_HOST = frozenset({"vmap_batches", "vmap_draws_as_it_is_told", "compiles_without_graph_break", "exports"})


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def depth_row(drop_prob: float, compute: str, exempt: frozenset[str]) -> Row:
    def call(x: Tensor, **kw: object) -> Tensor:
        rows = x.reshape(-1, 1)  # each element a sample
        return stochastic_depth(rows, Doubled(), drop_prob, "row", compute=compute, **kw).view(x.shape)

    return Row(
        name=f"stochastic_depth-{compute}-{drop_prob}",
        layer=lambda inplace=False: dropact.StochasticDepth(Doubled(), drop_prob, "row", compute=compute),
        call=call,
        stock=nn.Identity,
        mean=lambda x: x + (1 - drop_prob) * 2 * x,
        variance=lambda x: drop_prob * (1 - drop_prob) * (2 * x) ** 2,
        rounds=False,
        exempt=exempt,
    )


ROWS = [
    drop_row(0.05, "relu", nn.ReLU, lambda x: x.clamp(min=0)),
    drop_row(0.001, "relu", nn.ReLU, lambda x: x.clamp(min=0)),
    drop_row(0.3, "gelu", nn.GELU, lambda x: x * torch.special.ndtr(x)),
    drop_row(0.5, "tanh", nn.Tanh, torch.tanh),
    drop_row(0.2, "silu", nn.SiLU, lambda x: x / (1 + torch.exp(-x))),
    Row(
        name="randomized_relu",
        layer=lambda inplace=False: dropact.RandomizedReLU(1 / 8, 1 / 3, inplace),
        call=lambda x, **kw: randomized_relu(x, 1 / 8, 1 / 3, **kw),
        stock=nn.ReLU,
        mean=lambda x: torch.where(x > 0, x, 11 / 48 * x),
        variance=lambda x: torch.where(x > 0, 0.0, x**2 * (1 / 3 - 1 / 8) ** 2 / 12),
        rounds=True,
    ),
    slope_row(
        "gaaf-relu",
        lambda inplace=False: dropact.GAAF(inplace=inplace),
        gaaf,
        nn.ReLU,
        lambda x: x.clamp(min=0),
        lambda x: (x > 0).double() + 1 / (1 + torch.exp(-5 * x - 2.5)),
    ),
    slope_row(
        "gaaf-tanh-capped",
        lambda inplace=False: dropact.GAAF("tanh", cap=1.5, inplace=inplace),
        lambda x, **kw: gaaf(x, "tanh", cap=1.5, **kw),
        nn.Tanh,
        torch.tanh,
        lambda x: (1 - torch.tanh(x) ** 2 + torch.exp(-(x**2) / 4)).clamp(max=1.5),
    ),
    slope_row(
        "gaaf-sigmoid",
        lambda inplace=False: dropact.GAAF("sigmoid", inplace=inplace),
        lambda x, **kw: gaaf(x, "sigmoid", **kw),
        nn.Sigmoid,
        torch.sigmoid,
        lambda x: torch.sigmoid(x) * (1 - torch.sigmoid(x)) + torch.exp(-(x**2) / 16) / 4,
    ),
    slope_row(
        "gaaf-gelu-own-shape",
        lambda inplace=False: dropact.GAAF("gelu", shape=bump, inplace=inplace),
        lambda x, **kw: gaaf(x, "gelu", shape=bump, **kw),
        nn.GELU,
        lambda x: x * torch.special.ndtr(x),
        lambda x: torch.special.ndtr(x) + x * normal_density(x) + 1 / (1 + x**2),
    ),
    slope_row(
        "surrogate_gradient-b_silu",
        lambda inplace=False: dropact.SurrogateGradient("b_silu", inplace=inplace),
        surrogate_gradient,
        nn.ReLU,
        lambda x: x.clamp(min=0),
        lambda x: torch.sigmoid(x) + (x + 1.67) * torch.sigmoid(x) * (1 - torch.sigmoid(x)),
    ),
    slope_row(
        "surrogate_gradient-nelu",
        lambda inplace=False: dropact.SurrogateGradient("nelu", inplace=inplace),
        lambda x, **kw: surrogate_gradient(x, "nelu", **kw),
        nn.ReLU,
        lambda x: x.clamp(min=0),
        lambda x: torch.where(x > 0, 1.0, 0.4 * x / (1 + x**2) ** 2),
    ),
    Row(
        name="aid",
        layer=lambda inplace=False: dropact.AID(0.2, inplace=inplace),
        call=lambda x, **kw: aid(x, 0.2, **kw),
        stock=nn.ReLU,
        mean=lambda x: torch.where(x > 0, 0.8 * x, 0.2 * x),
        variance=lambda x: 0.2 * 0.8 * x**2,
        rounds=False,
        exempt=frozenset({"positive_side_of_relus_is_untouched"}),
    ),
    Row(
        name="stocha",
        layer=lambda inplace=False: dropact.StochA(0.4, inplace=inplace),
        call=lambda x, **kw: stocha(x, 0.4, **kw),
        stock=nn.ReLU,
        mean=lambda x: torch.where(x > 0, x, 0.4 * x * torch.sigmoid(x)),
        variance=lambda x: torch.where(x > 0, 0.0, 0.4 * 0.6 * (x * torch.sigmoid(x)) ** 2),
        rounds=True,
        evaluation=lambda x: x.clamp(min=0),
    ),
    Row(
        name="stochastic_activation-gelu-tanh",
        layer=lambda inplace=False: dropact.StochasticActivation(0.3, "gelu", "tanh", inplace),
        call=lambda x, **kw: stochastic_activation(x, 0.3, "gelu", "tanh", **kw),
        stock=nn.GELU,
        mean=lambda x: 0.7 * x * torch.special.ndtr(x) + 0.3 * torch.tanh(x),
        variance=lambda x: 0.3 * 0.7 * (x * torch.special.ndtr(x) - torch.tanh(x)) ** 2,
        rounds=True,
    ),
    depth_row(0.3, "skip", OF_ROWS | ON_HOST),
    depth_row(0.3, "masked", OF_ROWS),
]

# The mistakes found in five public re-implementations, each as a row that some law must fail.
P = 0.05


def _faulty(name: str, train: Callable[[Tensor], Tensor], evaluate: Callable[[Tensor], Tensor], good: Row) -> Row:
    class Layer(nn.Module):
        def __init__(self, inplace: bool = False) -> None:
            super().__init__()

        def forward(self, x: Tensor) -> Tensor:
            return train(x) if self.training else evaluate(x)

    def call(x: Tensor, *, training: bool = True, seed: int | None = None) -> Tensor:
        if seed is not None:
            torch.manual_seed(seed)
        return train(x) if training else evaluate(x)

    return Row(name, Layer, call, good.stock, good.mean, good.variance, good.rounds)


def _mask(x: Tensor) -> Tensor:
    return torch.rand(x.shape) < P


_private = torch.Generator().manual_seed(0)


def _slope(x: Tensor) -> Tensor:
    return F.leaky_relu(x, P)


_drop, _rrelu = ROWS[0], next(row for row in ROWS if row.name == "randomized_relu")
FAULTY = {
    "rescaled": _faulty("rescaled", lambda x: torch.where(_mask(x), x, x.relu() / (1 - P)), _slope, _drop),
    "rescaled_dropped": _faulty("rescaled_dropped", lambda x: torch.where(_mask(x), x / P, x.relu()), _slope, _drop),
    "shared_over_batch": _faulty("batch", lambda x: torch.where(_mask(x[:1]), x, x.relu()), _slope, _drop),
    "shared_over_sample": _faulty("sample", lambda x: torch.where(_mask(x[:, :1]), x, x.relu()), _slope, _drop),
    "inverse_slope": _faulty(
        "inverse_slope",
        lambda x: torch.where(_mask(x), x, x.relu()),
        lambda x: torch.where(x > 0, x, x / (1 - P)),
        _drop,
    ),
    "keep_is_drop": _faulty(
        "keep_is_drop", lambda x: torch.where(_mask(x), x.relu(), x), lambda x: F.leaky_relu(x, 1 - P), _drop
    ),
    "rrelu_inverse_mean": _faulty(
        "rrelu_inverse_mean",
        lambda x: F.rrelu(x, 1 / 8, 1 / 3, training=True),
        lambda x: F.leaky_relu(x, 2 / 11),
        _rrelu,
    ),
    "low_precision_mask": _faulty(
        "low_precision_mask",  # on a grid of 2**-8, .001 comes out as .0039
        lambda x: torch.where(torch.rand_like(x) < 0.001, x, x.relu()),
        lambda x: F.leaky_relu(x, 0.001),
        ROWS[1],
    ),
    "eval_returns_nothing": _faulty(
        "eval_returns_nothing", lambda x: torch.where(_mask(x), x, x.relu()), lambda x: None, _drop
    ),
    "private_generator": _faulty(
        "private_generator",
        lambda x: torch.where(torch.rand(x.shape, generator=_private) < P, x, x.relu()),
        _slope,
        _drop,
    ),
}
