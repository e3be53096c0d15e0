"""Change a model in place and give a receipt."""

from dropact.surgery.convert import convert_
from dropact.surgery.fold import fold_
from dropact.surgery.receipt import Change, Receipt, Skip

__all__ = ["Change", "Receipt", "Skip", "convert_", "fold_"]
