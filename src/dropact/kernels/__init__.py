"""The fused operations, served by the best backend for the tensor at hand."""

from dropact.kernels._dispatch import backend, forward_mode, transformed
from dropact.kernels.accelerated import accelerated_backward
from dropact.kernels.choose import choose
from dropact.kernels.drop_relu import drop_relu
from dropact.kernels.pair import pair
from dropact.kernels.randomized_relu import randomized_relu
from dropact.kernels.reference import gaussian, logistic, masked_relu, slope_of, sloped_relu

__all__ = [
    "accelerated_backward",
    "backend",
    "choose",
    "drop_relu",
    "forward_mode",
    "gaussian",
    "logistic",
    "masked_relu",
    "pair",
    "randomized_relu",
    "slope_of",
    "sloped_relu",
    "transformed",
]
