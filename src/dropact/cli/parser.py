"""An argument parser that complains in one line, and the types of our arguments."""

import argparse
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, NoReturn

MOST_SEEDS = 100_000


class UsageError(Exception):
    """Words on the command line that cannot be used."""


class Parser(argparse.ArgumentParser):
    """argparse, without the usage in front of an error; an option is what its whole name says."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)  # --seed of compare would be read as --seeds

    def error(self, message: str) -> NoReturn:
        verbs = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        parsers = [self, *(parser for action in verbs for parser in action.choices.values())]
        options = {option for parser in parsers for option in parser._option_string_actions}
        raise UsageError(f"{suggesting(message, sorted(options))} (see `{self.prog} --help`)")


def add_verb(
    verbs: Any, name: str, words: str, description: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    """The parser of a verb: a line about it among the others, a page of its own, and what it does."""
    layout = argparse.RawDescriptionHelpFormatter
    parser: Parser = verbs.add_parser(name, help=words, description=description, formatter_class=layout)
    parser.set_defaults(run=run)
    return parser


def suggesting(message: str, options: Iterable[str] = ()) -> str:
    """An error with the accepted name that is nearest to the one that came, where one is near.

    >>> suggesting("method: got 'droput', accepted: baseline, dropout, rrelu")
    "method: got 'droput', accepted: baseline, dropout, rrelu; did you mean 'dropout'?"
    >>> suggesting("unrecognized arguments: --epoch 3", ["--epochs", "--seeds"])
    "unrecognized arguments: --epoch 3; did you mean '--epochs'?"
    """
    if "did you mean" in message:
        return message
    for pattern in (r"got '([^']+)'.*?accepted: (.*)", r"invalid choice: '([^']+)' \(choose from (.*)\)"):
        if found := re.search(pattern, message):
            near = get_close_matches(found[1], re.findall(r"[\w:.+-]+", found[2]), n=1)
            break
    else:
        came = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        near = get_close_matches(came[1], options, n=1) if came else []
    return f"{message}; did you mean {near[0]!r}?" if near else message


def seeds(text: str) -> list[int]:
    """A count, or a list of seeds and ranges.

    >>> seeds("3"), seeds("4,7-9")
    ([0, 1, 2], [4, 7, 8, 9])

    Raises:
        argparse.ArgumentTypeError: no seed, a seed twice, or not a list of whole numbers.
    """
    accepted = "accepted: a count such as 10, or a list such as 0,1,2 or 0-9"
    spans = [range(int(text))] if text.isdecimal() else []
    for part in [] if spans else text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"got {text!r}, {accepted}")
        spans.append(range(int(first), int(last if dash else first) + 1))
        if not spans[-1]:
            raise argparse.ArgumentTypeError(f"got no seeds in {part.strip()!r}, {accepted}")
    if sum(span.stop - span.start for span in spans) > MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"got more than {MOST_SEEDS:,} seeds in {text!r}, {accepted}")
    found = [seed for span in spans for seed in span]
    if not found:
        raise argparse.ArgumentTypeError(f"got no seeds in {text!r}, {accepted}")
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"got a seed twice in {text!r}, {accepted}")
    return found


def within(least: float, most: float, kind: type[int] | type[float] = int) -> Callable[[str], Any]:
    """The type of an argument that is a number from `least` to `most`.

    >>> within(1, 8)("3")
    3
    """

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(most + 1)
        if not least <= value <= most:
            accepted = f"a {'whole ' * (kind is int)}number from {least:,} to {most:,}"
            raise argparse.ArgumentTypeError(f"got {text!r}, accepted: {accepted}")
        return value

    return number


threads = within(1, 4096)  # more would take the machine's memory before they compute anything
seconds = within(0, 1e9, float)
budget = within(0.001, 1e6, float)  # seconds too
share = within(0, 4096, float)  # cores or devices of a run


def place(text: str) -> tuple[str, str | None]:
    """Where the runs of a grid are trained: the kind of place, and which.

    >>> place("local:4"), place("ray"), place("ray:10.0.0.1:6379")
    (('local', '4'), ('ray', None), ('ray', '10.0.0.1:6379'))

    Raises:
        argparse.ArgumentTypeError: neither local:N nor ray.
    """
    kind, _, which = text.partition(":")
    if not (kind == "ray" or (kind == "local" and which.isdecimal() and int(which))):
        raise argparse.ArgumentTypeError(f"got {text!r}, accepted: local:N with N of at least 1, ray, or ray:ADDRESS")
    return kind, which or None


def names(text: str) -> list[str]:
    """A comma-separated list of names, each once.

    Raises:
        argparse.ArgumentTypeError: an empty name, or one given twice.
    """
    found = [part.strip() for part in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"got {text!r}, accepted: names separated by commas, each once")
    return found
