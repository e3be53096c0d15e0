"""Rows of text in aligned columns, for what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from torch import nn

WIDTH = 100
_LEAST = 12  # characters that a column keeps


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """One line for the header and one for each row, of at most ``width`` characters.

    >>> print(*table(["site", "calls", "why"], [["relu", "3", ""], ["head.act", "1", ""]]), sep="\\n")
      site      calls
      relu      3
      head.act  1
    >>> rows = [["relu", "it is too long to stand here"], ["gelu", "ditto"]]
    >>> print(*table(["site", "why"], rows, width=20), sep="\\n")
      site  why
      relu  (1)
      gelu  (2)
      (1) it is too long
          to stand here
      (2) ditto

    Columns without a value are left out. Where a line would be longer, what stands in the last column goes below the
    table, each text once; and what is longest is cut, names at their beginning.
    """
    columns = [list(column) for column in zip(header, *rows, strict=True) if any(column[1:])]
    below: list[str] = []
    if _width(columns) > width:
        texts = dict.fromkeys(filter(None, columns[-1][1:]))
        numbers = {text: f"({number})" for number, text in enumerate(texts, 1)}
        for text, number in numbers.items():
            below += wrap(f"{number} {text}", width, initial_indent="  ", subsequent_indent=" " * (len(number) + 3))
        columns[-1][1:] = [numbers.get(text, "") for text in columns[-1][1:]]
    while (over := _width(columns) - width) > 0:
        widest = max(columns[1:] or columns, key=_longest)
        if _longest(widest) <= _LEAST:
            widest = columns[0]
        length = max(_longest(widest) - over, _LEAST)
        widest[1:] = [_cut(cell, length, at_start=widest is columns[0]) for cell in widest[1:]]
        if widest is columns[0]:
            break
    lines = zip(*columns, strict=True)
    widths = [_longest(column) for column in columns]
    return ["  " + "  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines] + below


def _longest(column: list[str]) -> int:
    return max(map(len, column))


def _width(columns: list[list[str]]) -> int:
    return sum(_longest(column) + 2 for column in columns)


def _cut(text: str, length: int, at_start: bool) -> str:
    if len(text) <= length:
        return text
    return "..." + text[3 - length :] if at_start else text[: length - 3] + "..."


def one_line(value: object) -> str:
    """A module's representation, or a function's name, in one line.

    >>> one_line(nn.Sequential(nn.ReLU(inplace=True)))
    'Sequential(0=ReLU(inplace=True))'
    """
    if isinstance(value, nn.Module):
        parts = [value.extra_repr(), *(f"{name}={one_line(child)}" for name, child in value.named_children())]
        return f"{type(value).__name__}({', '.join(filter(None, parts))})"
    return getattr(value, "__name__", None) or repr(value)


def brief(value: object) -> str:
    """The same of what is small; of a block the name of its class.

    >>> brief(nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU())))
    'Sequential(...)'
    """
    text = one_line(value)
    return text if len(text) <= 60 or not isinstance(value, nn.Module) else f"{type(value).__name__}(...)"
