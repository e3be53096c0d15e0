"""RReLU: a ReLU whose negative slope is random in training.

Bing Xu, Naiyan Wang, Tianqi Chen, Mu Li: Empirical Evaluation of Rectified Activations in Convolution Network,
arXiv:1505.00853; the comparison that arXiv:1811.05850 insists on (its equation 6).

    training    y = x for x >= 0, else U x,  U ~ Uniform(lower, upper), drawn afresh for every element
    evaluation  y = x for x >= 0, else (lower + upper) / 2 * x

    paper (1811.05850)  here
    a, b                lower, upper           (1/8 and 1/3: the evaluation slope is 11/48)

Drop-Activation is the same with a slope that is 0 or 1.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from dropact import kernels
from dropact._activations import Activation, is_relu
from dropact._arguments import check_broadcast, check_input, check_number
from dropact._random import as_seed
from dropact.methods._activation import underlying
from dropact.methods._tracing import special
from dropact.theory import UnitNoise


def randomized_relu(
    x: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    inplace: bool = False,
    *,
    training: bool = True,
    seed: int | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Multiply the negative side by a random slope.

    >>> import torch
    >>> randomized_relu(torch.tensor([-48.0, 1.0]), training=False)
    tensor([-11.,   1.])

    ``y = x`` where ``x > 0``, else ``slope * x`` with ``slope ~ U(lower, upper)`` in training and
    ``(lower + upper) / 2`` in evaluation.

    Args:
        x: floating tensor of any shape and memory format; the result has its shape, dtype and storage order.
        lower, upper: bounds of the slope, ``0 <= lower <= upper``. (A negative slope would hide the sign of ``x``
            in the output, which is all that backward keeps; ``F.rrelu`` takes it.)
        inplace: write the result into ``x``.
        training: draw slopes; otherwise use their mean.
        seed: int or 0-d int64 tensor that determines the slopes; drawn from torch's default generator if ``None``.
        mask: the slopes themselves, a floating tensor that broadcasts to the shape of ``x``; used instead of a draw.

    Raises:
        TypeError: ``x`` or ``mask`` is not floating.
        ValueError: the bounds are out of order, negative or not finite; a mask that does not broadcast; both ``seed``
            and ``mask``.
    """
    check_input(x, "randomized_relu")
    lower, upper = _check_bounds(lower, upper)
    if seed is not None and mask is not None:
        raise ValueError("seed and mask both given: the mask already holds the slopes, pass one of them")
    if mask is not None:
        check_input(mask, "mask of randomized_relu")
        check_broadcast(mask, x)
    if upper == 0 and (mask is None or not training):
        return F.relu(x, inplace=inplace)  # a slope of 0 makes NaN of -inf
    if not training:
        return F.leaky_relu(x, (lower + upper) / 2, inplace=inplace)
    if mask is None:
        return kernels.randomized_relu(x, as_seed(seed, x), lower, upper, inplace)
    y = kernels.sloped_relu(x, mask)
    return x.copy_(y) if inplace else y


def _check_bounds(lower: float, upper: float) -> tuple[float, float]:
    lower, upper = check_number(lower, "lower", low=0.0), check_number(upper, "upper", low=0.0)
    if lower > upper:
        raise ValueError(f"lower must not exceed upper, got lower={lower:g}, upper={upper:g}")
    return lower, upper


class RandomizedReLU(nn.Module):
    """RReLU as a layer, in place of ``nn.RReLU``, which is several times slower and has no vmap rule.

    >>> import torch
    >>> layer = RandomizedReLU(lower=1 / 8, upper=1 / 3)
    >>> y = layer(torch.tensor([-1.0, 2.0]))
    >>> bool(-1 / 3 <= y[0] <= -1 / 8), y[1].item()
    (True, 2.0)

    Equation, arguments and errors are those of :func:`dropact.functional.randomized_relu`.
    """

    activation: ClassVar[str] = "relu"

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower, self.upper = _check_bounds(lower, upper)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.is_nested:
            return special(self, x)
        return randomized_relu(x, self.lower, self.upper, self.inplace, training=self.training)

    def replacement_for(self, activation: Activation) -> nn.Module | None:
        """This layer's settings in place of a ReLU; ``None`` for any other activation, which RReLU does not replace."""
        if isinstance(activation, RandomizedReLU):
            if (activation.lower, activation.upper) == (self.lower, self.upper):
                return activation
        elif not is_relu(underlying(activation)):
            return None
        return RandomizedReLU(self.lower, self.upper, bool(getattr(activation, "inplace", False)))

    def folded(self) -> nn.Module:
        """A stock layer with this layer's evaluation output, in either mode."""
        return nn.LeakyReLU((self.lower + self.upper) / 2, self.inplace) if self.upper else nn.ReLU(self.inplace)

    def noise(self, x: Tensor) -> UnitNoise:
        """What training adds to the evaluation output: a centred uniform variable times ``min(x, 0)``."""
        return UnitNoise(x.clamp(max=0), (self.upper - self.lower) ** 2 / 12)

    def extra_repr(self) -> str:
        return f"lower={self.lower:g}, upper={self.upper:g}" + ", inplace=True" * self.inplace
