"""Additions as they are written: ``a + b``, ``a += b``, ``a.add(b)``, ``torch.add(a, b)``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dropact.surgery._residuals.dataflow import Condition


def adds(node: ast.AST) -> bool:
    return any(
        (isinstance(n, ast.BinOp | ast.AugAssign) and isinstance(n.op, ast.Add)) or _is_add_call(n)
        for n in ast.walk(node)
    )


def _is_add_call(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.keywords:
        return False
    count = {"add": (1, 2), "add_": (1,), "add_relu": ()}.get(node.func.attr, ())
    return len(node.args) in count and not any(isinstance(a, ast.Starred) for a in node.args)


def operands(node: ast.AST) -> tuple[ast.expr, ast.expr]:
    if isinstance(node, ast.BinOp):
        return node.left, node.right
    if isinstance(node, ast.AugAssign):
        return ast.Name(node.target.id, ast.Load()), node.value  # type: ignore[union-attr]
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Attribute)
    return (node.args[0], node.args[1]) if len(node.args) == 2 else (node.func.value, node.args[0])


def additions(statement: ast.stmt, truth: Condition) -> Iterator[ast.AST]:
    """The additions that a statement does, inner ones first."""

    def within(node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            return
        known = truth(node.test) if isinstance(node, ast.IfExp) else None
        dead = None if known is None else node.orelse if known else node.body  # type: ignore[attr-defined]
        for child in ast.iter_child_nodes(node):
            if child is not dead:
                yield from within(child)
        plus = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)
        augmented = (
            isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name)
        )
        if plus or augmented or _is_add_call(node):
            yield node

    yield from within(statement)


def replace(statement: ast.stmt, old: ast.AST, new: ast.expr) -> None:
    for node in ast.walk(statement):
        for field, value in ast.iter_fields(node):
            if value is old:
                setattr(node, field, new)
                return
            if isinstance(value, list):
                for index, item in enumerate(value):
                    if item is old:
                        value[index] = new
                        return
