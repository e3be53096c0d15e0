"""What a value that comes from outside must be, said by type hints, and the one function that holds it against them.

A record in memory is what its JSON says: its type is a `TypedDict`, so that there is no way there and back to go wrong,
and what another version noted beside is kept.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from reprlib import Repr
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

LARGEST = 2**63 - 1  # of whole numbers, as torch has them

_short = Repr()
_short.maxlevel, _short.maxstring, _short.maxlong, _short.maxother = 3, 200, 60, 200


class MismatchError(ValueError):
    """A value that is not of its kind: the field, what came, what is accepted."""


@dataclass(frozen=True)
class Accepts:
    """Beside a type in `Annotated`: how an error says what is accepted, and what must hold beyond the type."""

    words: str
    holds: Callable[[Any], bool] = lambda value: True


def one_of(names: Iterable[str]) -> Accepts:
    """One of these names."""
    known = tuple(names)
    return Accepts(", ".join(known), known.__contains__)


def whole(least: int) -> Accepts:
    """A whole number of at least `least`."""
    return Accepts(f"a whole number of at least {least}", lambda value: least <= value <= LARGEST)


Count = Annotated[int, whole(0)]
Positive = Annotated[int, whole(1)]
Percent = Annotated[float, Accepts("a number from 0 to 100", lambda value: 0 <= value <= 100)]
NonNegative = Annotated[float, Accepts("a finite number of at least 0", lambda value: value >= 0)]
# Measured: the square of it is still a number.
Measured = Annotated[float, Accepts("a number between -1e100 and 1e100", lambda value: abs(value) <= 1e100)]
# Three centuries at most: a longer time was not measured.
Seconds = Annotated[float, Accepts("a number of seconds from 0 to 1e10", lambda value: 0 <= value <= 1e10)]

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    NoneType: "null",
    dict: "an object",
}


def mismatch(field: str, value: object, accepted: str) -> MismatchError:
    """The error about a value."""
    return MismatchError(f"{field}: got {_short.repr(value)}, accepted: {accepted}")


def checked(kind: Any, value: object, field: str) -> Any:
    """`value` as the kind says: whole numbers become floats and lists tuples where these are wanted.

    >>> checked(dict[str, tuple[float, ...]], {"a": [1, 2.5]}, "field")
    {'a': (1.0, 2.5)}
    >>> checked(dict[str, Percent], {"a": 101}, "field")
    Traceback (most recent call last):
        ...
    dropact.experiments.schema.MismatchError: field.a: got 101, accepted: a number from 0 to 100

    Raises:
        MismatchError: it is of no such kind.
    """
    return _check(kind)(value, field)


@cache
def _check(kind: Any) -> Callable[[Any, str], Any]:
    """The check of a kind, made once: a study has a million values of few kinds."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    fields = {name: _check(hint) for name, hint in _hints(kind).items()} if is_typeddict(kind) else None
    parts = [] if origin is Literal else [_check(each) for each in arguments if not isinstance(each, Accepts)]

    def check(value: Any, field: str) -> Any:
        if origin is Any or origin is ...:
            return value
        if origin is float:
            # A whole number may lie beyond all floats.
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
                return float(value)
        elif origin in (Annotated, Union, UnionType):
            for part in parts:
                try:
                    made = part(value, field)
                    if origin is not Annotated or arguments[1].holds(made):
                        return made
                except MismatchError:
                    pass
        elif origin in (list, tuple):
            if isinstance(value, list | tuple):
                return origin([parts[0](each, f"{field}[{place}]") for place, each in enumerate(value)])
        elif isinstance(value, Mapping) and (fields is not None or (origin is dict and parts)):
            before, made = f"{field}." if field else "", dict(value)
            for name, part in (dict.fromkeys(value, parts[1]) if fields is None else fields).items():
                if name in value:
                    made[name] = part(value[name], before + name)
                elif name in kind.__required_keys__:
                    raise MismatchError(f"{before}{name}: missing, accepted: {accepted(_hints(kind)[name])}")
            return made
        elif origin is Literal:
            if value in arguments:
                return value
        elif fields is None and isinstance(value, origin) and not (origin is int and isinstance(value, bool)):
            return value
        raise mismatch(field, value, accepted(kind))

    return check


def accepted(kind: Any) -> str:
    """What an error says about a kind.

    >>> accepted(Percent | None), accepted(Literal["cpu", "cuda"]), accepted(list[int])
    ('a number from 0 to 100 or null', 'cpu or cuda', 'a list, each a whole number')
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        return arguments[1].words
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(accepted, arguments))
    if origin in (list, tuple):
        return f"a list, each {accepted(arguments[0])}"
    if is_typeddict(kind):
        return f"an object with {', '.join(_hints(kind))}"
    return _WORDS.get(origin, getattr(origin, "__name__", str(origin)))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    found = get_type_hints(kind, include_extras=True)
    return {name: get_args(hint)[0] if get_origin(hint) is NotRequired else hint for name, hint in found.items()}
