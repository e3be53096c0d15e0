"""Regularisers that act on the nonlinearity and on the residual branch.

>>> import dropact, torch
>>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
>>> receipt = dropact.convert_(model, dropact.DropActivation(drop_prob=0.05))
"""

from dropact import _starting  # noqa: F401, I001 (first, before torch is imported)
from dropact import diagnostics, functional, schedules, theory
from dropact.methods import (
    AID,
    GAAF,
    DropActivation,
    RandomizedReLU,
    StochA,
    StochasticActivation,
    StochasticDepth,
    SurrogateGradient,
)
from dropact.surgery import Coverage, Receipt, add_stochastic_depth_, convert_, coverage, fold_, merge_

__version__ = "0.1.0"

__all__ = [
    "AID",
    "GAAF",
    "Coverage",
    "DropActivation",
    "RandomizedReLU",
    "Receipt",
    "StochA",
    "StochasticActivation",
    "StochasticDepth",
    "SurrogateGradient",
    "add_stochastic_depth_",
    "convert_",
    "coverage",
    "diagnostics",
    "fold_",
    "functional",
    "merge_",
    "schedules",
    "theory",
]
