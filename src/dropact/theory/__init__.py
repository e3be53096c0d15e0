"""Closed forms of the papers' properties: pure functions of tensors and numbers. They know no modules."""

from dropact.theory._active_depth import ActiveDepth, active_depth
from dropact.theory._depth_excess import (
    DepthExcess,
    depth_excess,
    depth_noise_covariance,
    second_order_depth_excess,
)
from dropact.theory._excess_loss import excess_loss
from dropact.theory._gradient_growth import gradient_growth
from dropact.theory._remainder import Remainder, two_layer_remainder
from dropact.theory._second_order import UnitNoise, second_order_excess
from dropact.theory._variance_shift import Moments, WorstShift, moments, variance_shift, worst_variance_shift

__all__ = [
    "ActiveDepth",
    "DepthExcess",
    "Moments",
    "Remainder",
    "UnitNoise",
    "WorstShift",
    "active_depth",
    "depth_excess",
    "depth_noise_covariance",
    "excess_loss",
    "gradient_growth",
    "moments",
    "second_order_depth_excess",
    "second_order_excess",
    "two_layer_remainder",
    "variance_shift",
    "worst_variance_shift",
]
