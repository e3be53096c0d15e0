"""Ctrl-C while the command is still being imported: it ends at once, as there is nothing yet to save or to say.

An exception, which is what Python makes of it, would show the imports that it came through.
"""

import signal
import sys
from pathlib import Path


def _is_command() -> bool:
    """Whether this process was started as `dropact` or `python -m dropact`."""
    words = sys.orig_argv
    as_module = "-m" in words[:-1] and words[words.index("-m") + 1] == "dropact"
    return as_module or Path(next(iter(sys.argv), "")).stem == "dropact"


def _takes(handler: object) -> bool:
    return signal.getsignal(signal.SIGINT) is handler  # and not ignored, as of a process in the background


def hear() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt again."""
    if _takes(signal.SIG_DFL):
        signal.signal(signal.SIGINT, signal.default_int_handler)


if _is_command() and _takes(signal.default_int_handler):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
