"""The receipt of a run: what it was made with."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from dropact.experiments.data import Dataset
from dropact.experiments.ranks import ALONE, Ranks

SOURCES = (".py", ".c", ".h")
PACKAGES = ("dropact", "torch", "numpy", "scikit-learn", "torchvision", "scipy", "matplotlib")


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


def describe(data: Dataset, command: str, device: str, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Versions, hardware, git revision, checksum of the data, and the command; no host name and no user name."""
    return {
        "command": command,
        "git_revision": git_revision(),
        "data_sha256": data.sha256,
        "data_note": data.note,
        **machine(PACKAGES),
        "device": device,
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else None,
        **({"ranks": ranks.count} if ranks.count > 1 else {}),
    }


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """Versions and hardware, the same in every record; a package that is not there has the version null."""
    return {
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
