"""One process at a time on one run."""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from dropact.experiments.errors import RecordError
from dropact.experiments.files import named, open_unfollowed, parsed
from dropact.experiments.schema import Positive


class Holder(TypedDict):
    """A lock: the process that holds it, or the last that did."""

    pid: Positive
    host: str


FAR = 1 << 30  # on Windows a locked byte cannot be read; one far behind the text locks nothing that is there

if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> bool:
        os.lseek(handle, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _holder(handle: int) -> str:
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        values = parsed(Holder, os.read(handle, 4096).decode(), "lock")
        return f"process {values['pid']} on {values['host']!r}"
    except (OSError, ValueError):  # a RecordError too
        return "another process"  # it has not yet written who it is


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


class HeldError(RecordError):
    """Another process holds the lock."""


@contextmanager
def held(path: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Holds the lock file `path` while entered. It goes with the process however that ends, a kill included.

    Args:
        what: named in the error, as "the run KEY".
        patience: seconds to wait for another process that holds it.

    Raises:
        HeldError: another process holds it; its process number and host are named.
        RecordError: `path` is a symbolic link.
    """
    end = time.monotonic() + patience
    while True:
        handle = open_unfollowed(path, os.O_RDWR)
        try:
            if not _take(handle):
                if time.monotonic() < end:
                    time.sleep(0.01)
                    continue
                raise HeldError(
                    f"{path}: {what} is in the hands of {_holder(handle)}; wait for it, or choose another --out"
                )
            if _same_file(handle, path):  # else its last holder removed it between our opening and our taking it
                with named(path):
                    os.ftruncate(handle, 0)
                    os.write(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
                try:
                    yield
                finally:
                    if sys.platform != "win32":  # where an open file cannot be removed
                        path.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)
