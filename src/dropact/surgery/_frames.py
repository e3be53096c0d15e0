"""From a running frame to the method of the model that is at work in it, and to the call expression in its source."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from types import CodeType, FrameType, FunctionType
from typing import Any

from torch import Tensor, nn

from dropact.surgery._methods import methods
from dropact.surgery._recognise import (
    CannotConvertError,
    behaves_as,
    is_function,
    same_function,
    stock_module,
)
from dropact.surgery._resolve import UNKNOWN, attribute, entry
from dropact.surgery._scan import STARRED, Call, base_name, calls_in, why_not_editable, why_not_there
from dropact.surgery._source import Place, UnreadableError, end_of, function_codes, mangled, read, unwrapped, written_in


@dataclass(frozen=True)
class At:
    """A method of one of the model's modules at work: ``frame`` runs its code, or that of a function inside it."""

    owner: nn.Module
    function: FunctionType
    frame: FrameType

    @property
    def key(self) -> tuple[int, CodeType, Place | None]:
        return id(self.owner), self.function.__code__, end_of_call(self.frame)


def methods_by_code(classes: Iterable[type[nn.Module]]) -> dict[CodeType, FunctionType]:
    """The methods of module classes by their code and by that of the functions inside them."""
    found: dict[CodeType, FunctionType] = {}
    for cls in {c for module_class in classes for c in module_class.__mro__ if issubclass(c, nn.Module)} - {nn.Module}:
        for value in vars(cls).values():
            function = unwrapped(value) if callable(value) and not isinstance(value, staticmethod) else None
            if function is not None and function.__code__.co_argcount:
                found |= dict.fromkeys(function_codes(function), function)
    return found


def locate(frame: FrameType | None, by_code: dict[CodeType, FunctionType], modules: Container[int]) -> At | None:
    """The innermost method of the model's modules (by ``id``) at work in ``frame`` or in what called it."""
    while frame is not None:
        function = by_code.get(frame.f_code)
        if function is not None and (owner := _owner(frame, function, modules)) is not None:
            return At(owner, function, frame)
        frame = frame.f_back
    return None


def _owner(frame: FrameType, function: FunctionType, modules: Container[int]) -> nn.Module | None:
    """The module whose method ``function`` is at work; ``frame`` runs its code or that of a function inside it."""
    self_name = function.__code__.co_varnames[0]
    outer: FrameType | None = frame
    while outer is not None:
        if outer.f_code is function.__code__ and id(owner := outer.f_locals.get(self_name)) in modules:
            return owner
        outer = outer.f_back
    # An inner function may outlive the call that made it; one made by __init__ is a function like any other.
    owner = frame.f_locals.get(self_name)
    if id(owner) in modules and any(m.function is function for m in methods(type(owner)).values()):
        return owner
    return None


def end_of_call(frame: FrameType) -> Place | None:
    """Where the call expression ends that ``frame`` is executing; ``None`` where Python keeps no columns."""
    _, line, _, column = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    return None if line is None or column is None else (line, column)


def callee(frame: FrameType, caller: FrameType) -> FrameType | None:
    """What ``caller`` called, of the frames from ``frame`` outward."""
    inner = None
    while frame is not caller and frame is not None:
        inner, frame = frame, frame.f_back  # type: ignore[assignment]
    return inner


def line_of(frame: FrameType) -> str:
    return f"{PurePath(written_in(frame.f_code)).name}:{frame.f_lineno}"


def caller(frame: FrameType) -> FrameType:
    """The innermost frame outside torch."""
    outer: FrameType | None = frame
    while outer is not None and is_of_torch(outer):
        outer = outer.f_back
    return outer or frame


def is_of_torch(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "torch"


def call_at(at: At, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], by: FrameType) -> Call:
    """The call expression that led to ``func(x, *args, **kwargs)``, a function of torch called by the frame ``by``.

    Raises:
        CannotConvertError: there is none that could call a layer instead.
    """
    if (problem := why_not_editable(at.owner)) is not None:
        raise CannotConvertError(problem)
    reached = next((m for m in methods(type(at.owner)).values() if m.function is at.function), None)
    if reached is None:
        raise CannotConvertError(f"the source of forward does not show how {at.function.__qualname__} is reached")
    try:
        source = read(at.function)
    except UnreadableError as error:
        raise CannotConvertError(str(error)) from error
    end = end_of_call(at.frame)
    node = next((node for node in calls_in(source) if end_of(node) == end), None)
    if node is None:
        raise CannotConvertError("it is not called in a call expression of its own")
    value = _value(node.func, at)
    words = {word.arg: word.value for word in node.keywords}
    argument = node.args[0] if node.args else words.get("input")
    direct = is_function(value) and same_function(value, func)
    if _is_method(node.func, func, value):
        assert isinstance(node.func, ast.Attribute)
        argument, direct = node.func.value, True
    elif not direct:
        alone = len(node.args) == 1 and not words
        if value is UNKNOWN or not alone or isinstance(value, nn.Module) or behaves_as(value) is None:
            raise CannotConvertError(_passed_on(ast.unparse(node.func), value, at, by))
    if argument is None or isinstance(argument, ast.Starred) or None in words:
        raise CannotConvertError(STARRED)
    activation = stock_module(func, args, kwargs) if direct else value
    call = Call(reached.key, source, node, None, argument, activation, base=base_name(func if direct else value))
    call.problem = why_not_there(call)
    return call


def _passed_on(to: str, value: Any, at: At, by: FrameType) -> str:
    if isinstance(value, nn.Module) and by is at.frame:
        return f"{to}() is a {type(value).__name__} that is no child of the model: make it one, or use nn.ModuleList"
    if by is at.frame:
        return f"{to}() calls it: write the call out here, or make it a module"
    where = f"{by.f_code.co_qualname} ({line_of(by)})"
    return f"it is called in {where}, no method of a module, and {to}() as a whole is no elementwise function"


def _is_method(node: ast.expr, func: Any, value: Any) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == func.__name__
        and getattr(Tensor, node.attr, None) is func
        and (value is UNKNOWN or isinstance(getattr(value, "__self__", None), Tensor))
    )


def _value(node: ast.expr, at: At) -> Any:
    if isinstance(node, ast.Name):
        for names in (at.frame.f_locals, at.frame.f_globals, at.frame.f_builtins):
            if node.id in names:
                return names[node.id]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Attribute):
        return attribute(_value(node.value, at), mangled(node.attr, at.function))
    if isinstance(node, ast.Subscript):
        return entry(_value(node.value, at), _value(node.slice, at))
    if isinstance(node, ast.Call) and len(node.args) == 2 and _value(node.func, at) is getattr:
        return attribute(*(_value(arg, at) for arg in node.args))
    return UNKNOWN
