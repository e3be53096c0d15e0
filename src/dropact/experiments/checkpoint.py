"""The state of an unfinished run on disk: step-NNN.checkpoint, the last two kept.

    dropact checkpoint 1
    SHA-256 of everything below
    a JSON object: step, config (the key), data (its checksum), environment
    the state, as torch.save writes it

A file is written under another name, brought to disk and renamed, so that a kill at any moment leaves the one before.
It is read with suspicion: first its checksum, then whose it is, then the state with `weights_only=True`, which builds
tensors and plain values and runs no code that a file may carry.
"""

import hashlib
import io
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch

from dropact.experiments.environment import Environment
from dropact.experiments.errors import RecordError
from dropact.experiments.files import parsed, write_atomically
from dropact.experiments.schema import Count

MAGIC = b"dropact checkpoint 1\n"
KEPT = 2
SUFFIX = ".checkpoint"
EPOCH_SECONDS = 5.0  # a checkpoint takes some hundredths of a second: less than 1 % of an epoch that gets one


class CheckpointWarning(UserWarning):
    """A checkpoint could not be used, or not without a reservation."""


class Header(TypedDict):
    """The JSON object in a checkpoint."""

    step: Count
    config: str
    data: str
    environment: NotRequired[Environment]


@dataclass(frozen=True)
class Checkpoint:
    """The one to go on from."""

    path: Path
    header: Header
    state: Any


class _DamagedError(Exception):
    pass


def _parsed(path: Path) -> tuple[Header, bytes]:
    """Header and body of an undamaged file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _DamagedError(f"cannot be read ({error.strerror})") from None
    if not content.startswith(MAGIC):
        raise _DamagedError("does not begin as a checkpoint")
    digest, _, rest = content[len(MAGIC) :].partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        raise _DamagedError("its checksum is not that of its content")
    header, _, body = rest.partition(b"\n")
    try:
        return parsed(Header, header.decode(errors="replace"), "its header"), body
    except RecordError as error:
        raise _DamagedError(str(error)) from None


def _state(body: bytes) -> Any:
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what it likes
        raise _DamagedError(f"holds something else than tensors and plain values ({type(error).__name__})") from None


class Checkpoints:
    """The checkpoints of one run in its directory.

    Args:
        directory: of the run; need not exist before the first is saved.
        config: key of the run's config.
        data: checksum of its data.
        every: seconds after which one is due within an epoch; at an epoch's end `EPOCH_SECONDS` are enough.

    Attributes:
        environment: what the run is trained with, kept in every checkpoint.
        found: the one to go on from, as the directory was when we looked.

    Raises:
        RecordError: a checkpoint that is there belongs to another config or other data.
    """

    def __init__(self, directory: Path, config: str, data: str, every: float = 300.0) -> None:
        self._directory = directory
        self._identity = {"config": config, "data": data}
        self._every = every
        self.environment: Environment | None = None
        self._last = time.monotonic()
        self._damaged: list[Path] = []
        self.found = self._find()

    def _find(self) -> Checkpoint | None:
        for path in reversed(checkpoints_in(self._directory)):
            if path in self._damaged:
                continue
            try:
                header, body = _parsed(path)
                for name, mine in self._identity.items():
                    if header.get(name) != mine:
                        raise RecordError(
                            f"{path}: a checkpoint of another run ({name} {header.get(name)!r}, this one has "
                            f"{mine!r}); nothing was changed. Remove it to begin anew"
                        )
                return Checkpoint(path, header, _state(body))
            except _DamagedError as error:
                self._refuse(path, str(error))
        if self._damaged:
            words = f"{self._directory}: no checkpoint is left undamaged, the run begins anew"
            warnings.warn(words, CheckpointWarning, stacklevel=2)
        return None

    def _refuse(self, path: Path, why: str) -> None:
        self._damaged.append(path)
        warnings.warn(f"{path}: damaged, {why}; not used", CheckpointWarning, stacklevel=2)

    def restore(self, load: Callable[[Any, int], None], otherwise: Any) -> None:
        """Has `load` called with state and step of the last checkpoint that it takes; with `otherwise` and 0 if none.

        What a checkpoint holds is known to those alone who go on from it; one that they cannot, as another version may
        have written it, is no reason to lose the one before it.
        """
        while self.found is not None:
            try:
                load(self.found.state, self.found.header["step"])
                return
            except Exception as error:  # torch raises what it likes
                self._refuse(self.found.path, f"holds another state ({type(error).__name__}: {error})")
                load(otherwise, 0)
                self.found = self._find()

    @property
    def last(self) -> str:
        """The one a stopped run goes on from, in words."""
        good = [path for path in checkpoints_in(self._directory) if path not in self._damaged]
        return str(good[-1]) if good else "none yet"

    def due(self, *, epoch_ended: bool = False) -> bool:
        """Whether enough time has gone by since the last that another is worth its while."""
        return time.monotonic() - self._last >= (min(EPOCH_SECONDS, self._every) if epoch_ended else self._every)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Writes the state after `step` steps, then removes all but the last two.

        Raises:
            RecordError: it cannot be written, for instance because the disk is full; those before it stand.
        """
        path = self._directory / f"step-{step:09d}{SUFFIX}"
        body = io.BytesIO()
        torch.save(dict(state), body)
        header: dict[str, Any] = {"step": step, **self._identity}
        if self.environment is not None:
            header["environment"] = self.environment
        head, state_bytes = json.dumps(header).encode() + b"\n", body.getbuffer()  # large: not copied again
        digest = hashlib.sha256(head)
        digest.update(state_bytes)
        try:
            write_atomically(
                path, lambda file: file.writelines((MAGIC, digest.hexdigest().encode(), b"\n", head, state_bytes))
            )
        except OSError as error:
            raise RecordError(
                f"{path}: cannot be written ({error.strerror}); the run stops at step {step}. "
                f"The same command goes on from the last checkpoint: {self.last}"
            ) from error
        self._last = time.monotonic()
        # A damaged one with a higher number would else count as one of the two.
        self._damaged = [damaged for damaged in self._damaged if damaged != path]
        for old in [*self._damaged, *[p for p in checkpoints_in(self._directory) if p not in self._damaged][:-KEPT]]:
            old.unlink(missing_ok=True)
        self._damaged = []


def checkpoints_in(directory: Path) -> list[Path]:
    """Oldest first."""
    return sorted(directory.glob(f"step-*{SUFFIX}"))


def clear_checkpoints(directory: Path) -> None:
    """Removes them all: a finished run keeps its weights alone."""
    for path in checkpoints_in(directory):
        path.unlink(missing_ok=True)
