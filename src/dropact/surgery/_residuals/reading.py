"""The residual additions in a module's methods, and the same methods with each branch in a function of its own."""

from __future__ import annotations

import ast
import copy
import textwrap
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from torch import nn

from dropact.surgery._edit import Edit, span
from dropact.surgery._methods import methods
from dropact.surgery._residuals.additions import additions, adds, operands, replace
from dropact.surgery._residuals.dataflow import Condition, binds, cut, exposed, may_bind, names_read
from dropact.surgery._residuals.judgement import begins_outside, why_none
from dropact.surgery._residuals.overwriting import Overwriting, changes, in_line
from dropact.surgery._residuals.provenance import Provenance, Provenances, weights
from dropact.surgery._residuals.static_conditions import StaticConditions
from dropact.surgery._resolve import UNKNOWN, Resolver
from dropact.surgery._scan import why_not_editable
from dropact.surgery._source import Source, UnreadableError, end_of, read, start_of


@dataclass(eq=False)
class Residual:
    """One addition of a branch to a shortcut.

    Attributes:
        name: dotted, of the layer that takes its place or would.
        owner: the module in whose method it stands; ``child`` is the layer's name there.
        text: the addition as it is written, at ``location``.
        drop_path: the module in its branch that drops it already, if any.
        condition: the test, known only when it runs, that it depends on.
        problem: why it cannot be dropped.
        doubtful: whether it may be no residual addition at all.
    """

    name: str
    owner: nn.Module
    child: str
    text: str
    location: str
    drop_path: nn.Module | None = None
    condition: str = ""
    problem: str | None = None
    doubtful: bool = False


Wanted = Callable[[Residual], bool]


@dataclass
class Reading:
    """What was found in a module, and how to edit its methods, by their key, for those wanted."""

    found: list[Residual]
    unreached: list[str]  # tests that keep a module from adding anything
    edits: dict[str, list[Edit]]


def read_residuals(name: str, owner: nn.Module, drop_paths: Collection[int], wanted: Wanted) -> Reading:
    """The residual additions in the methods of ``owner`` that its forward reaches.

    Args:
        drop_paths: what drops a branch already, by id.
        wanted: asked for each addition that can be edited whether to do so.
    """
    reading = Reading([], [], {})
    if "forward" in vars(owner) or not owner._modules:
        return reading
    names = _names(owner)
    problem = why_not_editable(owner)
    for method in methods(type(owner)).values():
        try:
            source = read(method.function)
        except UnreadableError:
            continue
        if not adds(source.node):
            continue
        rewriter = _Rewriter(name, owner, source, names, drop_paths, wanted, problem)
        rewriter.run()
        reading.found += rewriter.found
        reading.unreached += rewriter.unreached
        if rewriter.changed:
            reading.edits[method.key] = [rewriter.edit()]
    return reading


def _names(owner: nn.Module) -> Iterator[str]:
    number = 1
    while True:
        name = "residual" if number == 1 else f"residual_{number}"
        if not hasattr(owner, name):
            yield name
        number += 1


