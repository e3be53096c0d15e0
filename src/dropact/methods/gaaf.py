"""GAAF, gradient acceleration in activation functions: the activation's value, a steeper slope.

Sangchul Hahn, Heeyoul Choi: Understanding Dropout as an Optimization Trick (first: Gradient Acceleration in Activation
Functions), arXiv:1806.09783.

    training    y = f(x) + g(x) s(x),  g(x) = (K x - floor(K x) - 0.5) / K,  so |g| <= 1 / 2K and g' = 1
    evaluation  y = f(x)

    paper               here
    phi                 activation
    K                   frequency              (10,000 in the paper)
    s(x)                shape

The value of ``y`` is that of ``f`` to within 1 / 2K; its slope is f' + s. ``forward="exact"``, the default, is the
limit of large K: the value is f(x), the gradient f'(x) + s(x). ``forward="sawtooth"`` is the formula to the letter, in
float32 (float64 for float64 numbers): in float16 ``K x`` would overflow beyond |x| = 6.55, in bfloat16 g would be
constant.

The paper describes its shapes ("a shifted sigmoid" for ReLU, "an exponential" for tanh) and prints no constants. The
defaults were measured in its figure. That of sigmoid is ours, by analogy: sigmoid(x) = 1/2 + tanh(x / 2) / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from dropact import kernels
from dropact._activations import Activation, canonical
from dropact._arguments import check_choice, check_input, check_positive
from dropact._elementwise import apply, resolve, show
from dropact.methods._activation import AroundActivation, evaluate, same, stock, underlying
from dropact.methods._derivative import Backward, Slope, replace_derivative, slope_at, times, wide
from dropact.methods._tracing import special
from dropact.theory import UnitNoise

FORWARDS = ("exact", "sawtooth")
FREQUENCY = 10_000  # the paper's


@dataclass(frozen=True)
class Logistic:
    """The shape ``sigmoid(slope * (x - centre))``, for ReLU: near 1 where the unit is active, near 0 far below.

    >>> Logistic()(torch.tensor([-3.0, -0.5, 2.0]))
    tensor([3.7266e-06, 5.0000e-01, 1.0000e+00])
    """

    slope: float = 5.0
    centre: float = -0.5

    def __call__(self, x: Tensor) -> Tensor:
        return kernels.logistic(x, *self.constants)

    @property
    def constants(self) -> tuple[float, float]:
        return self.slope, self.centre


@dataclass(frozen=True)
class Gaussian:
    """The shape ``height * exp(-(x / width)**2)``, for activations that saturate on both sides.

    >>> Gaussian(width=2.0)(torch.tensor([0.0, 2.0, 6.0]))
    tensor([1.0000e+00, 3.6788e-01, 1.2341e-04])
    """

    width: float = 2.0
    height: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self.width, "width")

    def __call__(self, x: Tensor) -> Tensor:
        return kernels.gaussian(x, *self.constants)

    @property
    def constants(self) -> tuple[float, float]:
        return self.width, self.height


# Of ReLU and tanh as measured in the paper's figure (slope 5.0 to 5.07, centre -0.486 to -0.493; width**2 3.7 to 4.15);
# of sigmoid ours.
SHAPES: dict[str, Logistic | Gaussian] = {
    "relu": Logistic(5.0, -0.5),
    "tanh": Gaussian(2.0),
    "sigmoid": Gaussian(4.0, 0.25),
}


def gaaf(
    x: Tensor,
    activation: Activation = "relu",
    frequency: float = FREQUENCY,
    shape: Slope | None = None,
    forward: str = "exact",
    cap: float | None = None,
    inplace: bool = False,
    *,
    training: bool = True,
) -> Tensor:
    """Apply ``activation``; in training add ``shape`` to its slope.

    >>> x = torch.tensor([-0.5, 1.0], requires_grad=True)
    >>> gaaf(x).sum().backward()
    >>> x.grad  # sigmoid(0) = 0.5 where ReLU has 0; 1 + sigmoid(7.5)
    tensor([0.5000, 1.9994])

    ``y = f(x)`` with the gradient ``f'(x) + s(x)`` (``forward="exact"``), or ``y = f(x) + g(x) s(x)`` with the sawtooth
    ``g(x) = (K x - floor(K x) - 0.5) / K``, differentiated as it stands (``forward="sawtooth"``).

    An active ReLU gets a slope of almost 2: without normalisation in between, gradients double from layer to layer.
    ``cap=1`` keeps it at 1 and leaves the acceleration of inactive units.

    Args:
        x: floating tensor of any shape and memory format; the result has its shape, dtype and storage order.
        activation: a name ("relu", "tanh", "sigmoid", ...) or an elementwise callable or module.
        frequency: K, the teeth per unit of ``x``, positive; another than the paper's needs ``forward="sawtooth"``.
        shape: s, a function from a tensor to one of its shape, which should vanish where the activation is deep in
            saturation; ``None``: the measured shape of ReLU or tanh, ours of sigmoid. No other has a default.
        forward: "exact" or "sawtooth".
        cap: the largest slope ``f' + s`` may have, positive; ``None``: no limit. For ReLU, tanh and sigmoid.
        inplace: write the result into ``x``. Saves nothing, as backward needs ``x``.
        training: accelerate; otherwise ``f(x)`` with its own gradient.

    Raises:
        TypeError: ``x`` is not floating; ``shape`` or ``activation`` is not callable.
        ValueError: no shape is known for the activation, a shape that is not elementwise, an unknown ``forward``, a
            ``frequency`` or ``cap`` that is not positive or that has nothing to act on.
    """
    check_input(x, "gaaf")
    _check(activation, frequency, shape, forward, cap)
    if not training:
        return evaluate(activation, x, inplace)
    source = x.clone() if inplace else x  # backward needs it
    s = SHAPES[canonical(activation)] if shape is None else shape  # type: ignore[index]
    if forward == "exact":
        y = _exact(source, activation, s, math.inf if cap is None else float(cap))
    else:
        tooth = replace_derivative(wide(source), partial(_sawtooth, frequency=float(frequency)), lambda grad, x: grad)
        y = (wide(apply(activation, source)) + tooth * slope_at(s, wide(source))).to(x.dtype)
    return x.copy_(y) if inplace else y


def _exact(x: Tensor, activation: Activation, shape: Slope, cap: float) -> Tensor:
    name = canonical(activation)
    if name is None:  # the activation has a graph of its own, and perhaps parameters
        return apply(activation, x) + replace_derivative(x, lambda x: torch.full_like(x, -0.0), times(shape))
    backward: Backward
    if type(shape) is type(SHAPES[name]):
        constants = shape.constants

        def backward(grad: Tensor, x: Tensor) -> Tensor:
            return kernels.accelerated_backward(grad, x, name, *constants, cap)
    else:
        backward = times(lambda x: (kernels.slope_of(name, x) + slope_at(shape, x)).clamp(max=cap))
    return replace_derivative(x, resolve(name), backward)


def _sawtooth(x: Tensor, frequency: float) -> Tensor:
    # Beyond 2**53 no number has a fraction, and infinity less itself would be NaN.
    teeth = (x * frequency).clamp(-(2.0**53), 2.0**53)
    return (teeth - teeth.floor() - 0.5) / frequency


def _check(activation: Activation, frequency: float, shape: Slope | None, forward: str, cap: float | None) -> None:
    resolve(activation)
    check_choice(forward, "forward", FORWARDS)
    check_positive(frequency, "frequency")
    if forward == "exact" and frequency != FREQUENCY:
        raise ValueError(
            f"frequency={frequency!r} needs forward='sawtooth', got forward='exact', which is the limit of large "
            f"frequencies and takes none: leave it at {FREQUENCY}"
        )
    known = canonical(activation)
    if shape is None and known is None:
        raise ValueError(
            f"no shape is known for activation {show(activation)}, only for {', '.join(SHAPES)}: pass shape="
        )
    if shape is not None and not callable(shape):
        raise TypeError(f"shape must be a function of a tensor, got {shape!r}")
    if cap is not None:
        check_positive(cap, "cap")
        if forward != "exact" or known is None:
            raise ValueError(
                f"cap needs forward='exact' and one of {', '.join(SHAPES)}, got forward={forward!r} and "
                f"{show(activation)}: put the limit into shape="
            )


class GAAF(AroundActivation):
    """Gradient acceleration as a layer, in place of an activation layer.

    >>> layer = GAAF("tanh")
    >>> layer
    GAAF(activation=tanh, shape=Gaussian(width=2.0, height=1.0))
    >>> import dropact
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> receipt = dropact.convert_(model, GAAF())  # or replace the activations of a model

    Equation, arguments and errors are those of :func:`dropact.functional.gaaf`. Keeps its input for backward, as
    ``nn.LeakyReLU`` and ``nn.GELU`` do.
    """

    def __init__(
        self,
        activation: Activation = "relu",
        frequency: float = FREQUENCY,
        shape: Slope | None = None,
        forward: str = "exact",
        cap: float | None = None,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        _check(activation, frequency, shape, forward, cap)
        self.activation = activation
        self.frequency = frequency
        self.shape = shape
        self.mode = forward
        self.cap = cap
        self.inplace = inplace

    @property
    def _settings(self) -> tuple[float, Slope | None, str, float | None]:
        return self.frequency, self.shape, self.mode, self.cap

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.is_nested:
            return special(self, x)
        return gaaf(x, self.activation, *self._settings, self.inplace, training=self.training)

    def replacement_for(self, activation: Activation) -> nn.Module | None:
        """This layer's settings in place of an activation; ``None`` where they do not fit it.

        Without a shape of its own it fits every activation that has one by default; with one, the activation it was
        made for.
        """
        inner = underlying(activation)
        settings = self._settings
        if isinstance(activation, GAAF) and activation._settings == settings:
            return activation
        if self.shape is None:
            if canonical(inner) is None:
                return None
        elif not same(inner, self.activation):
            return None
        return GAAF(inner, *settings, bool(getattr(activation, "inplace", False)))

    def folded(self) -> nn.Module:
        """The activation itself, as a stock layer."""
        return stock(self.activation, self.inplace)

    def noise(self, x: Tensor) -> UnitNoise:
        """None: training changes the gradient alone."""
        return UnitNoise(torch.zeros_like(x), 0.0)

    def extra_repr(self) -> str:
        parts = [f"activation={show(self.activation)}"]
        parts.append(f"shape={SHAPES[canonical(self.activation)] if self.shape is None else self.shape}")  # type: ignore[index]
        if self.mode != "exact":
            parts += [f"forward={self.mode}", f"frequency={self.frequency:g}"]
        if self.cap is not None:
            parts.append(f"cap={self.cap:g}")
        return ", ".join(parts + ["inplace=True"] * self.inplace)
