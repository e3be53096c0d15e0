"""Rates that change: survival over depth, ``drop_prob`` over training."""

from dropact.schedules._rates import rates
from dropact.schedules.depth import linear_survival, sensitivity_survival, uniform_survival
from dropact.schedules.training import Annealing, anneal, constant, cosine, early, late, linear, warm_up

__all__ = [
    "Annealing",
    "anneal",
    "constant",
    "cosine",
    "early",
    "late",
    "linear",
    "linear_survival",
    "rates",
    "sensitivity_survival",
    "uniform_survival",
    "warm_up",
]
