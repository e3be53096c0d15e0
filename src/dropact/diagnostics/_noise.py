"""What a layer's draws do to its output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dropact._elementwise import apply
from dropact.methods import GAAF, DropActivation, RandomizedReLU, StochasticActivation, SurrogateGradient
from dropact.theory import UnitNoise


def noise_of(layer: nn.Module, x: Tensor) -> UnitNoise:
    """In training the output for ``x`` is that of evaluation plus ``a u``: returns ``u`` and what is known of ``a``.

    Raises:
        TypeError: a layer whose training output is not evaluation plus a noise of mean 0, or that we do not know.
    """
    if isinstance(layer, DropActivation):
        q = layer.drop_prob
        return UnitNoise(x - apply(layer.activation, x), q * (1 - q), layer.granularity)
    if isinstance(layer, StochasticActivation) and layer.evaluation is None:
        q = layer.drop_prob
        return UnitNoise(apply(layer.replacement, x) - apply(layer.activation, x), q * (1 - q))
    if isinstance(layer, RandomizedReLU):
        return UnitNoise(x.clamp(max=0), (layer.upper - layer.lower) ** 2 / 12)  # a uniform slope
    if isinstance(layer, GAAF | SurrogateGradient):
        return UnitNoise(torch.zeros_like(x), 0.0)  # what they change is the gradient
    if isinstance(layer, StochasticActivation):
        raise TypeError(f"the noise of a {type(layer).__name__} whose evaluation is not its mean has no mean of 0")
    raise TypeError(f"the noise of a {type(layer).__name__} is not known")
