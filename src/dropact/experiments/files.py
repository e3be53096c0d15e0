"""Files that appear complete or not at all."""

import errno
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dropact.experiments.errors import RecordError

PARTIAL = ".part"  # how the name of a file ends while it is written


def open_unfollowed(path: Path, flags: int) -> int:
    """A handle on the file `path` itself, created if it is not there: a symbolic link would write into another's file.

    Raises:
        RecordError: `path` is a symbolic link.
        OSError: as `os.open`.
    """
    refused = RecordError(f"{path}: a symbolic link, accepted: a file; links in a folder of runs are not followed")
    if path.is_symlink():  # said again by the system below, where it can: the link may come in between
        raise refused
    try:
        return os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise refused from None
        raise


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls `write` on a file that takes the name `path` only once its bytes are on disk.

    Raises:
        OSError: naming `path`; whatever was there before stands, and no half-written file takes up room.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(6)}{PARTIAL}")  # nobody can lie in wait under that name
    try:
        with os.fdopen(open_unfollowed(partial, os.O_WRONLY | os.O_EXCL), "wb") as file:
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
