"""Files that appear complete or not at all."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

PARTIAL = ".part"  # how the name of a file ends while it is written


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls `write` on a file that takes the name `path` only once its bytes are on disk.

    Raises:
        OSError: naming `path`; whatever was there before stands, and no half-written file takes up room.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")  # two processes do not write one file
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Brings names given and taken in `folder` to disk; a file's own bytes are not enough for it to be found."""
    if sys.platform == "win32":  # has no handle on a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, complete or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))
