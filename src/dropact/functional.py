"""The methods as pure functions: the layers' arguments, ``training=``, and where they draw, ``seed=`` and ``mask=``."""

from dropact.methods.aid import aid
from dropact.methods.drop_activation import drop_activation
from dropact.methods.gaaf import gaaf
from dropact.methods.randomized_relu import randomized_relu
from dropact.methods.stocha import stocha
from dropact.methods.stochastic_activation import stochastic_activation
from dropact.methods.stochastic_depth import stochastic_depth
from dropact.methods.surrogate_gradient import surrogate_gradient

__all__ = [
    "aid",
    "drop_activation",
    "gaaf",
    "randomized_relu",
    "stocha",
    "stochastic_activation",
    "stochastic_depth",
    "surrogate_gradient",
]
