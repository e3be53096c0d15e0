"""AutoAugment (Cubuk et al., "AutoAugment: Learning Augmentation Policies from Data", 2018): a sub-policy per image.

The policies are the published ones, the transforms torchvision's on PIL images. They differ from the published code for
CIFAR (tensorflow/models, research/autoaugment): what comes in from outside is black and not the mean colour, images are
moved by up to 150/331 of their width (14 pixels) and not 10, and colours change in either direction. Every image has a
seed of its own, so the result does not depend on how the images are shared out. The workers are processes: torchvision
draws from torch's default generator, of which all threads of a process have the same one.
"""

import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dropact.experiments.generator import lent_generator
from dropact.experiments.processes import end_with_parent

POLICIES = ("cifar10", "svhn", "imagenet")  # CIFAR-100 is trained with the policy of CIFAR-10, as in the paper


@cache
def _transform(policy: str) -> Any:
    from torchvision.transforms import v2

    return v2.AutoAugment(v2.AutoAugmentPolicy(policy))


def _augment(policy: str, pixels: Any, seeds: Sequence[int]) -> Any:
    """Images (N, H, W[, 3]) as arrays, image i transformed after `torch.manual_seed(seeds[i])`."""
    import numpy as np
    from PIL import Image

    transform = _transform(policy)
    augmented = []
    with lent_generator() as generator:
        for image, seed in zip(pixels, seeds, strict=True):
            generator.manual_seed(seed)
            augmented.append(np.asarray(transform(Image.fromarray(image))))
    return np.stack(augmented)


def _start() -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first sees to it
    torch.set_num_threads(1)


class Workers:
    """Processes that share out the images of a batch; with a count of 0 the caller's process does the work, and seeds
    torch's default generator for a while, which no other thread may draw from then.

    >>> with Workers(0) as workers:
    ...     workers.augment(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "cifar10", torch.tensor([1, 2])).shape
    torch.Size([2, 3, 8, 8])

    Args:
        count: number of processes, started at the first batch and stopped when the `with` block ends.

    Raises:
        ValueError: a negative count.
    """

    def __init__(self, count: int) -> None:
        if count < 0:
            raise ValueError(f"workers: got {count!r}, accepted: a whole number of at least 0")
        self.count = count
        # Not forked from this process: its threads, and an accelerator in use, do not survive that.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, context, initializer=_start) if count else None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def augment(self, images: Tensor, policy: str, seeds: Tensor) -> Tensor:
        """The images after one sub-policy each; the same whatever the number of workers.

        Args:
            images: (N, 1 or 3, H, W), uint8, on the host.
            policy: one of `POLICIES`.
            seeds: (N,), int64: image i is torchvision's result after `torch.manual_seed(seeds[i])`.

        Raises:
            ValueError: an unknown policy, or images of another kind.
        """
        import numpy as np

        if policy not in POLICIES:
            raise ValueError(f"policy: got {policy!r}, accepted: {', '.join(POLICIES)}")
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8 or images.is_cuda:
            raise ValueError(
                f"images: got {tuple(images.shape)} {images.dtype} on {images.device}, "
                "accepted: (N, 1 or 3, H, W) uint8 on the host"
            )
        grey = images.shape[1] == 1
        pixels = (images[:, 0] if grey else images.movedim(1, 3)).contiguous().numpy()
        if self._pool is None:
            augmented = _augment(policy, pixels, seeds.tolist())
        else:
            parts = zip(np.array_split(pixels, self.count), torch.tensor_split(seeds, self.count), strict=True)
            jobs = [self._pool.submit(_augment, policy, part, numbers.tolist()) for part, numbers in parts if len(part)]
            augmented = np.concatenate([job.result() for job in jobs])
        result = torch.from_numpy(augmented)
        return result.unsqueeze(1) if grey else result.movedim(3, 1)
