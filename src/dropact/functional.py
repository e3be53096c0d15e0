"""The methods as pure functions: the layers' arguments, plus ``training=``, ``seed=`` and ``mask=``."""

from dropact.methods.drop_activation import drop_activation
from dropact.methods.randomized_relu import randomized_relu

__all__ = ["drop_activation", "randomized_relu"]
