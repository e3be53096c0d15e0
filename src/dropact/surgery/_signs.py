"""Signs that a module calls activations of which its source does not tell enough: what only a run can show."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any

from torch import nn

from dropact._activations import ELEMENTWISE_MODULES
from dropact.surgery._methods import closure, first_of, methods
from dropact.surgery._recognise import FUNCTION_NAMES, is_function
from dropact.surgery._resolve import UNKNOWN, Resolver
from dropact.surgery._source import Source, names_in, unwrapped

_NAMES = FUNCTION_NAMES | {cls.__name__ for cls in ELEMENTWISE_MODULES}
_AT_THE_START = ("__", "_init", "init_", "reset_", "extra_repr")  # of methods that run before the first forward


@lru_cache(maxsize=4096)
def calls_activations(function: FunctionType) -> bool:
    """Whether a function of somebody's own seems to call one of torch's activations, by itself or through another."""
    return _calls(function, set())


def _calls(function: FunctionType, seen: set[FunctionType]) -> bool:
    if function in seen or str(function.__module__).startswith(("torch.", "dropact.")):
        return False
    seen.add(function)
    names = names_in(function)
    values = [*closure(function).values(), *(function.__globals__.get(name) for name in names)]
    return not names.isdisjoint(_NAMES) or any(
        is_function(v) or (isinstance(v, FunctionType) and _calls(v, seen)) for v in values
    )


def holds_activations(value: object, registered: Collection[int] = (), depth: int = 2) -> bool:
    """Whether a value is an activation, or a container that holds some; what is ``registered``, by ``id``, is none."""
    if isinstance(value, list | tuple | set | frozenset | Mapping) and depth:
        items = list(value.values()) if isinstance(value, Mapping) else value
        return any(holds_activations(item, registered, depth - 1) for item in items)
    if isinstance(value, FunctionType) and takes_one(value) and calls_activations(value):
        return True
    if isinstance(value, type):
        return value in ELEMENTWISE_MODULES or (issubclass(value, nn.Module) and _computes_one(value))
    return is_function(value) or (
        isinstance(value, nn.Module) and id(value) not in registered and holds_activations(type(value))
    )


def takes_one(function: FunctionType) -> bool:
    """Whether a function can be called with one argument, as an activation is."""
    code, defaults = function.__code__, function.__defaults__ or ()
    return code.co_argcount - len(defaults) <= 1 <= code.co_argcount and not code.co_kwonlyargcount


def _computes_one(cls: type[nn.Module]) -> bool:
    return any(calls_activations(method.function) for method in methods(cls).values())


def speaks_of(owner: nn.Module, function: FunctionType, registered: Collection[int]) -> set[str]:
    """The names in a function that mean an activation, or something that holds or calls some."""

    def means(name: str) -> bool:
        value = vars(owner).get(name, function.__globals__.get(name, first_of(type(owner).__mro__, name)))
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        inside = () if isinstance(value, ModuleType | type) else getattr(value, "__dict__", {}).values()
        own = isinstance(value, FunctionType) and calls_activations(value)
        return own or holds_activations(value, registered) or any(map(is_function, inside))

    names = {name for name in names_in(function) if name in _NAMES or name == "getattr" or means(name)}
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return names | ({"an argument's default"} if any(map(holds_activations, defaults)) else set())


def signs(
    source: Source, resolver: Resolver, known: Collection[ast.Call], registered: Collection[int]
) -> Iterator[str]:
    """What a method calls or passes on that is, holds or calls activations; but for the calls that are ``known``."""
    aside: set[int] = set()  # what is called, and what is compared with
    for node in ast.walk(source.node):
        if isinstance(node, ast.Compare):
            aside |= set(map(id, ast.walk(node)))
        if not isinstance(node, ast.Call):
            continue
        aside |= set(map(id, _looked_up(node.func)))
        if node in known:
            continue
        said = f"{ast.unparse(node.func)}() at {source.location(node)}"
        if _may_be_one(resolver, node.func):
            yield f"{said} may be an activation"
        elif isinstance(value := resolver.value(node.func), FunctionType) and calls_activations(value):
            yield f"{said} calls activations"
    for node in ast.walk(source.node):
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in aside:
            value = resolver.value(node)
            if not isinstance(value, type) and holds_activations(value, registered):
                does = "holds activations" if isinstance(value, Collection) else "is passed on"
                yield f"{ast.unparse(node)} at {source.location(node)} {does}"


def _looked_up(func: ast.expr) -> Iterator[ast.expr]:
    """An expression that is called, and the table that it is an entry of."""
    yield func
    if isinstance(func, ast.Subscript):
        yield from _looked_up(func.value)


def _may_be_one(resolver: Resolver, func: ast.expr) -> bool:
    """Whether what is called is looked up in a table of activations, by name, by a property, or made on the spot."""
    if isinstance(func, ast.Subscript):
        return holds_activations(resolver.value(func.value))
    if isinstance(func, ast.Call):
        made = resolver.value(func.func)
        if made is getattr:
            return bool(func.args) and _has_activations(resolver.value(func.args[0]))
        return isinstance(made, type) and holds_activations(made)
    if isinstance(func, ast.Attribute) and resolver.is_self(func.value):
        held = first_of(type(resolver.owner).__mro__, func.attr)
        return isinstance(held, property) and isinstance(held.fget, FunctionType) and calls_activations(held.fget)
    return False


def _has_activations(place: Any) -> bool:
    return place is not UNKNOWN and any(is_function(getattr(place, name, None)) for name in ("relu", "gelu"))


def signs_of_hooks(owner: nn.Module) -> Iterator[str]:
    for hook in (*owner._forward_pre_hooks.values(), *owner._forward_hooks.values()):
        function = unwrapped(getattr(hook, "__func__", hook))
        if function is not None and calls_activations(function):
            yield f"the hook {function.__qualname__} calls activations"


def unreached(cls: type[nn.Module], mentioned: Collection[str]) -> Iterator[tuple[str, FunctionType]]:
    """The methods of a class that forward does not reach and that call activations; of torch's own classes those alone
    that are ``mentioned`` elsewhere."""
    for name in set(dir(cls)) - set(methods(cls)):
        held = first_of(cls.__mro__, name)
        function = unwrapped(held) if isinstance(held, FunctionType) else None
        if function is None or name.startswith(_AT_THE_START) or names_in(function).isdisjoint(_NAMES):
            continue
        if name in mentioned or not str(function.__module__).startswith("torch."):
            yield name, function
