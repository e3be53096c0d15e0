"""Data on the device, and the batches that a network sees.

The parts lie on the device as bytes; a batch is gathered, augmented, turned to floats and normalised there, by few
operations on the whole batch. AutoAugment works on single images in other processes: then the part lies on the host,
and the next batch is made while the network trains on this one.
"""

import itertools
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dropact.experiments.augmentation import AUGMENTATIONS, Augmentation, Workers
from dropact.experiments.config import MEMORY_FORMATS, RunConfig
from dropact.experiments.data import Dataset
from dropact.experiments.data.dataset import stratified_order
from dropact.experiments.errors import ConfigError
from dropact.experiments.hardware import usable_cores
from dropact.experiments.methods import image_fields
from dropact.experiments.ranks import ALONE, Ranks, sizes
from dropact.experiments.seeds import derived_seed, stream

HOST = torch.device("cpu")
MOST_WORKERS = 8  # for AutoAugment; more would have a handful of images each


@dataclass(frozen=True)
class Part:
    """Images (N, C, H, W) and labels (N,) of one part of a data set, uint8."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Normalisation:
    """Per channel, in grey levels, written out as an image (1, C, H, W). What comes out lies where `mean` lies."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, images: Tensor, device: torch.device = HOST) -> "Normalisation":
        """Mean and standard deviation over images and pixels, in double precision; flat channels are only centred."""
        levels = torch.stack(
            [torch.bincount(images[:, i].flatten().int(), minlength=256) for i in range(images.shape[1])]
        )
        grey = torch.arange(256, dtype=torch.float64)
        share = levels.double() / levels.sum(1, keepdim=True)
        mean = share @ grey
        std = (share @ grey.square() - mean.square()).clamp(min=0).sqrt()
        flat = (levels > 0).sum(1) == 1
        # In the images' own layout they are added as one vector; three channels at the end of it are not vectorised.
        like = torch.empty_like(images[:1], dtype=torch.float32, device=device)
        return cls(like.copy_(mean[:, None, None]), like.clone().copy_(torch.where(flat, 1.0, std)[:, None, None]))

    @classmethod
    def scaling(cls, images: Tensor, device: torch.device = HOST) -> "Normalisation":
        """From 0 to 1: the largest grey level of any image becomes 1."""
        largest = max(int(images.max()), 1)
        zeros = torch.zeros_like(images[:1], dtype=torch.float32, device=device)
        return cls(zeros, torch.full_like(zeros, largest))

    def __call__(self, images: Tensor) -> Tensor:
        return images.to(self.mean.device).float().sub_(self.mean).div_(self.std)


def normalisation(config: RunConfig, images: Tensor, device: torch.device = HOST) -> Normalisation:
    """What `config` makes of images such as these."""
    kind = Normalisation.of if config.normalisation == "standardise" else Normalisation.scaling
    return kind(images, device)


def part_of(images: Tensor, labels: Tensor, config: RunConfig, device: torch.device = HOST) -> Part:
    """Images as a data set holds them, on the device in the memory format of `config`."""
    images = images.unsqueeze(1) if images.ndim == 3 else images.movedim(3, 1)
    return Part(images.contiguous(memory_format=MEMORY_FORMATS[config.memory_format]).to(device), labels.to(device))


def training_part(config: RunConfig, data: Dataset, device: torch.device = HOST) -> Part:
    """The images that `config` trains on.

    Raises:
        ConfigError: it asks for more of them than there are.
    """
    images, labels = data.x_train, data.y_train
    if config.train_on == "train+validation":
        images, labels = torch.cat([images, data.x_validation]), torch.cat([labels, data.y_validation])
    if config.train_images is not None:
        count = trained_on(config, len(data.y_train), len(data.y_validation))
        # In the order of the part: which images are chosen is all that the number decides.
        chosen = stratified_order(labels, derived_seed(config.seed, "images") % 2**32)[:count].sort()[0]
        images, labels = images[chosen], labels[chosen]
    return part_of(images, labels, config, device)


