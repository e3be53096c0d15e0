"""Data sets kept as one `NAME.npz`: x_train, y_train, x_test, y_test, all uint8, images (N, H, W) or (N, H, W, C).

The official test part is the test part. The validation part is a stratified tenth of the official training part, drawn
once under a fixed seed. Other arrays in the file are not read, but for `note` (a string) and the indices
`approx_train_idx` and `approx_test_idx` of images that are not exact.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from dropact.experiments.data.dataset import SPLIT_SEED, Dataset, stratified_order
from dropact.experiments.errors import DataError

VALIDATION_SHARE = 10  # one image in ten
KEYS = ("x_train", "y_train", "x_test", "y_test")
_PIECE = 1 << 22  # bytes read at once


@dataclass(frozen=True)
class Archive:
    """What `NAME.npz` must hold: the shape of one image, and how many images of how many classes.

    `other_sizes` are further accepted numbers of training and test images: other editions of the same set.
    """

    name: str
    image_shape: tuple[int, ...]
    num_classes: int
    train: int
    test: int
    other_sizes: tuple[tuple[int, int], ...] = ()

    def check_shapes(self, source: object, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raises DataError, naming `source`, unless these are the shapes of this data set's four arrays."""
        expected = [
            dict(zip(KEYS, ((train, *self.image_shape), (train,), (test, *self.image_shape), (test,)), strict=True))
            for train, test in ((self.train, self.test), *self.other_sizes)
        ]
        if shapes not in expected:
            got, accepted = (", ".join(f"{key} {shape[key]}" for key in KEYS) for shape in (shapes, expected[0]))
            raise DataError(f"{source}: got {got}; accepted: {accepted}")

    def check_labels(self, source: object, key: str, largest: int) -> None:
        """Raises DataError, naming `source`, if the largest label in array `key` is not one of this data set's."""
        if largest >= self.num_classes:
            raise DataError(f"{source}: {key} holds label {largest}, accepted: 0 to {self.num_classes - 1}")


ARCHIVES = {
    archive.name: archive
    for archive in (
        Archive("cifar10", (32, 32, 3), 10, 50_000, 10_000),
        Archive("cifar100", (32, 32, 3), 100, 50_000, 10_000),
        Archive("svhn", (32, 32, 3), 10, 73_257 + 531_131, 26_032),  # train and extra
        Archive("mnist", (28, 28), 10, 60_000, 10_000),
        Archive("fashion-mnist", (28, 28), 10, 60_000, 10_000),
        Archive("emnist-balanced", (28, 28), 47, 112_800, 18_800),
        Archive("emnist-byclass", (28, 28), 62, 697_932, 116_323),
        Archive("emnist-bymerge", (28, 28), 47, 697_932, 116_323),
        Archive("emnist-letters", (28, 28), 26, 124_800, 20_800, other_sizes=((88_800, 14_800),)),
        Archive("emnist-digits", (28, 28), 10, 240_000, 40_000),
        Archive("emnist-mnist", (28, 28), 10, 60_000, 10_000),
    )
}


class _Reader:
    """The arrays of an open `.npz`, one at a time; none is ever unpickled."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self.file = file
        self.names = {name.removesuffix(".npy") for name in file.namelist()}

    def small(self, key: str) -> Any:
        """An array of any dtype but objects, as numpy reads it."""
        import numpy as np

        with self.file.open(f"{key}.npy") as stream:
            values = np.lib.format.read_array(stream, allow_pickle=False)
            self._check_end(key, stream)
        return values

    def labels(self, key: str) -> Tensor:
        return torch.from_numpy(self.small(key))

    def shape(self, key: str) -> tuple[int, ...]:
        with self.file.open(f"{key}.npy") as stream:
            return self._header(key, stream)

    def images(self, key: str, destination: Tensor | None = None) -> Tensor:
        """The array, its row i at place destination[i]: a shuffled copy beside it would double the memory."""
        import numpy as np

        with self.file.open(f"{key}.npy") as stream:
            shape = self._header(key, stream)
            whole = np.empty(shape, dtype=np.uint8)
            rows = max(1, _PIECE // whole[0].size)
            for start in range(0, len(whole), rows):
                stop = min(start + rows, len(whole))
                piece = np.frombuffer(stream.read((stop - start) * whole[0].size), dtype=np.uint8)
                places = slice(start, stop) if destination is None else destination[start:stop].numpy()
                whole[places] = piece.reshape(stop - start, *shape[1:])
            self._check_end(key, stream)
        return torch.from_numpy(whole)

    def _check_end(self, key: str, stream: IO[bytes]) -> None:
        if stream.read(1):  # also makes zipfile compare the checksum
            raise DataError(f"{self.path}: {key} is longer than its header says")

    def _header(self, key: str, stream: IO[bytes]) -> tuple[int, ...]:
        import numpy as np
        from numpy.lib import format as npy

        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise DataError(f"{self.path}: {key} is in .npy format {version}, accepted: (1, 0) or (2, 0)")
        shape, fortran_order, dtype = read(stream)
        if dtype != np.uint8:
            raise DataError(f"{self.path}: {key} is {dtype}, accepted: uint8")
        if fortran_order:
            raise DataError(f"{self.path}: {key} is stored in Fortran order, accepted: C order")
        return shape


def _note(reader: _Reader) -> str:
    notes = [str(reader.small("note"))] if "note" in reader.names else []
    counts = {
        part: len(reader.small(f"approx_{part}_idx"))
        for part in ("train", "test")
        if f"approx_{part}_idx" in reader.names
    }
    if any(counts.values()):
        told = " and ".join(f"{count} {part}" for part, count in counts.items())
        notes.append(f"{told} images are JPEG approximations")
    return "; ".join(notes)


def read_archive(archive: Archive, path: Path) -> Dataset:
    """The data set in `path`, checked and split; needs no more memory than the images themselves.

    Raises:
        DataError: the file cannot be read, lacks an array, or an array has another dtype, shape or label range.
    """
    try:
        with zipfile.ZipFile(path) as file:
            reader = _Reader(path, file)
            for key in KEYS:
                if key not in reader.names:
                    raise DataError(f"{path}: no array {key!r}, accepted: {', '.join(KEYS)}")
            archive.check_shapes(path, {key: reader.shape(key) for key in KEYS})
            y_train, y_test = reader.labels("y_train"), reader.labels("y_test")
            for key, labels in (("y_train", y_train), ("y_test", y_test)):
                archive.check_labels(path, key, int(labels.max()))
            order = stratified_order(y_train, SPLIT_SEED)
            destination = torch.empty_like(order)
            destination[order] = torch.arange(len(order))
            held_out = len(order) // VALIDATION_SHARE
            x_validation, x_train = reader.images("x_train", destination).tensor_split([held_out])
            return Dataset(
                name=archive.name,
                num_classes=archive.num_classes,
                x_train=x_train,
                y_train=y_train[order[held_out:]],
                x_validation=x_validation,
                y_validation=y_train[order[:held_out]],
                x_test=reader.images("x_test"),
                y_test=y_test,
                note=_note(reader),
            )
    except DataError:
        raise
    except Exception as error:  # a damaged zip raises almost anything
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: damaged, cannot be read as .npz ({type(error).__name__}: {reason})") from error
