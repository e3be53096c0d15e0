"""What a data set is, how one is split, and its checksum."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

SPLIT_SEED = 20_181_114  # of every split that is ours


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels in three fixed parts, as they came: uint8, not normalised.

    Images are (N, H, W) or (N, H, W, C) with grey levels 0..255 (digits: 0..16); labels are (N,), 0..num_classes - 1.
    `note` is what has to be said beside every result on these images; mostly nothing.
    """

    name: str
    num_classes: int
    x_train: Tensor
    y_train: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor
    note: str = ""

    @property
    def in_channels(self) -> int:
        return 1 if self.x_train.ndim == 3 else self.x_train.shape[3]

    @property
    def image_size(self) -> int:
        return self.x_train.shape[1]

    @cached_property
    def sha256(self) -> str:
        """Checksum of every part: contents, shapes and order, hence of the split too. Computed once."""
        digest = hashlib.sha256()
        for images, labels in (
            (self.x_train, self.y_train),
            (self.x_validation, self.y_validation),
            (self.x_test, self.y_test),
        ):
            for part in (images, labels):
                digest.update(f"{tuple(part.shape)}".encode())
                digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """Indices (N,) in an order any prefix of which holds every class in proportion, random within a class.

    >>> order = stratified_order(torch.tensor([0, 0, 0, 0, 1, 1]), seed=0)
    >>> sorted(torch.tensor([0, 0, 0, 0, 1, 1])[order[:3]].tolist())
    [0, 0, 1]
    """
    # numpy promises this legacy stream never changes, which torch and numpy's newer generators do not.
    import numpy as np

    shuffle = np.random.RandomState(seed).permutation(len(labels))
    shuffled = labels[torch.from_numpy(shuffle)]
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in shuffled.unique():
        members = (shuffled == label).nonzero().squeeze(1)
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return torch.from_numpy(shuffle)[position.argsort(stable=True)]
