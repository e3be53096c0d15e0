"""What a layer's draws do to its output, by what the layer says of itself."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from dropact.theory import UnitNoise
from dropact.theory._gaussian import expectations


def noise_of(layer: nn.Module, x: Tensor) -> UnitNoise:
    """In training the output for ``x`` is that of evaluation plus ``a u``: returns ``u`` and what is known of ``a``.

    Raises:
        TypeError: a layer whose training output is not evaluation plus a noise of mean 0, or that does not say.
    """
    noise = getattr(layer, "noise", None)
    if noise is None:
        raise TypeError(f"the noise of a {type(layer).__name__} is not known")
    return noise(x)


def predicted_shift(layer: nn.Module, drop_prob: float | None = None) -> float:
    """Variance in evaluation over variance in training for inputs from N(0, 1), NaN where there is no such number.

    ``drop_prob`` stands in place of the layer's own.
    """
    twin = copy.deepcopy(layer).cpu().double().eval()
    if drop_prob is not None:
        twin.drop_prob = drop_prob  # type: ignore[assignment]

    def terms(x: Tensor) -> Tensor:
        noise = noise_of(twin, x)
        y = twin.forward(x.clone())
        return torch.stack([y, y.square(), noise.variance * noise.effect.square()])

    try:
        with torch.no_grad():
            mean, square, added = expectations(terms).tolist()
        return (square - mean**2) / (square - mean**2 + added)
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        return math.nan
