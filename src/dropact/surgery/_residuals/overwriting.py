"""Which calls change their argument in place, and which names mean the same tensor."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from torch import nn

from dropact.surgery._methods import methods
from dropact.surgery._residuals.dataflow import Condition, binds, overwritten, writes
from dropact.surgery._residuals.static_conditions import StaticConditions
from dropact.surgery._resolve import UNKNOWN, Resolver
from dropact.surgery._source import UnreadableError, read


class Overwriting:
    """Asked for a call: whether it is one of a module that changes its argument in place, by itself or inside."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: dict[int, bool] = {}

    def __call__(self, call: ast.Call) -> bool:
        called = self._resolver.value(call.func)
        if not isinstance(called, nn.Module):
            return False
        if id(called) not in self._known:
            self._known[id(called)] = overwrites(called)
        return self._known[id(called)]

    def returned(self, value: ast.expr) -> list[str]:
        """The names of which an expression may be the tensor: the name itself, or what a call changes in place."""
        if isinstance(value, ast.Name):
            return [value.id]
        if isinstance(value, ast.IfExp):
            return [*self.returned(value.body), *self.returned(value.orelse)]
        if isinstance(value, ast.Call) and _passes_on(self._resolver.value(value.func)):
            return [name for given in value.args[:1] for name in self.returned(given)]
        if not isinstance(value, ast.Call) or not overwritten(ast.Return(value), self):
            return []
        of = [value.func.value] if isinstance(value.func, ast.Attribute) else []
        return [n.id for n in (*of, *value.args[:1]) if isinstance(n, ast.Name) and self._resolver.value(n) is UNKNOWN][
            :1
        ]


def in_line(module: nn.Module) -> Iterator[nn.Module]:
    """A module, or those that a sequence of modules calls one after the other."""
    if type(module).forward is nn.Sequential.forward:
        for part in module._modules.values():
            if part is not None:
                yield from in_line(part)
    else:
        yield module


def _passes_on(called: object) -> bool:
    """Whether it returns what it is given."""
    return isinstance(called, nn.Module) and all(isinstance(part, nn.Identity) for part in in_line(called))


def overwrites(module: nn.Module) -> bool:
    """Whether a module changes its argument in place, rather than what it makes of it.

    >>> act, linear = nn.ReLU(inplace=True), nn.Linear(2, 2)
    >>> overwrites(act), overwrites(nn.Sequential(nn.Identity(), act)), overwrites(nn.Sequential(linear, act))
    (True, True, False)
    """
    if getattr(module, "inplace", False) is True:
        return True
    if not any(getattr(m, "inplace", False) is True for m in module.modules()):
        return False
    if type(module).forward is nn.Sequential.forward:
        first = next((m for m in module if not isinstance(m, nn.Identity)), None)  # type: ignore[attr-defined]
        return first is not None and overwrites(first)
    method = methods(type(module)).get("forward")
    try:
        source = read(method.function) if method is not None and "forward" not in vars(module) else None
    except UnreadableError:
        source = None
    if source is None:
        return True  # for all that is known
    resolver = Resolver(module, source)
    names = [a.arg for a in ast.walk(source.node.args) if isinstance(a, ast.arg) and a.arg != source.self_name]
    changed = changes(source.node.body, Overwriting(resolver), StaticConditions(resolver), names)
    return any(f"given {name}" in found for name in names for found in changed)


def changes(
    statements: Sequence[ast.stmt], overwriting: Overwriting, truth: Condition, arguments: Sequence[str] = ()
) -> list[set[str]]:
    """For each statement the names that it may bind anew or whose tensor it may change in place, under any name.

    Args:
        arguments: names whose tensors from before are looked after as "given NAME".
    """
    same: dict[str, set[str]] = {}  # by name, the others that may mean the same tensor

    def join(name: str, other: str) -> None:
        same.setdefault(name, set()).add(other)
        same.setdefault(other, set()).add(name)

    for name in arguments:
        join(name, f"given {name}")
    found = []
    for statement in statements:
        changed = overwritten(statement, overwriting)
        found.append(writes(statement, overwriting).union(*(same.get(name, set()) for name in changed)))
        joined = [(name, {other, *same.get(other, set())}) for name, other in _aliases(statement, overwriting)]
        for name in set() if isinstance(statement, ast.AugAssign) else binds(statement, truth):
            for other in same.pop(name, set()):
                same[other].discard(name)
        for name, others in joined:
            for other in others - {name}:
                join(name, other)
    return found


def _aliases(statement: ast.stmt, overwriting: Overwriting) -> Iterator[tuple[str, str]]:
    """The pairs of names of which the first may afterwards mean the tensor of the second."""
    for node in ast.walk(statement):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):  # x, y = a, b
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for one, other in pairs:
                if isinstance(one, ast.Name):
                    yield from ((one.id, source) for source in overwriting.returned(other))
