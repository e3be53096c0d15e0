"""The fused operations, served by the best backend for the tensor at hand."""

from dropact.kernels._dispatch import backend
from dropact.kernels.choose import choose
from dropact.kernels.drop_relu import drop_relu
from dropact.kernels.randomized_relu import randomized_relu
from dropact.kernels.reference import masked_relu, sloped_relu

__all__ = ["backend", "choose", "drop_relu", "masked_relu", "randomized_relu", "sloped_relu"]
