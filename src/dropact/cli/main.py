"""Dispatch to a verb, and every error a user can put right as one line."""

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType

from dropact import __version__, _starting
from dropact.cli import bench, compare, inspect, pack, plan, report, reproduce, train, verify, watch
from dropact.cli.parser import Parser, UsageError, suggesting

VERBS: Sequence[ModuleType] = (compare, train, reproduce, plan, report, pack, verify, watch, inspect, bench)
EXTRAS = ("matplotlib", "numpy", "ray", "rich", "scipy", "sklearn", "tensorboard", "torchvision")


def _parser() -> Parser:
    parser = Parser(prog="dropact", description="Stochastic activations compared on the same networks, data and seeds.")
    parser.add_argument("--version", action="version", version=f"dropact {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", parser_class=Parser)
    for verb in VERBS:
        verb.add_parser(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    >>> main(["train", "--epochs", "none"])    # one line on stderr
    2

    Args:
        argv: the words after `dropact`; those of the process by default.

    Returns:
        The exit status: 0; 1 where `verify` finds a run that does not hold; 2 after one line on stderr for input that
        cannot be used; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    args = argparse.Namespace()
    try:
        _starting.hear()
        for word in words:
            if any("\ud800" <= letter <= "\udfff" for letter in word):  # what Python makes of such bytes
                raise UsageError(f"{word!r}: bytes that are no text, accepted: names in {sys.getfilesystemencoding()}")
        parser = _parser()
        args = parser.parse_args(words)
        if not hasattr(args, "run"):
            parser.print_help()
            return 0
        args.words = words
        args.run(args)
    except SystemExit as leaving:  # --help
        return leaving.code if isinstance(leaving.code, int) else 2
    except KeyboardInterrupt:
        return _fail(
            "stopped; the same command goes on from there" if getattr(args, "goes_on", False) else "stopped", 130
        )
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        extra = package if package in ("ray", "tensorboard") else "experiments"
        return _fail(f"this needs {package}: pip install 'dropact[{extra}]'")
    except UsageError as error:
        return _fail(suggesting(str(error)))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ValueError as error:
        from dropact.experiments.errors import UserError

        if not isinstance(error, UserError):
            raise
        return _fail(suggesting(str(error)))
    return 0


def _fail(message: str, status: int = 2) -> int:
    sys.stderr.write(f"dropact: {' '.join(message.split())}\n")
    return status
