"""What an expression in a method stands for, as far as that can be said without running it."""

from __future__ import annotations

import ast
import builtins
import inspect
from functools import partial
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from dropact.surgery._methods import closure
from dropact.surgery._recognise import METHOD_NAMES, is_function
from dropact.surgery._source import Source, mangled

UNKNOWN = object()  # what only a run can tell


class Resolver:
    """What an expression in a method stands for, as far as that can be said without running it."""

    def __init__(self, owner: nn.Module, source: Source) -> None:
        self.owner, self._source = owner, source
        self._bound = {
            name
            for node in ast.walk(source.node)
            for name in (
                [node.id] if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) else
                [node.arg] if isinstance(node, ast.arg) else
                [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else
                [alias.asname or alias.name.partition(".")[0] for alias in node.names]
                if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
        }  # fmt: skip

    def is_self(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self._source.self_name

    def value(self, node: ast.expr) -> Any:
        if self.is_self(node):
            return self.owner
        if isinstance(node, ast.Name):
            if node.id in self._bound:
                return UNKNOWN
            function = self._source.function
            outer = function.__globals__
            builtin = vars(builtins).get(node.id, UNKNOWN)
            return closure(function).get(node.id, outer.get(node.id, builtin))
        if isinstance(node, ast.Attribute):
            return attribute(self.value(node.value), mangled(node.attr, self._source.function))
        if isinstance(node, ast.Subscript):
            return entry(self.value(node.value), self.constant(node.slice))
        if isinstance(node, ast.Call) and self.value(node.func) is getattr and len(node.args) == 2:
            return attribute(self.value(node.args[0]), self.constant(node.args[1]))
        return UNKNOWN

    def constant(self, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(node)
        except ValueError:
            value = self.value(node)
            varies = isinstance(node, ast.Attribute) and node.attr == "training"
            return value if isinstance(value, bool | int | float | str) and not varies else UNKNOWN

    def is_of_weights(self, node: ast.expr) -> bool:
        """Whether an expression is of the module's parameters and buffers and of nothing that passes through it."""
        stored = {n.attr for n in ast.walk(self._source.node) if isinstance(n, ast.Attribute) and _is_store(n)}
        attributes = {id(n.value): n for n in ast.walk(node) if isinstance(n, ast.Attribute)}
        found = False
        for part in ast.walk(node):
            if not isinstance(part, ast.Name) or not (self.is_self(part) or part.id in self._bound):
                continue
            if not self.is_self(part):
                return False
            value, at = self.value(part), attributes.get(id(part))
            while at is not None and isinstance(value, nn.Module):  # along self.a.b.c as far as there are modules
                if at.attr in stored:
                    return False  # what passed through before
                value = _held(value, mangled(at.attr, self._source.function))
                at = attributes.get(id(at))
            if not isinstance(value, Tensor | int | float | str | None) and not _without_weights(value):
                return False
            found = found or isinstance(value, Tensor)
        return found

    def may_be_tensor_method(self, node: ast.Call) -> bool:
        func = node.func
        return (
            isinstance(func, ast.Attribute)
            and func.attr in METHOD_NAMES
            and (not node.args or func.attr == "hardshrink")
            and not node.keywords
            and self.value(func.value) is UNKNOWN
        )


def _is_store(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def _held(module: nn.Module, name: str) -> Any:
    return getattr(module, name) if is_parametrized(module, name) else attribute(module, name)


def _without_weights(value: Any) -> bool:
    return isinstance(value, nn.Module) and not any(True for _ in value.parameters())


def entry(table: Any, key: Any) -> Any:
    """What a plain container has under a key."""
    if key is UNKNOWN or type(table) not in (list, tuple, dict):
        return UNKNOWN
    try:
        return table[key]
    except (LookupError, TypeError):
        return UNKNOWN


def attribute(value: Any, name: Any) -> Any:
    if not isinstance(name, str):
        return UNKNOWN
    if isinstance(value, ModuleType | type):
        return getattr(value, name, UNKNOWN)
    if isinstance(value, nn.Module):
        for held in (vars(value), value._modules, value._parameters, value._buffers):
            if name in held:
                return held[name]
        static = inspect.getattr_static(type(value), name, UNKNOWN)
        if isinstance(static, staticmethod | classmethod):
            return static.__func__
        return static if isinstance(static, partial) or not hasattr(type(static), "__get__") else UNKNOWN
    held = getattr(value, "__dict__", {}).get(name, UNKNOWN)  # of an object of somebody's own: it may change
    return held if is_function(held) else UNKNOWN
