"""Data sets kept as one `NAME.npz`: x_train, y_train, x_test, y_test, all uint8, images (N, H, W) or (N, H, W, C).

The official test part is the test part. The validation part is a stratified tenth of the official training part, drawn
once under a fixed seed.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dropact.experiments.data.dataset import Dataset, stratified_order
from dropact.experiments.errors import DataError

SPLIT_SEED = 20_181_114
VALIDATION_SHARE = 10  # one image in ten
KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Archive:
    """What `NAME.npz` must hold: the shape of one image, and how many images of how many classes."""

    name: str
    image_shape: tuple[int, ...]
    num_classes: int
    train: int
    test: int


ARCHIVES = {
    archive.name: archive
    for archive in (
        Archive("cifar10", (32, 32, 3), 10, 50_000, 10_000),
        Archive("cifar100", (32, 32, 3), 100, 50_000, 10_000),
        Archive("mnist", (28, 28), 10, 60_000, 10_000),
        Archive("fashion-mnist", (28, 28), 10, 60_000, 10_000),
    )
}


def _checked(archive: Archive, arrays: dict[str, Tensor], path: Path) -> None:
    for part, count in (("train", archive.train), ("test", archive.test)):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        expected = (count, *archive.image_shape)
        if tuple(images.shape) != expected or tuple(labels.shape) != (count,):
            raise DataError(
                f"{path}: x_{part} {tuple(images.shape)} and y_{part} {tuple(labels.shape)}, "
                f"accepted: {expected} and {(count,)}"
            )
        if int(labels.max()) >= archive.num_classes:
            raise DataError(
                f"{path}: y_{part} holds label {int(labels.max())}, accepted: 0 to {archive.num_classes - 1}"
            )


def read_archive(archive: Archive, path: Path) -> Dataset:
    """The data set in `path`, checked and split.

    Raises:
        DataError: the file cannot be read, lacks an array, or an array has another dtype, shape or label range.
    """
    import numpy as np

    arrays: dict[str, Tensor] = {}
    try:
        # Opened here: numpy leaves its own handle open when the file is damaged.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            for key in KEYS:
                if key not in file:
                    raise DataError(f"{path}: no array {key!r}, accepted: {', '.join(KEYS)}")
                array = file[key]
                if array.dtype != np.uint8:
                    raise DataError(f"{path}: {key} is {array.dtype}, accepted: uint8")
                arrays[key] = torch.from_numpy(np.ascontiguousarray(array))
    except DataError:
        raise
    except Exception as error:  # a damaged zip raises almost anything
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: damaged, cannot be read as .npz ({type(error).__name__}: {reason})") from error
    _checked(archive, arrays, path)
    order = stratified_order(arrays["y_train"], SPLIT_SEED)
    held_out = archive.train // VALIDATION_SHARE
    validation, train = order[:held_out], order[held_out:]
    return Dataset(
        name=archive.name,
        num_classes=archive.num_classes,
        x_train=arrays["x_train"][train],
        y_train=arrays["y_train"][train],
        x_validation=arrays["x_train"][validation],
        y_validation=arrays["y_train"][validation],
        x_test=arrays["x_test"],
        y_test=arrays["y_test"],
    )