class _Rewriter:
    def __init__(
        self,
        name: str,
        owner: nn.Module,
        source: Source,
        names: Iterator[str],
        drop_paths: Collection[int],
        wanted: Wanted,
        problem: str | None,
    ) -> None:
        self._prefix, self._owner, self._source, self._names = f"{name}.".lstrip("."), owner, source, names
        self._drop_paths, self._wanted, self._problem = drop_paths, wanted, problem
        self._node = copy.deepcopy(source.node)
        self._resolver = Resolver(owner, source)
        self._truth = StaticConditions(self._resolver)
        self._overwriting = Overwriting(self._resolver)
        arguments = [a.arg for a in ast.walk(self._node.args) if isinstance(a, ast.arg)]
        self._self = source.self_name
        self._provenances = Provenances([a for a in arguments if a != self._self], self._resolver, self._truth)
        code = source.function.__code__
        self._local = {*code.co_varnames, *code.co_cellvars}
        self.found: list[Residual] = []
        self.unreached: list[str] = []
        self.changed = False

    def run(self) -> None:
        self._suite(self._node.body, [], self._provenances, "", loop=False)

    def edit(self) -> Edit:
        """The whole body anew, the docstring left where it is."""
        old, new = self._source.node.body, self._node.body
        if len(old) > 1 and isinstance(old[0], ast.Expr) and isinstance(old[0].value, ast.Constant):
            old, new = old[1:], new[1:]
        text = ast.unparse(ast.fix_missing_locations(ast.Module(body=new, type_ignores=[])))
        same_line = old[0].lineno == self._source.node.lineno
        column = self._source.node.col_offset + 4 if same_line else old[0].col_offset
        text = textwrap.indent(text, " " * column)
        text = "\n" + text if same_line else text.lstrip(" ")
        return span(self._source, start_of(old[0]), end_of(old[-1]), text)  # type: ignore[arg-type]

    def _suite(
        self, suite: list[ast.stmt], tails: list[list[ast.stmt]], provenances: Provenances, condition: str, loop: bool
    ) -> None:
        index = 0
        while index < len(suite):
            statement = suite[index]
            rest = [suite[index + 1 :], *tails]
            if isinstance(statement, ast.If) and adds(statement):
                known = self._truth(statement.test)
                test = ast.unparse(statement.test)
                if known is None:
                    self._suite(statement.body, rest, provenances.copy(), condition or test, loop)
                    self._suite(statement.orelse, rest, provenances.copy(), condition or f"not ({test})", loop)
                else:
                    runs, other = (statement.body, statement.orelse)[:: 1 if known else -1]
                    if self._would_add(other, rest, provenances):
                        self.unreached.append(f"{test} is {known}")
                    if self._would_add(runs, rest, provenances):
                        # For this module it is no question; what stands in it may belong to what stands before.
                        suite[index : index + 1] = runs
                        continue
            elif isinstance(statement, ast.With):
                self._suite(statement.body, rest, provenances.copy(), condition, loop)
            elif isinstance(statement, ast.For | ast.While):
                inner = provenances.copy()
                if isinstance(statement, ast.For):
                    inner.forget(statement.target)
                self._suite(statement.body, rest, inner, condition, loop=True)
            elif not isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Try):
                index = self._statement(suite, index, tails, provenances, condition, loop)
            provenances.run(suite[index])
            index += 1

    def _would_add(self, suite: list[ast.stmt], tails: list[list[ast.stmt]], provenances: Provenances) -> bool:
        """Whether code that never runs has a residual addition in it."""
        state = self.found, self.unreached, self._names, self._wanted
        self.found, self.unreached, self._names, self._wanted = [], [], _names(self._owner), lambda residual: False
        try:
            self._suite(copy.deepcopy(suite), tails, provenances.copy(), "", loop=False)
            return any(not residual.doubtful for residual in self.found)
        finally:
            self.found, self.unreached, self._names, self._wanted = state

    def _statement(
        self,
        suite: list[ast.stmt],
        index: int,
        tails: list[list[ast.stmt]],
        provenances: Provenances,
        condition: str,
        loop: bool,
    ) -> int:
        """Converts the additions of one statement, inner ones first; where it stands now."""
        as_written = [(node, ast.unparse(node)) for node in additions(suite[index], self._truth)]
        for node, text in as_written:
            left, right = operands(node)
            if provenances.is_sequence(left) or provenances.is_sequence(right):
                continue
            one, other = provenances.value(left), provenances.value(right)
            alone = one.passed_alone(other), other.passed_alone(one)
            heavy, light = map(weights, alone)
            if heavy == light == 0 or not one.paths or not other.paths:
                continue
            residual = self._residual(node, text, condition)
            if not one.shares_with(other):
                if min(heavy, light) == 0 and (outside := begins_outside(right if heavy else left)) is not None:
                    residual.problem, residual.doubtful = outside
                    self.found.append(residual)
                continue
            self.found.append(residual)
            branch, shortcut = (left, right) if heavy > light else (right, left)
            calls = {call for call, _ in alone[heavy < light]}
            called = [self._resolver.value(call.func) for call in calls]
            if (said := why_none(self._owner, branch, called, heavy, light)) is not None:
                residual.problem = said
            elif provenances.is_mixture(shortcut, provenances.value(branch)):
                residual.problem = "neither side is a shortcut: a gate mixes them"
            if residual.problem is not None and residual.problem != self._problem:
                residual.doubtful = True
                continue
            # A later branch of the same value, in parallel to this one, goes around the same shortcut.
            provenances.sums[node] = Provenance.of(f"+{residual.name}") | provenances.value(shortcut)
            if loop:
                residual.problem = "it stands in a loop, in which its branch is another one each time"
            if residual.problem is None:
                index = self._convert(suite, index, tails, provenances, node, branch, shortcut, calls, residual)
        return index

    def _residual(self, node: ast.AST, text: str, condition: str) -> Residual:
        child = next(self._names)
        text = text if len(text) <= 60 else f"{text[:57]}..."
        where = self._source.location(node)
        return Residual(
            self._prefix + child, self._owner, child, text, where, condition=condition, problem=self._problem
        )

    def _convert(
        self,
        suite: list[ast.stmt],
        index: int,
        tails: list[list[ast.stmt]],
        provenances: Provenances,
        node: ast.AST,
        branch: ast.expr,
        shortcut: ast.expr,
        calls: set[ast.Call],
        residual: Residual,
    ) -> int:
        statement = suite[index]
        elsewhere = _read_besides(statement, branch, self._truth)
        after = exposed([statement_ for tail in [suite[index + 1 :], *tails] for statement_ in tail], self._truth)
        inplace = isinstance(statement, ast.Expr) and statement.value is node  # y.add_(x)
        target = operands(node)[0].id if inplace and isinstance(operands(node)[0], ast.Name) else None  # type: ignore[attr-defined]
        after -= {target} if target else binds(statement, self._truth)
        changed = changes([*suite[:index], ast.Return(branch)], self._overwriting, self._truth)
        made = cut(suite, index, branch, elsewhere, after, changed, self._local, self._self, self._truth)
        inside = [suite[i] for i in made.statements]
        kept = [s for i, s in enumerate(suite[:index]) if i not in made.statements]
        unsure = set(made.inputs) - provenances.bound
        unsure &= provenances.given.union(*map(may_bind, kept))
        inputs = [
            name for name in made.inputs if name in provenances.bound | unsure
        ]  # others have no value from before
        held = made.held or "a part of it"
        walked = [n for part in (*inside, branch) for n in ast.walk(part)]
        residual.drop_path = self._drop_path(walked)
        if any(isinstance(n, ast.Name) and n.id == "super" for n in walked):
            residual.problem = "its branch calls super()"
        elif not calls <= {n for n in walked if isinstance(n, ast.Call)}:
            residual.problem = f"{held}, computed in its branch, is used elsewhere as well"
        elif overwritten := sorted(changed[-1] & (elsewhere | after) & self._local):
            residual.problem = f"its branch changes {', '.join(overwritten)} in place, used elsewhere as well"
        elif unsure:
            residual.problem = f"its branch reads {', '.join(sorted(unsure))}, which may have no value there"
        if residual.problem is not None or not self._wanted(residual):
            return index
        self.changed = True
        name = f"{residual.child}_branch"
        self._local.add(name)
        function = ast.parse(f"def {name}({', '.join(inputs)}):\n    return None").body[0]
        assert isinstance(function, ast.FunctionDef)
        function.body = [*inside, ast.Return(branch)]
        taken = "".join(f"{n}, " for n in inputs)
        owners = "".join(f"{o}, " for o in self._owners(walked))
        call = ast.parse(f"{self._self}.{residual.child}(_, {name}, ({taken}), owners=({owners}))", mode="eval").body
        assert isinstance(call, ast.Call)
        call.args[0] = shortcut
        provenances.sums[call] = provenances.sums[node]
        if isinstance(node, ast.AugAssign):
            suite[index] = ast.Assign(targets=[node.target], value=call)
        elif target:
            suite[index] = ast.Assign(targets=[ast.Name(target, ast.Store())], value=call)
        else:
            replace(statement, node, call)
        suite[: index + 1] = [*kept, function, suite[index]]
        return len(kept) + 1

    def _drop_path(self, nodes: list[ast.AST]) -> nn.Module | None:
        called = (self._resolver.value(n.func) for n in nodes if isinstance(n, ast.Call))
        parts = (part for module in called if isinstance(module, nn.Module) for part in in_line(module))
        return next((part for part in parts if id(part) in self._drop_paths), None)

    def _owners(self, nodes: list[ast.AST]) -> list[str]:
        """The modules and parameters that a branch uses, as expressions; the whole module where that is not clear."""
        found: dict[str, None] = {}
        held = {id(n.value) for n in nodes if isinstance(n, ast.Attribute)}
        for node in nodes:
            if self._resolver.is_self(node) and id(node) not in held:  # type: ignore[arg-type]
                return [self._self or ""]
            if isinstance(node, ast.Attribute) and self._resolver.is_self(node.value):
                value = self._resolver.value(node)
                if isinstance(value, nn.Module | nn.Parameter):
                    found[ast.unparse(node)] = None
                elif value is UNKNOWN:
                    return [self._self or ""]
        return list(found)


def _read_besides(statement: ast.stmt, branch: ast.expr, truth: Condition) -> set[str]:
    """What a statement reads outside the expression ``branch``."""
    found = names_read(statement, truth, besides=branch)
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        name = statement.target.id
        if isinstance(branch, ast.Name) and branch.id == name and branch is not statement.value:
            found = names_read(statement.value, truth)  # the target is the branch
    return found
