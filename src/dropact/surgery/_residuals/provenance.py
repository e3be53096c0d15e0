"""What a value in a method depends on, and through how many weights it has passed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import FunctionType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from dropact.surgery._methods import methods
from dropact.surgery._residuals.dataflow import binds, may_bind
from dropact.surgery._residuals.static_conditions import StaticConditions
from dropact.surgery._resolve import UNKNOWN, Resolver
from dropact.surgery._source import UnreadableError, read

SOME = 1  # weights that a call of unknown contents is taken to have


Passed = frozenset[tuple[ast.Call, int]]
Dependence = list[tuple[str, bool]]  # by argument


@dataclass(frozen=True)
class Provenance:
    """The arguments and earlier sums that a value comes from, each with the calls that have weights on the way from
    there, and how many they have."""

    paths: Mapping[str, Passed] = field(default_factory=dict)

    @classmethod
    def of(cls, *roots: str) -> Provenance:
        return cls(dict.fromkeys(roots, frozenset()))

    def __or__(self, other: Provenance) -> Provenance:
        roots = {**self.paths, **other.paths}
        return Provenance({r: self.paths.get(r, frozenset()) | other.paths.get(r, frozenset()) for r in roots})

    def through(self, call: ast.Call, count: int) -> Provenance:
        return Provenance({root: passed | {(call, count)} for root, passed in self.paths.items()})

    def shares_with(self, other: Provenance) -> bool:
        return not self.paths.keys().isdisjoint(other.paths)

    def passed_alone(self, other: Provenance) -> Passed:
        """What this value has passed since what both come from, if anything, and the other has not."""
        common = self.paths.keys() & other.paths.keys()
        mine, others = (frozenset().union(*(w.paths[root] for root in common or w.paths)) for w in (self, other))
        return mine - others


def weights(passed: Passed) -> int:
    return sum(count for _, count in passed)


NOTHING = Provenance()


_LOSS = re.compile("(?:loss|cross_entropy.*|kl_div)$")
# What is read of a tensor without its values.
_SHAPE = {"shape", "ndim", "dtype", "device", "size", "dim", "numel", "stride", "is_cuda", "requires_grad"}


def _is_of_shape(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return _is_of_shape(node.func) or (isinstance(node.func, ast.Name) and node.func.id == "len")
    return isinstance(node, ast.Attribute) and node.attr in _SHAPE


class Provenances:
    """The provenances of a method's variables, statement by statement."""

    def __init__(self, arguments: Iterable[str], resolver: Resolver, truth: StaticConditions | None = None) -> None:
        self._resolver, self._truth = resolver, truth or StaticConditions(resolver)
        self.of: dict[str, Provenance] = {name: Provenance.of(name) for name in arguments}
        self.sums: dict[ast.AST, Provenance] = {}  # residual sums, which begin anew
        self.sequences: set[str] = set()  # names of tuples and lists
        self.bound = set(self.of)  # names that have a value, loops taken to be run through
        self.given = set(self.of)  # those that may have had one where the suite begins
        self._known: dict[FunctionType, Dependence | None] = {}

    def copy(self) -> Provenances:
        twin = Provenances((), self._resolver, self._truth)
        twin.of, twin.sequences, twin.sums, twin._known = dict(self.of), set(self.sequences), self.sums, self._known
        twin.bound, twin.given = set(self.bound), self.bound | set(self.of)
        return twin

    def value(self, node: ast.AST) -> Provenance:
        if (sum_of := self.sums.get(node)) is not None:
            return sum_of
        if isinstance(node, ast.Name):
            return self.of.get(node.id, NOTHING)
        if isinstance(node, ast.IfExp) and (known := self._truth(node.test)) is not None:
            return self.value(node.body if known else node.orelse)
        if isinstance(node, ast.Lambda | ast.Constant) or _is_of_shape(node):
            return NOTHING
        if isinstance(node, ast.Call) and (self._looks_up(node) or self._reduces(node)):
            return NOTHING
        inner = NOTHING
        for child in ast.iter_child_nodes(node):
            inner |= self.value(child)
        if not isinstance(node, ast.Call) or not inner.paths:
            return inner
        if self._ignores(node):
            return NOTHING
        count = self._weights(node)
        return inner.through(node, count) if count else inner

    def is_sequence(self, node: ast.expr) -> bool:
        """Whether it is a tuple or a list, of which ``+`` makes a longer one, or a text."""
        if isinstance(node, ast.Tuple | ast.List | ast.ListComp | ast.JoinedStr):
            return True
        if isinstance(node, ast.Name):
            return node.id in self.sequences
        if isinstance(node, ast.Subscript):
            return isinstance(node.slice, ast.Slice) and self.is_sequence(node.value)
        if isinstance(node, ast.BinOp):
            return isinstance(node.op, ast.Add) and (self.is_sequence(node.left) or self.is_sequence(node.right))
        return isinstance(node, ast.Constant) and isinstance(node.value, str)

    def is_mixture(self, node: ast.expr, branch: Provenance) -> bool:
        """Whether it is a product with a gate that the branch has passed as well, as in (1 - z) * h + z * q."""
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult):
            return False
        left, right = self.value(node.left), self.value(node.right)
        return bool(left.paths and right.paths) and any(
            one.passed_alone(other) & frozenset().union(*branch.paths.values())
            for one, other in ((left, right), (right, left))
        )

    def _looks_up(self, call: ast.Call) -> bool:
        """An embedding is no function of what it is looked up by: positions are no branch."""
        called = self._resolver.value(call.func)
        functions = called is F.embedding or called is F.embedding_bag
        return functions or isinstance(called, nn.Embedding | nn.EmbeddingBag)

    def _reduces(self, call: ast.Call) -> bool:
        """To a single number: a loss, a mean over everything."""
        called = self._resolver.value(call.func)
        if isinstance(called, _Loss) or (
            getattr(called, "__module__", None) == F.__name__ and _LOSS.search(getattr(called, "__name__", ""))
        ):
            return True
        if called is torch.mean or called is torch.sum:
            return len(call.args) == 1 and not call.keywords
        reduces = isinstance(call.func, ast.Attribute) and call.func.attr in ("mean", "sum", "item")
        return reduces and called is UNKNOWN and not call.args and not call.keywords

    def _ignores(self, call: ast.Call) -> bool:
        """A method of the module that takes no more of its arguments than their shapes."""
        function = self._method(call.func)
        read_of = None if function is None else self._dependence(function)
        if read_of is None or any(isinstance(a, ast.Starred) for a in call.args):
            return False
        if any(word.arg is None for word in call.keywords):
            return False
        order = [name for name, _ in read_of]
        given = {**dict(zip(order, call.args, strict=False)), **{str(word.arg): word.value for word in call.keywords}}
        return not any(self.value(given[name]).paths for name, wanted in read_of if wanted and name in given)

    def _dependence(self, function: FunctionType) -> Dependence | None:
        """Of each argument of a method whether what it returns comes from there; ``None`` where that is not clear."""
        if function not in self._known:
            self._known[function] = None  # while it is looked at: it may call itself
            self._known[function] = self._read_dependence(function)
        return self._known[function]

    def _read_dependence(self, function: FunctionType) -> Dependence | None:
        try:
            source = read(function)
        except UnreadableError:
            return None
        arguments = source.node.args
        inside = (ast.FunctionDef, ast.Lambda, ast.Yield)
        if (
            arguments.vararg
            or arguments.kwarg
            or any(isinstance(n, inside) for statement in source.node.body for n in ast.walk(statement))
        ):
            return None
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)][1:]
        inner = Provenances(names, Resolver(self._resolver.owner, source))
        inner._known = self._known
        returns: list[Provenance] = []
        inner.returned(source.node.body, returns)
        wanted: set[str] = set().union(*(provenance.paths for provenance in returns))
        return [(name, name in wanted) for name in names]

    def _method(self, node: ast.expr) -> FunctionType | None:
        """The method of the module's class that ``self.name`` is."""
        if not isinstance(node, ast.Attribute) or not self._resolver.is_self(node.value):
            return None
        found = methods(type(self._resolver.owner)).get(node.attr)
        return found.function if found is not None and self._resolver.value(node) is UNKNOWN else None

    def returned(self, statements: Iterable[ast.stmt], found: list[Provenance]) -> None:
        """Adds what these statements may return, and runs them."""
        for statement in statements:
            if isinstance(statement, ast.Return):
                found.append(NOTHING if statement.value is None else self.value(statement.value))
            elif isinstance(statement, ast.If | ast.With | ast.For | ast.While | ast.Try):
                for side in (getattr(statement, name, []) for name in ("body", "orelse", "finalbody")):
                    self.copy().returned(side, found)
            self.run(statement)

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
        modules += SOME * sum(self._method(value) is not None for value in call.args)  # checkpoint(self.body, x)
        return modules + sum(isinstance(value, Tensor) and value.dim() >= 2 for value in given)

    def run(self, statement: ast.stmt) -> None:
        """Follow a statement."""
        self.bound |= binds(statement, self._truth) if isinstance(statement, ast.If) else may_bind(statement)
        sum_of = self.sums.get(statement)
        if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            if statement.value is None:
                return
            provenance = self.value(statement.value)
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(statement, ast.AugAssign):
                    provenance = sum_of if sum_of is not None else provenance | self.value(target)
                for name in ast.walk(target):
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                        self.of[name.id] = provenance
                if isinstance(target, ast.Name) and not isinstance(statement, ast.AugAssign):
                    longer = {target.id} if self.is_sequence(statement.value) else set()
                    self.sequences = self.sequences - {target.id} | longer
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
            self.sequences |= twin.sequences
        names = set().union(*ends) if ends else set()
        if ends:
            self.of = {name: _joined(end.get(name, NOTHING) for end in ends) for name in names}


def _joined(provenances: Iterable[Provenance]) -> Provenance:
    whole = NOTHING
    for provenance in provenances:
        whole |= provenance
    return whole
