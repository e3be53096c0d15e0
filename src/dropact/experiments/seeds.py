"""Independent streams from one seed."""

import hashlib
from typing import Literal

import torch

Purpose = Literal["weights", "images", "order", "augmentation", "masks", "points"]


def derived_seed(seed: int, purpose: Purpose, part: int = 0) -> int:
    """A 63-bit seed for one part of a `purpose`, an epoch or a step: all are different.

    Of such a seed torch's generator on the CPU takes 32 bits, so that two parts share a stream with a chance of 2**-32.

    >>> derived_seed(0, "weights") == derived_seed(0, "order")
    False
    """
    digest = hashlib.sha256(f"dropact/{purpose}/{seed}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, purpose: Purpose, part: int) -> torch.Generator:
    """That stream, on the CPU, so that runs do not depend on the device.

    One stream for each epoch's order and each step's augmentation: a run that goes on needs to know no more than where
    it is, and nothing that draws more or fewer numbers shifts what comes after.
    """
    return torch.Generator().manual_seed(derived_seed(seed, purpose, part))
