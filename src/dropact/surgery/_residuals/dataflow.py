"""Which statements of a method a value comes from, and who else reads what they write.

Straight-line code is followed exactly; a compound statement (``if``, ``for``, ...) counts as one that reads all that is
read in it and may write all that is written in it. Where that says too much, a branch is refused, never cut wrongly.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Condition = Callable[[ast.expr], bool | None]  # what a test is on the module at hand, where that can be said
Overwrites = Callable[[ast.Call], bool]  # whether the module called changes its argument in place

_UNMOVABLE = (
    ast.Return,
    ast.Global,
    ast.Nonlocal,
    ast.Delete,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Yield,
    ast.YieldFrom,
    ast.Await,
    ast.NamedExpr,
)


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a piece of code, without those of functions and comprehensions in it."""
    yield node
    if not isinstance(node, (ast.FunctionDef, ast.Lambda, *_COMPREHENSIONS)):
        for child in ast.iter_child_nodes(node):
            yield from _own(child)


def names_read(node: ast.AST, truth: Condition | None = None, besides: ast.expr | None = None) -> set[str]:
    """All names that are read in a piece of code, in whatever order, but those of its inner functions' own."""
    if node is besides:
        return set()
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    parts = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.IfExp) and truth is not None and (known := truth(node.test)) is not None:
        parts = [node.test, node.body if known else node.orelse]
    found = set().union(*(names_read(part, truth, besides) for part in parts))
    if isinstance(node, ast.AugAssign):
        found |= set(_targets(node.target))
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        found -= {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
    if isinstance(node, ast.FunctionDef):
        found -= set().union(*map(writes, node.body))
    if isinstance(node, _COMPREHENSIONS):
        found -= {name for generator in node.generators for name in _targets(generator.target)}
    return found


def _targets(target: ast.expr) -> Iterator[str]:
    """The names that an assignment to ``target`` binds, or whose value it writes into."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple | ast.List):
        for item in target.elts:
            yield from _targets(item)
    elif isinstance(target, ast.Starred | ast.Subscript | ast.Attribute):
        yield from _targets(target.value)


def _assigned(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return statement.targets
    if isinstance(statement, ast.AugAssign | ast.AnnAssign):
        return [statement.target]
    return []


def may_bind(statement: ast.stmt) -> set[str]:
    """The names that a statement binds, if it comes to that."""
    found = {statement.name} if isinstance(statement, ast.FunctionDef | ast.ClassDef) else set()
    for node in _own(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return found


def binds(statement: ast.stmt, truth: Condition) -> set[str]:
    """The names that a statement surely binds anew."""
    if isinstance(statement, ast.If):
        known = truth(statement.test)
        sides = [statement.body, statement.orelse] if known is None else [statement.body if known else statement.orelse]
        return set.intersection(*(set().union(*(binds(s, truth) for s in side)) for side in sides))
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    if isinstance(statement, ast.With):
        return set().union(*(binds(s, truth) for s in statement.body))
    plain = [t for t in _assigned(statement) if isinstance(t, ast.Name | ast.Tuple | ast.List)]
    return {name for target in plain for name in _targets(target)}


def writes(statement: ast.stmt, overwrites: Overwrites = lambda call: False) -> set[str]:
    """The names that a statement may bind anew, or whose tensor it may change in place."""
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    found: set[str] = set()
    for node in _own(statement):
        if isinstance(node, ast.stmt):
            found |= {name for target in _assigned(node) for name in _targets(target)}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            base = getattr(node.value.func, "value", None)  # things.append(x)
            found |= {base.id} if isinstance(base, ast.Name) else set()
    return found | overwritten(statement, overwrites)


def overwritten(statement: ast.stmt, overwrites: Overwrites) -> set[str]:
    """The names whose tensors the calls in a statement may change in place."""
    found: set[str] = set()
    for node in _own(statement):
        if isinstance(node, ast.AugAssign):
            found |= {node.target.id} if isinstance(node.target, ast.Name) else set()
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            inplace = any(word.arg == "inplace" for word in node.keywords)
            changed: list[ast.expr] = []
            if inplace or (called.endswith("_") and not called.startswith("_")):
                changed = [*node.args[:1], *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
            elif overwrites(node):
                changed = node.args[:1]
            found |= {n.id for n in changed if isinstance(n, ast.Name)}
    return found


def exposed(statements: Sequence[ast.stmt], truth: Condition) -> set[str]:
    """The names whose values from before these statements are read in them."""
    found: set[str] = set()
    bound: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.If):
            known = truth(statement.test)
            sides = [s for s, runs in ((statement.body, known is not False), (statement.orelse, not known)) if runs]
            reads = names_read(statement.test, truth).union(*(exposed(side, truth) for side in sides))
        elif isinstance(statement, ast.For):
            body = exposed([*statement.body, *statement.orelse], truth) - set(_targets(statement.target))
            reads = names_read(statement.iter, truth) | body
        else:
            reads = names_read(statement, truth)
        found |= reads - bound
        bound |= binds(statement, truth)
    return found


def movable(statement: ast.stmt, self_name: str | None) -> bool:
    """Whether a statement does the same in a function inside the method."""
    if any(isinstance(node, ast.Name) and node.id == "super" for node in ast.walk(statement)):
        return False
    for node in _own(statement):
        if isinstance(node, _UNMOVABLE):
            return False
        if isinstance(node, ast.stmt):
            bases = {t.id for target in _assigned(node) for t in ast.walk(target) if isinstance(t, ast.Name)}
            if self_name in bases:
                return False
    return True


@dataclass(frozen=True)
class Cut:
    """What a branch consists of: statements before the addition, by index, and what they take from outside.

    ``held`` names, if a statement of the branch had to stay, the variable that it writes and that is needed elsewhere.
    """

    statements: tuple[int, ...]
    inputs: tuple[str, ...]
    held: str | None


def cut(
    suite: Sequence[ast.stmt],
    at: int,
    branch: ast.expr,
    elsewhere: set[str],
    after: set[str],
    changes: Sequence[set[str]],
    local: set[str],
    self_name: str | None,
    truth: Condition,
) -> Cut:
    """The statements of ``suite`` before ``at`` that serve nothing but ``branch``, an expression of statement ``at``.

    Args:
        elsewhere: what the rest of that statement reads.
        after: what is read after it of values from before.
        changes: what each statement binds anew or changes in place.
        local: the names that are the method's own.
    """
    read = [exposed([statement], truth) for statement in suite[:at]]
    bound = [binds(statement, truth) for statement in suite[:at]]
    written = [names & local for names in changes[:at]]  # the F of F.relu_(x) is none

    def sources(reader: int, names: set[str]) -> set[int]:
        found: set[int] = set()
        for name in names:
            for index in range(reader - 1, -1, -1):
                if name in written[index]:
                    found.add(index)
                if name in bound[index]:
                    break
        return found

    chosen: set[int] = set()
    waiting = list(sources(at, names_read(branch, truth)))
    while waiting:
        index = waiting.pop()
        if index not in chosen:
            chosen.add(index)
            waiting += sources(index, read[index])

    held: str | None = None
    changed = True
    while changed:
        changed = False
        for index in sorted(chosen, reverse=True):
            if (name := _needed_elsewhere(index, suite, at, chosen, read, written, sources, elsewhere, after)) is None:
                if movable(suite[index], self_name) and not _overtaken(index, at, chosen, read, written, sources):
                    continue
                name = ", ".join(sorted(written[index]))
            chosen.discard(index)
            held, changed = held or name, True
            break
    inside = [suite[index] for index in sorted(chosen)]
    wanted = exposed([*inside, ast.Expr(branch)], truth) & local - {self_name}
    return Cut(tuple(sorted(chosen)), tuple(sorted(wanted)), held)


def _needed_elsewhere(
    index: int,
    suite: Sequence[ast.stmt],
    at: int,
    chosen: set[int],
    read: list[set[str]],
    written: list[set[str]],
    sources: Callable[[int, set[str]], set[int]],
    elsewhere: set[str],
    after: set[str],
) -> str | None:
    for name in sorted(written[index]):
        readers = [j for j in range(index + 1, at) if j not in chosen and name in read[j]]
        if any(index in sources(j, {name}) for j in readers):
            return name
        if name in elsewhere | after and index in sources(at, {name}):
            return name
    return None


def _overtaken(
    index: int,
    at: int,
    chosen: set[int],
    read: list[set[str]],
    written: list[set[str]],
    sources: Callable[[int, set[str]], set[int]],
) -> bool:
    """Whether something that stays writes, after statement ``index`` and before the addition, what that one reads."""
    later = set().union(*(written[j] for j in range(index + 1, at) if j not in chosen))
    return any(not sources(index, {name}) <= chosen or not sources(index, {name}) for name in read[index] & later)
