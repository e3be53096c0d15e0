"""Makes `NAME.npz` from the official files, which torchvision downloads, verifies and reads."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dropact.experiments.data.archive import Archive
from dropact.experiments.errors import DataError

# (part, images (N, H, W[, C]), labels (N,)), one piece in memory at a time
Pieces = Iterator[tuple[str, Any, Any]]
_ROWS = 10_000  # images copied at once


def _pieces(name: str, make: Callable[..., Any]) -> Pieces:
    """The official parts of data set `name`; `make` opens a class of torchvision's by its name."""
    import numpy as np

    if name == "svhn":
        for part, split in (("train", "train"), ("train", "extra"), ("test", "test")):
            source = make("SVHN", split=split)
            yield part, source.data.transpose(0, 2, 3, 1), source.labels
            del source
        return
    for part in ("train", "test"):
        if name.startswith("emnist-"):
            split = name.removeprefix("emnist-")
            source = make("EMNIST", split=split, train=part == "train")
            # The files hold every image transposed, and number the letters from 1.
            yield part, np.asarray(source.data).swapaxes(1, 2), np.asarray(source.targets) - (split == "letters")
        else:
            classes = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
            source = make(classes[name], train=part == "train")
            yield part, np.asarray(source.data), np.asarray(source.targets)


def _written(archive: Archive, pieces: Pieces, scratch: Path) -> dict[str, Any]:
    """The four arrays, checked; the images on disk, since those of SVHN would fill the memory of a small machine."""
    import numpy as np

    labels: dict[str, list[Any]] = {"train": [], "test": []}
    for part, images, numbers in pieces:
        if tuple(images.shape[1:]) != archive.image_shape or images.dtype != np.uint8:
            raise DataError(
                f"{archive.name}: the official files hold {images.dtype} images {tuple(images.shape[1:])}, "
                f"accepted: uint8 {archive.image_shape}"
            )
        if len(images) != len(numbers):
            raise DataError(f"{archive.name}: the official files hold {len(images)} images, {len(numbers)} labels")
        with (scratch / part).open("ab") as file:
            for start in range(0, len(images), _ROWS):
                file.write(np.ascontiguousarray(images[start : start + _ROWS]).data)
        labels[part].append(np.asarray(numbers))
    source = f"{archive.name}: the official files"
    arrays: dict[str, Any] = {}
    for part, made in labels.items():
        numbers = np.concatenate(made)
        archive.check_labels(source, f"y_{part}", int(numbers.max()))
        arrays[f"x_{part}"] = np.memmap(scratch / part, np.uint8, "r", shape=(len(numbers), *archive.image_shape))
        arrays[f"y_{part}"] = numbers.astype(np.uint8)
    archive.check_shapes(source, {key: array.shape for key, array in arrays.items()})
    return arrays


def make_archive(archive: Archive, path: Path) -> None:
    """Writes the official data to `path`, which appears complete or not at all.

    Official files in the same folder, laid out as torchvision does, are used if they are sound; others are downloaded,
    and not kept. Sound: CIFAR's and SVHN's by their checksums, those of the MNIST family by form alone.

    Raises:
        DataError: the download failed, the files are not what they should be, or `path` cannot be written.
    """
    import numpy as np
    from torchvision import datasets

    new = [above for above in path.parents if not above.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{archive.name}-") as folder:
            scratch = Path(folder)

            def make(name: str, **arguments: Any) -> Any:
                maker: Any = getattr(datasets, name)
                try:
                    return maker(path.parent, download=False, **arguments)
                except Exception:  # not there (RuntimeError), or not sound (almost anything)
                    return maker(scratch, download=True, **arguments)

            arrays = _written(archive, _pieces(archive.name, make), scratch)
            partial = scratch / path.name
            with partial.open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
    except BaseException as error:  # torchvision, scipy, gzip and zipfile have no error in common
        with suppress(OSError):
            for made in new:  # the innermost first
                made.rmdir()
        if isinstance(error, DataError) or not isinstance(error, Exception):
            raise
        reason = " ".join(str(error).split())
        raise DataError(
            f"{archive.name}: {path} is not there and making it failed ({type(error).__name__}: {reason}); "
            f"name the folder that holds {path.name} with --data or DROPACT_DATA"
        ) from error
