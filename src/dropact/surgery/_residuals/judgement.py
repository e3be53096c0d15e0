"""Which sums are no residual sums although their sides come from one value; a new case is one more test here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from torch import nn

from dropact.surgery._recognise import kind_of

PROJECTION = 1  # weights that a shortcut may pass: what has more is no shortcut
_AROUND, _NO_VALUES = re.compile(r"input_tensor|residual|shortcut|identity"), re.compile(r"mask|bias|pos")
_POSITIONS = re.compile(r"\w*pos(ition(al|s)?)?_?(emb|enc|conv)\w*|\b(self\.)?positions?\b", re.IGNORECASE)
# Methods that put one layer in place of a unit's parallel ones.
_MERGES = ("reparameterize", "switch_to_deploy", "fuse")


def why_none(owner: nn.Module, branch: ast.expr, called: Iterable[object], heavy: int, light: int) -> str | None:
    """Why a sum in a method of ``owner`` is none, if so.

    Args:
        called: what its branch calls.
        heavy, light: the weights that each side has passed alone.
    """
    cls = type(owner).__name__
    text = ast.unparse(branch)
    if positions := _POSITIONS.search(f"{text} {cls}"):
        return f"it adds positions, {positions[0]}"
    merges = any(callable(getattr(type(owner), name, None)) for name in _MERGES)
    if merges and "drop_path" not in text and not any(map(_bends, called)):
        return f"a {cls} is merged into one layer, with all of its branches"
    if heavy == light or min(heavy, light) > PROJECTION:
        numbers = f"{heavy} each" if heavy == light else f"{heavy} and {light}"
        return f"neither side is a shortcut: both pass through weights, {numbers}"
    return None


def _bends(called: object) -> bool:
    """Whether a module has an activation in it, so that it is no linear part of a sum."""
    return isinstance(called, nn.Module) and any(kind_of(part) is not None for part in called.modules())


def begins_outside(around: ast.expr) -> tuple[str, bool] | None:
    """What to say of a sum with an argument that its other side does not come from, and whether it may be no residual
    sum at all; ``None`` for what is none, such as a mask that is added."""
    if not isinstance(around, ast.Name) or _NO_VALUES.search(around.id):
        return None
    said = (
        f"its branch begins outside this module, where {around.id} comes from, as in post-norm blocks: "
        "put dropact.StochasticDepth there by hand"
    )
    return said, _AROUND.search(around.id) is None
