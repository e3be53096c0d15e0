"""What a value in a method depends on, and through how many weights it has passed."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from dropact.surgery._resolve import UNKNOWN, Resolver

SOME = 1  # weights that a call of unknown contents is taken to have


Passed = frozenset[tuple[ast.Call, int]]


@dataclass(frozen=True)
class Worth:
    """The arguments and earlier sums that a value comes from, each with the calls that have weights on the way from
    there, and how many they have."""

    paths: Mapping[str, Passed] = field(default_factory=dict)

    @classmethod
    def of(cls, *roots: str) -> Worth:
        return cls(dict.fromkeys(roots, frozenset()))

    def __or__(self, other: Worth) -> Worth:
        roots = {**self.paths, **other.paths}
        return Worth({r: self.paths.get(r, frozenset()) | other.paths.get(r, frozenset()) for r in roots})

    def through(self, call: ast.Call, count: int) -> Worth:
        return Worth({root: passed | {(call, count)} for root, passed in self.paths.items()})

    def shares_with(self, other: Worth) -> bool:
        return not self.paths.keys().isdisjoint(other.paths)

    def passed_alone(self, other: Worth) -> Passed:
        """What this value has passed since what both come from, if anything, and the other has not."""
        common = self.paths.keys() & other.paths.keys()
        mine, others = (frozenset().union(*(w.paths[root] for root in common or w.paths)) for w in (self, other))
        return mine - others


def weights(passed: Passed) -> int:
    return sum(count for _, count in passed)


NOTHING = Worth()


# What is read of a tensor without its values.
_SHAPE = {"shape", "ndim", "dtype", "device", "size", "dim", "numel", "stride", "is_cuda", "requires_grad"}


def _is_of_shape(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return _is_of_shape(node.func) or (isinstance(node.func, ast.Name) and node.func.id == "len")
    return isinstance(node, ast.Attribute) and node.attr in _SHAPE


class Truths:
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
        return None

    def _value(self, node: ast.expr) -> tuple[bool, object]:
        if isinstance(node, ast.Constant):
            return True, node.value
        if isinstance(node, ast.Attribute) and node.attr == "training":
            return False, None
        value = self._resolver.value(node)
        return value is not UNKNOWN, value


class Worths:
    """The worths of a method's variables, statement by statement."""

    def __init__(self, arguments: Iterable[str], resolver: Resolver, truth: Truths) -> None:
        self._resolver, self._truth = resolver, truth
        self.of: dict[str, Worth] = {name: Worth.of(name) for name in arguments}

    def copy(self) -> Worths:
        twin = Worths((), self._resolver, self._truth)
        twin.of = dict(self.of)
        return twin

    def value(self, node: ast.AST) -> Worth:
        if (stream := getattr(node, "stream", None)) is not None:
            return Worth.of(stream)
        if isinstance(node, ast.Name):
            return self.of.get(node.id, NOTHING)
        if isinstance(node, ast.IfExp) and (known := self._truth(node.test)) is not None:
            return self.value(node.body if known else node.orelse)
        if isinstance(node, ast.Lambda | ast.Constant) or _is_of_shape(node):
            return NOTHING
        inner = NOTHING
        for child in ast.iter_child_nodes(node):
            inner |= self.value(child)
        if isinstance(node, ast.Call) and self._looks_up(node):
            return NOTHING  # an embedding is not a function of what it is looked up by: positions are no branch
        if isinstance(node, ast.Call) and inner.paths and (count := self._weights(node)):
            return inner.through(node, count)
        return inner

    def _looks_up(self, call: ast.Call) -> bool:
        called = self._resolver.value(call.func)
        functions = called is F.embedding or called is F.embedding_bag
        return functions or isinstance(called, nn.Embedding | nn.EmbeddingBag)

    def _weights(self, call: ast.Call) -> int:
        """Those that a call adds: of the module called, or of the parameters among a function's arguments."""
        called = self._resolver.value(call.func)
        if isinstance(called, nn.Module):
            return sum(p.dim() >= 2 for p in called.parameters())
        if self._resolver.is_self(getattr(call.func, "value", ast.Constant(None))) and called is UNKNOWN:
            return SOME  # a method of the module
        if called is UNKNOWN and isinstance(call.func, ast.Subscript | ast.Name):
            return SOME  # of a list of modules, perhaps
        given = [self._resolver.value(value) for value in (*call.args, *(word.value for word in call.keywords))]
        modules = sum(p.dim() >= 2 for value in given if isinstance(value, nn.Module) for p in value.parameters())
        return modules + sum(isinstance(value, Tensor) and value.dim() >= 2 for value in given)

    def run(self, statement: ast.stmt) -> None:
        """What the variables are worth after a statement."""
        stream = getattr(statement, "stream", None)
        if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            if statement.value is None:
                return
            worth = self.value(statement.value)
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(statement, ast.AugAssign):
                    worth = Worth.of(stream) if stream is not None else worth | self.value(target)
                for name in ast.walk(target):
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                        self.of[name.id] = worth
        elif isinstance(statement, ast.Expr):
            base = getattr(getattr(statement.value, "func", None), "value", None)
            if isinstance(base, ast.Name):  # things.append(x)
                self.of[base.id] = self.value(statement.value)
        elif isinstance(statement, ast.If):
            known = self._truth(statement.test)
            sides = [s for s, runs in ((statement.body, known is not False), (statement.orelse, not known)) if runs]
            self._join(sides)
        elif isinstance(statement, ast.With):
            self._join([statement.body])
        elif isinstance(statement, ast.For | ast.While | ast.Try):
            if isinstance(statement, ast.For):
                self.forget(statement.target)
            self._join([statement.body, []])

    def forget(self, target: ast.expr) -> None:
        for name in ast.walk(target):
            if isinstance(name, ast.Name):
                self.of[name.id] = NOTHING

    def _join(self, sides: list[list[ast.stmt]]) -> None:
        ends = []
        for side in sides:
            twin = self.copy()
            for statement in side:
                twin.run(statement)
            ends.append(twin.of)
        names = set().union(*ends) if ends else set()
        if ends:
            self.of = {name: _joined(end.get(name, NOTHING) for end in ends) for name in names}


def _joined(worths: Iterable[Worth]) -> Worth:
    whole = NOTHING
    for worth in worths:
        whole |= worth
    return whole