def augmentation_of(config: RunConfig) -> Augmentation:
    """What happens to the training images: the augmentation of `config`, and what its methods add."""
    added = image_fields(config.method, config.options, config.dataset)
    return replace(AUGMENTATIONS[config.augmentation], **added)


def batch_order(config: RunConfig, images: int, epoch: int) -> tuple[Tensor, ...]:
    """The batches of an epoch, counted from 0, as indices: every image once, batches of equal size (± 1).

    An equal cut, because a last batch of one or two images would feed BatchNorm noise.
    """
    batches = -(-images // config.batch_size)
    return torch.randperm(images, generator=stream(config.seed, "order", epoch)).tensor_split(batches)


def trained_on(config: RunConfig, train: int, validation: int) -> int:
    """How many images an epoch has, of those in the two parts.

    Raises:
        ConfigError: `config` asks for more than there are.
    """
    available = train + (validation if config.train_on == "train+validation" else 0)
    if config.train_images is not None and config.train_images > available:
        raise ConfigError(
            f"train_images: got {config.train_images}, accepted: at most {available}, the {config.train_on} part of "
            f"{config.dataset}"
        )
    return available if config.train_images is None else config.train_images


class Batches:
    """The training images as batches: (N, C, H, W) floats and (N,) labels. Enter it to train from it.

    Args:
        ranks: each gets its share of every batch, with the augmentation that these images have in the whole of it.
    """

    def __init__(self, config: RunConfig, data: Dataset, device: torch.device = HOST, ranks: Ranks = ALONE) -> None:
        self._config, self._device, self._ranks = config, device, ranks
        self._augment = augmentation_of(config)
        self._on_host = self._augment.autoaugment is not None
        self.part = training_part(config, data, HOST if self._on_host else device)
        self.normalise = normalisation(config, self.part.images.cpu(), device)
        self._workers: Workers | None = None

    @property
    def per_epoch(self) -> int:
        return -(-len(self.part) // self._config.batch_size)

    @property
    def _sizes(self) -> list[int]:
        return sizes(len(self.part), self.per_epoch)

    def images_in(self, step: int) -> int:
        """Size of the whole batch at a step of the run."""
        return self._sizes[step % self.per_epoch]

    def __enter__(self) -> "Batches":
        self._running: AbstractContextManager[Workers | None] = nullcontext()
        if self._on_host:
            self._running = Workers(max(1, min(MOST_WORKERS, usable_cores() // self._ranks.count)))
        self._workers = self._running.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.__exit__(None, None, None)

    def make(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """This rank's share of the batch of these images at a step of the run, which decides its augmentation."""
        whole = len(indices)
        place = self._ranks.place(whole, self._config.microbatches)
        indices = indices[place].to(self.part.labels.device, non_blocking=True)  # else it waits for the last step
        images = self.part.images[indices]  # index_select would lose the memory format
        labels = self.part.labels[indices].to(self._device).long()
        generator = stream(self._config.seed, "augmentation", step)
        return self._augment(images, self.normalise, generator, self._workers, place, whole), labels

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, counted from 0, from its batch `first` on."""
        order = batch_order(self._config, len(self.part), epoch)
        jobs = [(indices, epoch * len(order) + i) for i, indices in enumerate(order)][first:]
        if not self._on_host:
            for indices, step in jobs:
                yield self.make(indices, step)
            return
        if not jobs:  # a run that goes on from the last step of an epoch
            return
        with ThreadPoolExecutor(1) as ahead:
            waiting = ahead.submit(self.make, *jobs[0])
            for job in jobs[1:]:
                made, waiting = waiting.result(), ahead.submit(self.make, *job)
                yield made
            yield waiting.result()

    def endless(self) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The batches of all epochs from 0 on; to be closed, as one may be in the making."""
        for epoch in itertools.count():
            yield from self.epoch(epoch)
