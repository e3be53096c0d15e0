"""CIFAR-10 in two parcels that fit beside the checkout into what may be carried to a lent machine (64 MiB a call).

    python scripts/gpu_data.py pack DATA/cifar10.npz build/gpu-data      # build/gpu-data/1 and /2; needs Pillow
    python scripts/gpu_data.py join FOLDER cifar10.npz                   # there: FOLDER holds the files of both

Lossless: mosaics as WebP, 103 MB, which Pillow reads (PNG: 130; JPEG XL: 89, and a package of 26 to read it). `join`
checks the sum of what `pack` read, and writes nothing where a file is missing.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

PIECE, COLUMNS = 10_000, 100  # images in a mosaic, and in a row of it
NAMES = ("x_train", "y_train", "x_test", "y_test")


def digest(arrays: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in NAMES)).hexdigest()


def pack(source: Path, into: Path) -> None:
    with np.load(source) as file:
        arrays = dict(file)
    images = np.concatenate([arrays["x_train"], arrays["x_test"]])
    size = images.shape[1]
    count = -(-len(images) // PIECE)
    for number in range(count):
        part = images[number * PIECE : (number + 1) * PIECE]
        grid = part.reshape(-1, COLUMNS, *part.shape[1:]).swapaxes(1, 2).reshape(-1, COLUMNS * size, 3)
        folder = into / ("1" if number < count / 2 else "2")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grid).save(folder / f"images{number}.webp", lossless=True, quality=80, method=4)
    about = {"images": count, "size": size, "sha256": digest(arrays), "train": len(arrays["x_train"])}
    others = {name: array for name, array in arrays.items() if not name.startswith("x_")}
    np.savez(into / "2" / "labels.npz", about=json.dumps(about), **others)


def join(folder: Path, target: Path) -> None:
    with np.load(folder / "labels.npz") as file:
        arrays = dict(file)
    about = json.loads(str(arrays.pop("about")))
    parts, size = [], about["size"]
    for number in range(about["images"]):
        grid = np.asarray(Image.open(folder / f"images{number}.webp").convert("RGB"))
        rows = grid.reshape(len(grid) // size, size, COLUMNS, size, 3).swapaxes(1, 2)
        parts.append(rows.reshape(-1, size, size, 3))
    images = np.concatenate(parts)
    arrays |= {"x_train": images[: about["train"]], "x_test": images[about["train"] :]}
    if digest(arrays) != about["sha256"]:
        sys.exit(f"gpu_data: {folder} does not hold what was packed; nothing is written")
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(part, target)


if __name__ == "__main__":
    verb, first, second = sys.argv[1:]
    Image.MAX_IMAGE_PIXELS = None
    {"pack": pack, "join": join}[verb](Path(first), Path(second))
