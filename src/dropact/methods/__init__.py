"""The regularisers: one file = one method."""

from dropact.methods.drop_activation import DropActivation
from dropact.methods.randomized_relu import RandomizedReLU

__all__ = ["DropActivation", "RandomizedReLU"]
