"""The receipt of a run: what it was made with."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import torch

from dropact.experiments.data import Dataset
from dropact.experiments.hardware import DEVICES
from dropact.experiments.ranks import ALONE, Ranks
from dropact.experiments.schema import Accepts, Positive, one_of

SOURCES = (".py", ".c", ".h")
PACKAGES = ("dropact", "torch", "numpy", "scikit-learn", "torchvision", "scipy", "matplotlib")


class Machine(TypedDict):
    """Versions and hardware, the same in every record; a package that is not there has the version null."""

    python: str
    packages: Annotated[
        dict[str, str | None], Accepts("versions by package, torch among them", lambda versions: "torch" in versions)
    ]
    system: str
    processor: str
    cores: int | None
    threads: Annotated[int, Accepts("a whole number from 1 to 4096", lambda count: 1 <= count <= 4096)]


class Origin(Machine):
    """That, and what was run on it."""

    command: str
    git_revision: str | None
    device: Annotated[str, one_of(DEVICES)]


class TrainedWith(Origin):
    """That, and the data."""

    data_sha256: str
    data_note: str
    accelerator: str | None
    ranks: NotRequired[Positive]


class Environment(TrainedWith):
    """environment.json: of the process that finished the run, and of those before it where they differ."""

    before: NotRequired[list[TrainedWith]]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@functools.cache
def git_revision() -> str | None:
    """The commit of this source tree; where the package's files differ, "+changes-" and a digest of them behind it.

    Asked once in a process, whose code stays what it was however the files change. Outside a checkout it is what
    DROPACT_REVISION says, and None if that says nothing.
    """
    # An installed copy inside somebody's repository is not tracked there, so that revision would be a wrong one.
    if not _git("ls-files", "--error-unmatch", Path(__file__).name):
        return os.environ.get("DROPACT_REVISION")
    revision = _git("rev-parse", "HEAD")
    package = Path(__file__).resolve().parents[1]
    changed = _git("status", "--porcelain", "--", str(package))
    return f"{revision}+changes-{_digest(package)}" if changed else revision


def _digest(package: Path) -> str:
    """Of all sources, so that two states that were never committed are two revisions."""
    found = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in SOURCES):
        found.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def describe(data: Dataset, command: str, device: str, ranks: Ranks = ALONE) -> Environment:
    """Versions, hardware, git revision, checksum of the data, and the command; no host name and no user name."""
    found: Environment = {
        "command": command,
        "git_revision": git_revision(),
        "data_sha256": data.sha256,
        "data_note": data.note,
        **machine(PACKAGES),
        "device": device,
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else None,
    }
    if ranks.count > 1:
        found["ranks"] = ranks.count
    return found


def machine(packages: Iterable[str]) -> Machine:
    """This one, with the versions of these packages."""
    return {
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
