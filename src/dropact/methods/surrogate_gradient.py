"""Surrogate gradient: the activation's value, the derivative of another, smooth function.

Coşku Can Horuz et al.: The Resurrection of the ReLU (SUGAR), arXiv:2505.22074.

    training    y = f(x), with the gradient h(x) in place of f'(x)
    evaluation  y = f(x)

    paper               here
    f, ReLU             activation
    surrogate's slope   derivative

The two derivatives by name are reconstructions, not taken from code of the authors: B-SiLU as (x + a) sigmoid(x) - a/2
with a = 1.67; NeLU as x where x > 0, else -a / (1 + x**2), for which we found a = 0.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dropact._activations import Activation
from dropact._arguments import check_input
from dropact._elementwise import resolve, show
from dropact.methods._activation import AroundActivation, evaluate, same, stock, underlying
from dropact.methods._derivative import Slope, replace_derivative, times
from dropact.methods._tracing import special
from dropact.theory import UnitNoise


@dataclass(frozen=True)
class BSiLU:
    """The derivative of B-SiLU, ``sigmoid(x) + (x + alpha) sigmoid(x) (1 - sigmoid(x))``.

    >>> BSiLU()(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([0.0846, 0.9175, 1.2661])
    """

    alpha: float = 1.67

    def __call__(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        near = x.clamp(-200, 200)  # beyond it s (1 - s) is 0, and infinity times that NaN
        return s + (near + self.alpha) * (s * torch.sigmoid(-x))


@dataclass(frozen=True)
class NeLU:
    """The derivative of NeLU: 1 where ``x > 0``, else ``2 alpha x / (1 + x**2)**2``, which is negative.

    >>> NeLU()(torch.tensor([-1.0, 0.0, 2.0]))
    tensor([-0.1000,  0.0000,  1.0000])
    """

    alpha: float = 0.2

    def __call__(self, x: Tensor) -> Tensor:
        near = x.clamp(-1e4, 0)  # beyond it the slope is below 1e-12, and the square would overflow
        return torch.where(x > 0, 1.0, 2 * self.alpha * near / (1 + near.square()).square())


DERIVATIVES: dict[str, Slope] = {"b_silu": BSiLU(), "nelu": NeLU()}


def surrogate_gradient(
    x: Tensor,
    derivative: str | Slope = "b_silu",
    activation: Activation = "relu",
    inplace: bool = False,
    *,
    training: bool = True,
) -> Tensor:
    """Apply ``activation``; in training take ``derivative`` for its slope.

    >>> x = torch.tensor([-1.0, 2.0], requires_grad=True)
    >>> surrogate_gradient(x, "nelu").sum().backward()
    >>> x.grad
    tensor([-0.1000,  1.0000])

    ``y = f(x)`` with the gradient ``h(x)``.

    Args:
        x: floating tensor of any shape and memory format; the result has its shape, dtype and storage order.
        derivative: h, "b_silu", "nelu" (both reconstructed), or a function from a tensor to one of its shape: it is
            given float32 (float64 for float64 numbers). ``BSiLU(alpha)`` and ``NeLU(alpha)`` of this module are such.
        activation: a name ("relu", ...) or an elementwise callable or module without parameters.
        inplace: write the result into ``x``. Saves nothing, as backward needs ``x``.
        training: use ``derivative``; otherwise the activation's own.

    Raises:
        TypeError: ``x`` is not floating; ``derivative`` or ``activation`` is neither a name nor callable.
        ValueError: an unknown name, a derivative that is not elementwise, an activation with parameters.
    """
    check_input(x, "surrogate_gradient")
    h = _check(derivative, activation)
    if not training:
        return evaluate(activation, x, inplace)
    y = replace_derivative(x.clone() if inplace else x, lambda x: evaluate(activation, x, inplace=False), times(h))
    return x.copy_(y) if inplace else y


def _check(derivative: str | Slope, activation: Activation) -> Slope:
    resolve(activation)
    if isinstance(activation, nn.Module) and any(True for _ in activation.parameters()):
        raise ValueError(f"activation {show(activation)} has parameters, which would get no gradient")
    if isinstance(derivative, str):
        if derivative not in DERIVATIVES:
            accepted = ", ".join(map(repr, DERIVATIVES))
            raise ValueError(f"derivative must be one of {accepted} or a function, got {derivative!r}")
        return DERIVATIVES[derivative]
    if not callable(derivative):
        raise TypeError(f"derivative must be a name or a function of a tensor, got {derivative!r}")
    return derivative


class SurrogateGradient(AroundActivation):
    """A surrogate gradient as a layer, in place of an activation layer.

    >>> layer = SurrogateGradient("b_silu")
    >>> layer
    SurrogateGradient(derivative=BSiLU(alpha=1.67), activation=relu)
    >>> import dropact
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> receipt = dropact.convert_(model, SurrogateGradient())  # or replace every ReLU of a model

    Equation, arguments and errors are those of :func:`dropact.functional.surrogate_gradient`.
    """

    def __init__(
        self, derivative: str | Slope = "b_silu", activation: Activation = "relu", inplace: bool = False
    ) -> None:
        super().__init__()
        self.derivative = _check(derivative, activation)
        self.activation = activation
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.is_nested:
            return special(self, x)
        return surrogate_gradient(x, self.derivative, self.activation, self.inplace, training=self.training)

    def replacement_for(self, activation: Activation) -> nn.Module | None:
        """This layer's settings in place of the activation it was made for; ``None`` for any other."""
        if isinstance(activation, SurrogateGradient) and activation.derivative == self.derivative:
            return activation
        inner = underlying(activation)
        if not same(inner, self.activation):
            return None
        return SurrogateGradient(self.derivative, inner, bool(getattr(activation, "inplace", False)))

    def folded(self) -> nn.Module:
        """The activation itself, as a stock layer."""
        return stock(self.activation, self.inplace)

    def noise(self, x: Tensor) -> UnitNoise:
        """None: training changes the gradient alone."""
        return UnitNoise(torch.zeros_like(x), 0.0)

    def extra_repr(self) -> str:
        parts = [f"derivative={self.derivative}", f"activation={show(self.activation)}"]
        return ", ".join(parts + ["inplace=True"] * self.inplace)
