"""Change a model in place and give a receipt."""

from dropact.surgery.convert import convert_
from dropact.surgery.coverage import CallSite, Coverage, coverage
from dropact.surgery.depth import add_stochastic_depth_
from dropact.surgery.fold import fold_
from dropact.surgery.merge import merge_
from dropact.surgery.receipt import Change, Receipt, Skip

__all__ = [
    "CallSite",
    "Change",
    "Coverage",
    "Receipt",
    "Skip",
    "add_stochastic_depth_",
    "convert_",
    "coverage",
    "fold_",
    "merge_",
]
