"""The source of a function, read, parsed and found to be what runs."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from io import StringIO
from pathlib import PurePath
from types import CodeType, FunctionType

from dropact.surgery._compile import compile_like

EDITED = ", converted "  # in the name of the file that an edited function seems to stand in

Place = tuple[int, int]  # line and byte column, as Python counts them: lines from 1 in the file, columns from 0


class UnreadableError(Exception):
    """Why a function's source cannot be had, in a sentence."""


@dataclass(frozen=True, eq=False)
class File:
    """A file of source: its lines, its functions by what Python calls their first line, and the names it imports."""

    lines: tuple[bytes, ...]
    functions: dict[int, list[ast.FunctionDef]]
    imported: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Source:
    """A function as it is written in a file, parsed."""

    function: FunctionType
    node: ast.FunctionDef
    file: File

    @property
    def self_name(self) -> str | None:
        arguments = [*self.node.args.posonlyargs, *self.node.args.args]
        return arguments[0].arg if arguments else None

    @property
    def digest(self) -> str:
        """Of the function's text alone, so that the rest of the file may change."""
        return sha256(b"".join(self.own_lines)).hexdigest()

    @property
    def own_lines(self) -> tuple[bytes, ...]:
        return self.file.lines[self.node.lineno - 1 : self.node.end_lineno]

    def location(self, node: ast.AST) -> str:
        return f"{PurePath(written_in(self.function.__code__)).name}:{node.lineno}"  # type: ignore[attr-defined]


def written_in(code: CodeType) -> str:
    """The file a function was written in, edited or not."""
    name = code.co_filename
    return name[1:].partition(EDITED)[0] if EDITED in name else name


def mangled(name: str, function: FunctionType) -> str:
    """A private name as the class of the function keeps it."""
    scope = function.__code__.co_qualname.split(".")[-2:-1]
    private = name.startswith("__") and not name.endswith("__") and scope not in ([], ["<locals>"])
    return f"_{scope[0].lstrip('_')}{name}" if private else name


SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def bound_in(scope: ast.AST) -> set[str]:
    """The names that a function or comprehension binds, or declares to be those of around it."""
    found: set[str] = set()

    def within(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                found.add(child.id)
            elif isinstance(child, ast.arg):
                found.add(child.arg)
            elif isinstance(child, ast.Global | ast.Nonlocal):
                found.update(child.names)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(child.name)
            if not isinstance(child, (*SCOPES, ast.ClassDef)):
                within(child)

    within(scope)
    return found


def end_of(node: ast.expr) -> Place:
    """Where a call ends: it knows a call from every other, for no two share their last parenthesis."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def start_of(node: ast.expr) -> Place:
    return node.lineno, node.col_offset


def function_codes(function: FunctionType) -> Iterator[CodeType]:
    """The code of a function and of all functions written inside it."""
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        yield code
        waiting += [const for const in code.co_consts if isinstance(const, CodeType)]


def names_in(function: FunctionType) -> frozenset[str]:
    """The names of globals and attributes that a function reads, wherever in it."""
    return frozenset(name for code in function_codes(function) for name in code.co_names)


def unwrapped(function: object) -> FunctionType | None:
    """The function below its decorators, or ``None`` where there is no plain one."""
    try:
        function = inspect.unwrap(function)  # type: ignore[arg-type]
    except ValueError:
        return None
    return function if isinstance(function, FunctionType) else None


@lru_cache(maxsize=64)
def _parsed(text: str) -> File:
    tree = ast.parse(text)
    functions: dict[int, list[ast.FunctionDef]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            # An edited one was compiled without its decorators.
            for first in {node.lineno, min([node.lineno, *(d.lineno for d in node.decorator_list)])}:
                functions.setdefault(first, []).append(node)
    imported = (
        alias.asname or alias.name.partition(".")[0]
        for node in _outside_functions(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    )
    lines = tuple(line.encode() for line in StringIO(text))  # as Python counts lines
    return File(lines, functions, tuple(name for name in dict.fromkeys(imported) if name != "*"))


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            yield child
            yield from _outside_functions(child)


@lru_cache(maxsize=4096)
def _read(code: CodeType, module_name: str | None, loader: object) -> tuple[ast.FunctionDef, File]:
    where = f"{code.co_name} ({code.co_filename}:{code.co_firstlineno})"
    # for what lies in a zip file
    lines = linecache.getlines(code.co_filename, {"__name__": module_name, "__loader__": loader})
    if not lines:
        raise UnreadableError(f"the source of {where} is not at hand")
    try:
        file = _parsed("".join(lines))
    except SyntaxError as error:
        raise UnreadableError(f"the source of {where} does not parse") from error
    for node in file.functions.get(code.co_firstlineno, []):
        if node.name == code.co_name and _same(compile_like(node, file.imported, code, code.co_filename), code):
            return node, file
    raise UnreadableError(f"the source of {where} is not what runs: it was edited since, or is instrumented")


def _same(one: CodeType, other: CodeType) -> bool:
    return (one.co_code, one.co_names, one.co_varnames) == (other.co_code, other.co_names, other.co_varnames)


def read(function: FunctionType) -> Source:
    """The source of a function.

    >>> from torch import nn
    >>> source = read(nn.ReLU.forward)
    >>> source.self_name, source.node.name
    ('self', 'forward')

    Raises:
        UnreadableError: there is none, or it is not what runs.
    """
    context = function.__globals__
    node, file = _read(function.__code__, context.get("__name__"), context.get("__loader__"))
    return Source(function, node, file)
