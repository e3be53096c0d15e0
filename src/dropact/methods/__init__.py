"""The regularisers: one file = one method."""

from dropact.methods.aid import AID
from dropact.methods.drop_activation import DropActivation
from dropact.methods.gaaf import GAAF
from dropact.methods.randomized_relu import RandomizedReLU
from dropact.methods.residual_sum import ResidualSum
from dropact.methods.stocha import StochA
from dropact.methods.stochastic_activation import StochasticActivation
from dropact.methods.stochastic_depth import StochasticDepth
from dropact.methods.surrogate_gradient import SurrogateGradient

__all__ = [
    "AID",
    "GAAF",
    "DropActivation",
    "RandomizedReLU",
    "ResidualSum",
    "StochA",
    "StochasticActivation",
    "StochasticDepth",
    "SurrogateGradient",
]
