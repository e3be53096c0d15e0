"""Makes `NAME.npz` from torchvision's download, whose checksums torchvision verifies."""

import os
import tempfile
from pathlib import Path
from typing import Any

from dropact.experiments.errors import DataError

CLASSES = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashion-mnist": "FashionMNIST"}


def download_archive(name: str, path: Path) -> None:
    """Downloads data set `name` and writes it to `path`, which appears complete or not at all.

    Raises:
        DataError: the download failed, or `path` cannot be written.
    """
    import numpy as np
    from torchvision import datasets

    maker: Any = getattr(datasets, CLASSES[name])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{name}-") as scratch:
            arrays: dict[str, Any] = {}
            for part, train in (("train", True), ("test", False)):
                source = maker(scratch, train=train, download=True)
                arrays[f"x_{part}"] = np.asarray(source.data, dtype=np.uint8)
                arrays[f"y_{part}"] = np.asarray(source.targets, dtype=np.uint8)
            partial = Path(scratch) / path.name
            with partial.open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
    except (OSError, RuntimeError) as error:  # torchvision: RuntimeError for a bad file, URLError is an OSError
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name}: {path} is not there and making it failed ({reason}); "
            f"name the folder that holds {path.name} with --data or DROPACT_DATA"
        ) from error
