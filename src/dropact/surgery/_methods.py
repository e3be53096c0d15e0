"""The methods of a module's class that its forward reaches."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from types import FunctionType
from typing import Any

from torch import nn

from dropact.surgery._source import Source, UnreadableError, names_in, read, unwrapped

# A field of a dataclass whose default is F.relu is none.
_NO_METHODS = {nn.Module.__module__, nn.functional.__name__}
_OF_CHILDREN = {"children", "named_children", "_modules"}


@dataclass(eq=False)
class Method:
    """A method that ``forward`` reaches through ``self`` or through ``super()``.

    ``key`` is the name under which a subclass would have an edited one: its own, or, where it is reached through
    ``super()``, one that tells the class it comes from. ``callers`` are then the expressions to be led there, each with
    the key and the source of the method it stands in.
    """

    key: str
    function: FunctionType
    outer: object  # the function in its decorators
    callers: list[tuple[str, Source, ast.expr]] = field(default_factory=list)


def methods(cls: type[Any]) -> dict[str, Method]:
    """The methods that ``forward`` reaches, itself first. A method whose name occurs in one is taken for reached."""
    return _methods(cls)  # type: ignore[arg-type]  # a class is hashable, whatever its instances are


def forget() -> None:
    """Look at classes afresh: somebody may have put another method into one since."""
    _methods.cache_clear()


@lru_cache(maxsize=4096)
def _methods(cls: type[Any]) -> dict[str, Method]:
    found: dict[str, Method] = {}
    waiting = [("forward", first_of(cls.__mro__, "forward"))]
    while waiting:
        key, outer = waiting.pop(0)
        function = unwrapped(outer)
        if key in found or function is None or function.__module__ in _NO_METHODS:
            continue
        found[key] = Method(key, function, outer)
        for name in sorted(names_in(function)):
            if isinstance(other := first_of(cls.__mro__, name), FunctionType):
                waiting.append((name, other))
        waiting += [(key, outer) for key, outer, _, _ in _through_super(cls, function)]
    for method in list(found.values()):
        for key, _, source, func in _through_super(cls, method.function):
            if key in found:
                found[key].callers.append((method.key, source, func))
    return found


def first_of(classes: tuple[type, ...], name: str) -> Any:
    """What the first of these classes that has something of this name has."""
    return next((vars(cls)[name] for cls in classes if name in vars(cls)), None)


def _through_super(cls: type, function: FunctionType) -> Iterator[tuple[str, object, Source, ast.expr]]:
    """The methods that a function calls as ``super().name``: key, method, and the expression with its source."""
    if "super" not in names_in(function):
        return
    try:
        source = read(function)
    except UnreadableError:
        return
    for node in ast.walk(source.node):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id == "super"
        ):
            above = _super_of(cls, function, node.value.args)
            home = next((c for c in above if node.attr in vars(c)), None)
            if home is not None:
                yield f"{node.attr}_of_{home.__name__}", vars(home)[node.attr], source, node


def _super_of(cls: type, function: FunctionType, args: list[ast.expr]) -> tuple[type, ...]:
    """The classes among which ``super(*args)`` in this function looks."""
    held = closure(function)
    if not args:
        here = held.get("__class__")
    else:
        name = args[0].id if isinstance(args[0], ast.Name) else ""
        here = held.get(name, function.__globals__.get(name))
    mro = cls.__mro__
    return mro[mro.index(here) + 1 :] if here in mro else ()


def closure(function: FunctionType) -> dict[str, Any]:
    """The variables that a function has from around it."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return found


def runs_through_children(cls: type[Any]) -> bool:
    """Whether ``forward`` runs through the children of its module, of which one more would be called."""
    return any(_uses_children(method.function) for method in methods(cls).values())


def _uses_children(function: FunctionType) -> bool:
    if not names_in(function) & _OF_CHILDREN or function.__module__ == nn.Sequential.__module__:
        return False  # the containers of torch are given what they run through
    try:
        source = read(function)
    except UnreadableError:
        return True
    return any(
        isinstance(node, ast.Attribute) and node.attr in _OF_CHILDREN and ast.unparse(node.value) == source.self_name
        for node in ast.walk(source.node)
    )
