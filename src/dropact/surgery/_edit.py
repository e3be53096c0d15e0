"""Edit the source of a function and make a function of it."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import CellType, CodeType, FunctionType

from dropact.surgery._compile import compile_like
from dropact.surgery._methods import closure
from dropact.surgery._source import EDITED, Place, Source, UnreadableError, end_of, start_of, unwrapped, written_in


@dataclass(frozen=True)
class Edit:
    """``text`` instead of what stands from ``start`` to ``end``, both counted from the function's first line, 0.

    The edit of an expression has as many line breaks as what it replaces, so that the numbers of all lines stay.
    """

    start: Place
    end: Place
    text: str


def span(source: Source, start: Place, end: Place, text: str, breaks_first: bool = False) -> Edit:
    """``text`` in place of what stands between two places of the file, with as many line breaks."""
    breaks, first = "\n" * (end[0] - start[0]), source.node.lineno
    text = breaks + text if breaks_first else text + breaks
    return Edit((start[0] - first, start[1]), (end[0] - first, end[1]), text)


def replacing(source: Source, node: ast.expr, text: str) -> Edit:
    """The edit that puts ``text`` where an expression stands."""
    return span(source, start_of(node), end_of(node), text)


def edited(source: Source, edits: Iterable[Edit]) -> FunctionType:
    """The function with its source edited. What Python shows of it, in tracebacks as well, is the edited source.

    Raises:
        UnreadableError: two edits overlap.
    """
    function, node = source.function, source.node
    text = b"".join(source.own_lines)
    starts = [0]
    for line in source.own_lines:
        starts.append(starts[-1] + len(line))
    upper = len(text)
    for edit in sorted(edits, key=lambda e: (e.start, e.end), reverse=True):
        start, end = (starts[line] + column for line, column in (edit.start, edit.end))
        if end > upper:
            raise UnreadableError(f"two calls of {function.__qualname__} stand in each other's arguments")
        text = text[:start] + edit.text.encode() + text[end:]
        upper = start
    before, after = source.file.lines[: node.lineno - 1], source.file.lines[node.end_lineno :]
    lines = [*before, *text.splitlines(keepends=True), *after]
    filename = _remember(function, [line.decode() for line in lines])
    indented = bytes(source.own_lines[0][:1]) in (b" ", b"\t")
    padding = "\n" * (node.lineno - 2) + "if 1:\n" if indented else "\n" * (node.lineno - 1)
    try:
        tree = ast.parse(padding + text.decode()).body[0]
    except SyntaxError as error:
        raise UnreadableError(f"the source of {function.__qualname__} could not be edited") from error
    new = tree.body[0] if isinstance(tree, ast.If) else tree
    assert isinstance(new, ast.FunctionDef)
    return _with_code(function, compile_like(new, source.file.imported, function.__code__, filename))


def _remember(function: FunctionType, lines: Sequence[str]) -> str:
    text = "".join(lines)
    name = f"<{written_in(function.__code__)}{EDITED}{sha256(text.encode()).hexdigest()[:8]}>"
    linecache.cache[name] = (len(text), None, list(lines), name)
    return name


def _with_code(function: FunctionType, code: CodeType) -> FunctionType:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    code = code.replace(co_qualname=function.__code__.co_qualname)
    new = FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, tuple(cells[n] for n in code.co_freevars)
    )
    new.__kwdefaults__ = function.__kwdefaults__
    new.__dict__.update(function.__dict__)
    new.__annotations__ = function.__annotations__
    new.__doc__, new.__module__, new.__qualname__ = function.__doc__, function.__module__, function.__qualname__
    return new


def redecorated(
    outer: object, old: FunctionType, new: FunctionType, made: dict[int, CellType] | None = None
) -> FunctionType:
    """``outer``, which is ``old`` in its decorators, with ``new`` in place of ``old``.

    Args:
        made: cells for the functions in the decorators, by ``id``: one may refer to itself.

    Raises:
        UnreadableError: a decorator keeps the function elsewhere than in a closure.
    """
    if outer is old:
        return new
    if isinstance(outer, FunctionType) and outer.__closure__ and not _keeps(outer, old, set()):
        made = {id(outer): CellType()} if made is None else made
        cells = tuple(_recelled(cell, old, new, made) for cell in outer.__closure__)
        twin = FunctionType(outer.__code__, outer.__globals__, outer.__name__, outer.__defaults__, cells)
        made.setdefault(id(outer), CellType()).cell_contents = twin
        twin.__kwdefaults__ = outer.__kwdefaults__
        twin.__dict__.update(outer.__dict__)
        twin.__wrapped__ = redecorated(outer.__wrapped__, old, new, made)  # type: ignore[attr-defined]
        twin.__annotations__, twin.__doc__ = outer.__annotations__, outer.__doc__
        twin.__module__, twin.__qualname__ = outer.__module__, outer.__qualname__
        return twin
    raise UnreadableError(f"a decorator of {old.__qualname__} keeps the function where it cannot be replaced")


def _recelled(cell: CellType, old: FunctionType, new: FunctionType, made: dict[int, CellType]) -> CellType:
    try:
        held = cell.cell_contents
    except ValueError:  # not filled yet
        return cell
    if held is not old and not (isinstance(held, FunctionType) and unwrapped(held) is old):
        return cell
    if id(held) not in made:
        made[id(held)] = CellType()
        made[id(held)].cell_contents = redecorated(held, old, new, made)
    return made[id(held)]


def _keeps(held: object, old: FunctionType, seen: set[int]) -> bool:
    """Whether a function in a decorator has ``old`` as a default of its own, as those have that are made by exec."""
    if not isinstance(held, FunctionType) or held is old or id(held) in seen:
        return False
    seen.add(id(held))
    defaults = (*(held.__defaults__ or ()), *(held.__kwdefaults__ or {}).values())
    return any(value is old for value in defaults) or any(_keeps(f, old, seen) for f in closure(held).values())
