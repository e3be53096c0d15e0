"""``drop_prob`` over training: shapes, which are functions of progress alone, and the object that steps through one.

    rate(step) = start + (peak - start) * shape(step / steps)

Early and late are those of Zhuang Liu, Zhiqiu Xu, Joseph Jin, Zhiqiang Shen, Trevor Darrell: Dropout Reduces
Underfitting, arXiv:2303.01500: a regulariser switched off, or on, part of the way through.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from torch import nn

from dropact._arguments import check_number
from dropact.methods._rate import LayerWithRate

Shape = Callable[..., float]


def constant(progress: float) -> float:
    """1 throughout.

    >>> constant(0.3)
    1.0
    """
    return 1.0


def linear(progress: float) -> float:
    """From 0 to 1 in a straight line.

    >>> linear(0.25)
    0.25
    """
    return progress


def cosine(progress: float) -> float:
    """From 0 to 1 along half a period of a cosine, flat at both ends.

    >>> cosine(0.0), round(cosine(0.25), 4), cosine(1.0)
    (0.0, 0.1464, 1.0)
    """
    return (1 - math.cos(math.pi * progress)) / 2


def warm_up(progress: float, fraction: float = 0.1) -> float:
    """From 0 to 1 in a straight line over the first ``fraction`` of training, then 1.

    >>> warm_up(0.05), warm_up(0.5)
    (0.5, 1.0)
    """
    return min(progress / check_number(fraction, "fraction", low=1e-9, high=1.0), 1.0)


def early(progress: float, until: float = 0.5) -> float:
    """1 before ``until``, 0 from there on: the network is left to fit at the end.

    >>> early(0.49), early(0.5)
    (1.0, 0.0)
    """
    return float(progress < check_number(until, "until", low=0.0, high=1.0))


def late(progress: float, since: float = 0.5) -> float:
    """0 before ``since``, 1 from there on: the network is left to fit at first.

    >>> late(0.49), late(0.5)
    (0.0, 1.0)
    """
    return float(progress >= check_number(since, "since", low=0.0, high=1.0))


SHAPES: dict[str, Shape] = {shape.__name__: shape for shape in (constant, linear, cosine, warm_up, early, late)}


class Annealing:
    """A schedule at work, used like one of ``torch.optim.lr_scheduler``; :func:`anneal` makes it.

    >>> import dropact
    >>> schedule = anneal(nn.Sequential(dropact.DropActivation(0.1)), "linear", steps=4)
    >>> schedule.step()
    >>> schedule.progress, schedule.state_dict()
    (0.25, {'step': 1, 'peaks': [0.1]})
    """

    def __init__(self, layers: list[LayerWithRate], shape: Shape, steps: int, start: float, peak: float | None) -> None:
        self._layers, self._shape, self._steps, self._start = layers, shape, steps, start
        self._peaks = [layer.drop_prob if peak is None else peak for layer in layers]
        self._step = 0
        self._write()

    @property
    def progress(self) -> float:
        """How much of the schedule is done, in [0, 1]."""
        return min(self._step / self._steps, 1.0)

    def step(self) -> None:
        """Go on by one; past the last step the rates stay."""
        self._step += 1
        self._write()

    def _write(self) -> None:
        weight = check_number(self._shape(self.progress), "the shape's value", low=0.0, high=1.0)
        for layer, peak in zip(self._layers, self._peaks, strict=True):
            layer.move_rate(self._start * (1 - weight) + peak * weight)  # exact at both ends

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule is, in plain numbers. A model's ``state_dict`` holds no rates: save this beside it."""
        return {"step": self._step, "peaks": list(self._peaks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where ``state`` was saved, and set the rates of that step.

        Raises:
            ValueError: the state is not one of this model's.
        """
        if set(state) != {"step", "peaks"} or len(state["peaks"]) != len(self._layers):
            raise ValueError(f"expected a step and the peaks of {len(self._layers)} layers, got {state!r}")
        self._step, self._peaks = int(state["step"]), [float(peak) for peak in state["peaks"]]
        self._write()


def anneal(
    model: nn.Module,
    shape: str | Shape,
    steps: int,
    *,
    start: float = 0.0,
    peak: float | None = None,
    **options: float,
) -> Annealing:
    """Let ``drop_prob`` of every layer of ``model`` that has one follow a schedule over training.

    >>> import dropact
    >>> model = nn.Sequential(nn.Linear(4, 8), dropact.DropActivation(0.2), nn.Linear(8, 2))
    >>> schedule = dropact.schedules.anneal(model, "linear", steps=100)
    >>> for _ in range(50):  # after each optimizer.step()
    ...     schedule.step()
    >>> model[1].drop_prob
    0.1

    ``drop_prob = start + (peak - start) * shape(step / steps)``, set at once for step 0 and again at each ``step()``.
    Each layer's peak is the rate it comes with, so that rates which differ over depth keep their proportions; ``peak=``
    sets one for all. Compiled code reads the rate from a tensor and is not compiled again.

    The rate decides the output in evaluation too: what the schedule ends on is what the trained model keeps. Deep
    copies of the model, such as averages of its weights, are taken along; a copy that is to keep its rates has them set
    (``layer.drop_prob = layer.drop_prob``).

    Args:
        model: holds layers that have one, those of Drop-Activation or stochastic depth among them; wrapped by
            ``torch.compile`` or DDP, or not.
        shape: "constant", "linear", "cosine", "warm_up", "early", "late", or a function from progress in [0, 1] to a
            weight in [0, 1].
        steps: how many calls of ``step()`` lead from beginning to end.
        start: rate where the shape is 0.
        peak: rate where the shape is 1; ``None``: each layer's own.
        **options: of the shape: ``fraction=`` of "warm_up", ``until=`` of "early", ``since=`` of "late".

    Raises:
        ValueError: no layer with a ``drop_prob`` (RReLU, for one, has bounds instead), an unknown shape, ``steps``
            below 1, a rate or an option outside [0, 1].
        TypeError: ``steps`` is not an integer, or an option that the shape does not have.
    """
    layers = [module for module in model.modules() if isinstance(module, LayerWithRate)]
    if not layers:
        found = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
        raise ValueError(f"no layer of dropact has a drop_prob to anneal: the model has {found}")
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"steps must be an integer, got {steps!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    for value, name in ((start, "start"), (peak, "peak")):
        if value is not None:
            check_number(value, name, low=0.0, high=1.0)
            for layer in layers:  # stochastic depth that divides by what is left refuses 1
                layer._checked(value)
    return Annealing(layers, _with_options(shape, options), steps, start, peak)


def _with_options(shape: str | Shape, options: dict[str, float]) -> Shape:
    if isinstance(shape, str):
        if shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(map(repr, SHAPES))} or a function, got {shape!r}")
        shape = SHAPES[shape]
    if not callable(shape):
        raise TypeError(f"shape must be a name or a function of progress, got {shape!r}")
    accepted = list(inspect.signature(shape).parameters)[1:]
    for name in options:
        if name not in accepted:
            raise TypeError(f"shape {getattr(shape, '__name__', shape)!r} has the options {accepted}, got {name!r}")
    return functools.partial(shape, **options)
