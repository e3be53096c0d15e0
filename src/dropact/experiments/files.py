"""Files of records: read with suspicion, and written so that they appear complete or not at all."""

import errno
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from dropact.experiments.errors import RecordError
from dropact.experiments.schema import MismatchError, checked

PARTIAL = ".part"  # how the name of a file ends while it is written

T = TypeVar("T")


def read_text(path: Path, missing: str = "missing") -> str:
    """A file of a record; an error says `missing` of one that is not there.

    Raises:
        RecordError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise RecordError(f"{path}: damaged, not an ordinary file")  # a pipe would be waited for
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{path}: {missing}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: damaged, cannot be read ({type(error).__name__})") from None


def check_is_folder(folder: Path) -> None:
    """That `folder` is there, to be read.

    Raises:
        RecordError: it is not, or is a file.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder}: {'a file' if folder.exists() else 'not there'}, accepted: a folder of runs")


@contextmanager
def named(path: Path) -> Iterator[None]:
    """A full disk does not say which file it was that could not be written: the error inside does."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def parsed(kind: type[T], text: str, path: Path | str, line: int | None = None) -> T:
    """The JSON object in `text`, all of whose fields are what `kind`, a `TypedDict`, says.

    Raises:
        RecordError: one line naming `path`, and the field, what it got and what is accepted.
    """
    where = f"{path}: damaged" if line is None else f"{path} line {line}: damaged"
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a character could not be written anywhere
    except RecursionError:
        raise RecordError(f"{where}, JSON nested too deep") from None
    except ValueError as error:
        raise RecordError(f"{where}, not JSON ({error})") from None
    if not isinstance(value, dict):
        raise RecordError(f"{where}, not a JSON object")
    try:
        found: T = checked(kind, value, "")
    except MismatchError as error:
        raise RecordError(f"{where}, {error}") from None
    return found


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
    with named(path):
        try:
            with os.fdopen(open_unfollowed(partial, os.O_WRONLY | os.O_EXCL), "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
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
