"""Draws the pictures of the method cards, docs/methods/NAME.svg, from what the layers do.

python scripts/draw_cards.py
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import dropact
from dropact.report.svg import INK, canvas, render, standalone

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
BLUE, GREEN, ORANGE = "#0072B2", "#009E73", "#D55E00"
X = torch.linspace(-3, 3, 241)
GREY = {"color": INK, "linewidth": 0.8, "linestyle": ":"}


def slope(layer: torch.nn.Module) -> list[float]:
    """The derivative that training sees."""
    x = X.clone().requires_grad_()
    layer.train()(x).sum().backward()
    assert x.grad is not None
    return x.grad.tolist()


def random_activation(layer: torch.nn.Module, what: str) -> Callable[[list["Axes"]], None]:
    def draw(axes: list["Axes"]) -> None:
        torch.manual_seed(0)
        left, right = axes
        left.scatter(X.tolist(), layer.train()(X).tolist(), s=7, color=BLUE, linewidth=0)
        left.set_title(f"training, one draw\n({what})", fontsize=10)
        right.plot(X.tolist(), torch.relu(X).tolist(), label="ReLU", **GREY)
        right.plot(X.tolist(), layer.eval()(X).tolist(), color=GREEN, linewidth=1.8, label="layer")
        right.set_title("evaluation", fontsize=10)
        right.set_ylim(left.get_ylim())
        right.legend(fontsize=9)

    return draw


def slopes(names: Mapping[str, tuple[torch.nn.Module, torch.nn.Module]]) -> Callable[[list["Axes"]], None]:
    def draw(axes: list["Axes"]) -> None:
        for axis, (name, (plain, layer)) in zip(axes, names.items(), strict=True):
            axis.plot(X.tolist(), layer.eval()(X).tolist(), color=GREEN, linewidth=1.8, label="value, both modes")
            axis.plot(X.tolist(), slope(plain), label="slope without it", **GREY)
            axis.plot(X.tolist(), slope(layer), color=ORANGE, linewidth=1.6, linestyle="--", label="slope in training")
            axis.set_title(name, fontsize=10)
        axes[0].legend(fontsize=9)

    return draw


def depth(axes: list["Axes"]) -> None:
    left, right = axes
    count, steps = 54, 40
    rates = dropact.schedules.linear_survival(count, last=0.5)
    branches = range(1, count + 1)
    left.plot(branches, rates, color=BLUE, linewidth=1.8, label="linear_survival(54, last=0.5)")
    even = dropact.schedules.uniform_survival(count, sum(rates))
    left.plot(branches, even, color=ORANGE, linewidth=1.6, linestyle="--", label="uniform_survival, same budget")
    left.set_ylim(0, 1.05)
    left.set_xlabel("branch")
    left.set_title("survival rates", fontsize=10)
    left.legend(fontsize=9, loc="lower left")
    torch.manual_seed(0)
    kept = torch.zeros(steps, count, dtype=torch.bool)
    layers = [dropact.StochasticDepth(torch.nn.Identity(), 1 - rate).train() for rate in rates]
    for step in range(steps):
        for place, layer in enumerate(layers):
            kept[step, place] = bool(layer(torch.ones(1, 1)) != 1)
    step_of, branch_of = kept.nonzero(as_tuple=True)
    right.scatter((branch_of + 1).tolist(), step_of.tolist(), s=5, color=GREEN, marker="s", linewidth=0)
    right.set_xlabel("branch")
    right.set_ylabel("training step")
    right.set_title("branches that are computed", fontsize=10)


PICTURES: Mapping[str, tuple[str, str, Callable[[list["Axes"]], None]]] = {
    "drop-activation": (
        "Drop-Activation of ReLU",
        "Left, training: each input below 0 gives 0 or, with probability drop_prob (0.2 here), itself; each above 0 "
        "gives itself. Right, evaluation: a leaky ReLU of slope drop_prob.",
        random_activation(dropact.DropActivation(0.2), "drop_prob 0.2, element by element"),
    ),
    "randomized-relu": (
        "RReLU",
        "Left, training: inputs below 0 are multiplied by slopes drawn between 1/8 and 1/3, each its own. Right, "
        "evaluation: a leaky ReLU of slope 11/48.",
        random_activation(dropact.RandomizedReLU(), "lower 1/8, upper 1/3"),
    ),
    "aid": (
        "AID",
        "Left, training: each input below 0 gives 0 or, with probability drop_prob (0.2 here), itself; each above 0 "
        "gives itself or, with that probability, 0. Right, evaluation: slope drop_prob below 0, 1 - drop_prob above.",
        random_activation(dropact.AID(0.2), "drop_prob 0.2, element by element"),
    ),
    "stocha": (
        "StochA",
        "Left, training: each input below 0 gives 0 or, with probability drop_prob (0.5 here), its SiLU; each above 0 "
        "gives itself. Right, evaluation: ReLU.",
        random_activation(dropact.StochA(0.5), "drop_prob 0.5, element by element"),
    ),
    "stochastic-depth": (
        "Stochastic depth of 54 branches",
        "Left: survival rates over depth, from 1 down to 0.5, and even ones with the same mean number of active "
        "branches. Right: which branches are computed in each of 40 training steps; the deeper, the fewer.",
        depth,
    ),
    "gaaf": (
        "GAAF of ReLU and of tanh",
        "The value is the activation's in both modes; the slope in training is larger by the shape, which vanishes in "
        "saturation.",
        slopes(
            {
                "ReLU": (torch.nn.ReLU(), dropact.GAAF("relu")),
                "tanh": (torch.nn.Tanh(), dropact.GAAF("tanh")),
            }
        ),
    ),
    "surrogate-gradients": (
        "Surrogate gradients of ReLU",
        "The value is ReLU's in both modes; the slope in training is the surrogate's derivative: B-SiLU's left, NeLU's "
        "right.",
        slopes(
            {
                "B-SiLU": (torch.nn.ReLU(), dropact.SurrogateGradient("b_silu")),
                "NeLU": (torch.nn.ReLU(), dropact.SurrogateGradient("nelu")),
            }
        ),
    ),
}


def drawn(name: str) -> str:
    """The picture of a card, as a file of its own."""
    title, description, draw = PICTURES[name]
    with canvas(7.4, 3.0) as figure:
        axes = list(figure.subplots(1, 2))
        draw(axes)
        for axis in axes:
            axis.axhline(0, color=INK, linewidth=0.4)
            axis.axvline(0, color=INK, linewidth=0.4)
            axis.set_xlabel(axis.get_xlabel() or "input")
        return standalone(render(figure, name, title, description))


def main() -> int:
    for name in PICTURES:
        (ROOT / "docs" / "methods" / f"{name}.svg").write_text(drawn(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
