"""The fused operations, served by the best backend for the tensor at hand."""

from dropact.kernels.reference import choose, drop_relu, masked_relu, randomized_relu, sloped_relu

__all__ = ["choose", "drop_relu", "masked_relu", "randomized_relu", "sloped_relu"]
