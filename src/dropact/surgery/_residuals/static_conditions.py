"""Which way a test goes that the module at hand decides."""

from __future__ import annotations

import ast
import operator

from torch import nn

from dropact.surgery._resolve import UNKNOWN, Resolver

_ORDERS = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}


class StaticConditions:
    """Tests that the module at hand decides: of its own attributes, the mode it is in aside."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def __call__(self, test: ast.expr) -> bool | None:
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self(test.operand)
            return None if inner is None else not inner
        if isinstance(test, ast.BoolOp):
            values = [self(value) for value in test.values]
            ends = isinstance(test.op, ast.Or)
            return ends if ends in values else None if None in values else not ends
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            return self._compared(test)
        if isinstance(test, ast.Constant):
            return bool(test.value)
        known, value = self._value(test)
        return bool(value) if known and isinstance(value, bool | int | float | str | nn.Module | None) else None

    def _compared(self, test: ast.Compare) -> bool | None:
        (one_known, one), (other_known, other) = self._value(test.left), self._value(test.comparators[0])
        if not (one_known and other_known):
            return None
        op = test.ops[0]
        if isinstance(op, ast.Is | ast.IsNot) and (one is None or other is None):
            return (one is other) == isinstance(op, ast.Is)
        simple = all(isinstance(value, bool | int | float | str | None) for value in (one, other))
        if isinstance(op, ast.Eq | ast.NotEq) and simple:
            return (one == other) == isinstance(op, ast.Eq)
        order = _ORDERS.get(type(op))
        if order is not None and isinstance(one, int | float) and isinstance(other, int | float):
            return order(one, other)
        return None

    def _value(self, node: ast.expr) -> tuple[bool, object]:
        if isinstance(node, ast.Constant):
            return True, node.value
        if isinstance(node, ast.Attribute) and node.attr == "training":
            return False, None
        value = self._resolver.value(node)
        return value is not UNKNOWN, value
