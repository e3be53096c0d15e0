"""What a step costs on this machine, and a run of such steps, from a few steps on noise of the right shape.

A step is that of the training loop, its batch and augmentation included. Of each kind (all of a config that decides
what a step costs) one is thrown away, and then as many are timed as fit into the seconds given. Where two full batches
do not fit, the largest that does, of 8, 16, 32, ... images, is timed, and time taken to grow as the number of images:
rather too much, as small batches use a machine less well. Evaluation after each epoch is timed in the same way. Reading
the data, compiling (once a run, where the config wants it), checkpoints and the report are left out.
"""

import ctypes
import gc
import json
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dropact.experiments.batches import Batches, part_of, trained_on
from dropact.experiments.config import RunConfig
from dropact.experiments.data import Dataset
from dropact.experiments.data.archive import ARCHIVES, VALIDATION_SHARE
from dropact.experiments.data.digits import load_digits
from dropact.experiments.evaluation import error_percent
from dropact.experiments.hardware import autocast, checked_device, repeatable
from dropact.experiments.methods import METHODS, parts_of
from dropact.experiments.trainer import Trainer

SECONDS = 5.0
PROBE = 8  # images of the first steps: enough for BatchNorm, few enough for the largest network
BATCHES = 16  # of synthetic images: an epoch of them ends seldom, and is small beside the network
# What a step does not depend on.
_INDIFFERENT: dict[str, Any] = {
    "seed": 0,
    "epochs": 1,
    "schedule": "constant",
    "milestones": (),
    "lr": 1e-4,  # so small that noise for labels cannot make the weights overflow, which would change the time
    "lr_factor": 0.1,
    "full_epochs": None,
    "train_images": None,
    "evaluate_every": 1,
}


@dataclass(frozen=True)
class Size:
    """How many images of which shape a data set has, known without reading it."""

    train: int
    validation: int
    test: int
    image_shape: tuple[int, ...]
    num_classes: int

    @classmethod
    def of(cls, dataset: str) -> "Size":
        """That of a data set by name."""
        if dataset == "digits":
            data = load_digits()
            train, validation, test = (len(part) for part in (data.y_train, data.y_validation, data.y_test))
            return cls(train, validation, test, tuple(data.x_train.shape[1:]), data.num_classes)
        archive = ARCHIVES[dataset]
        validation = archive.train // VALIDATION_SHARE
        return cls(archive.train - validation, validation, archive.test, archive.image_shape, archive.num_classes)

    def evaluated(self, config: RunConfig) -> int:
        """Images evaluated after an epoch that is."""
        return self.test + (self.validation if config.train_on == "train" else 0)


@dataclass(frozen=True)
class Cost:
    """What one kind of step takes here.

    Attributes:
        batch_size: images of a timed step, at most the config's.
        step_seconds: of a step of the config's batch; beyond the timed batch by proportion.
        image_seconds: of evaluating one image.
        steps: how many were timed.
        peak_bytes: largest memory of the process (CPU) or of torch on the device (CUDA), without the data set; None
            where a smaller batch was timed or the system does not tell.
    """

    batch_size: int
    step_seconds: float
    image_seconds: float
    steps: int
    peak_bytes: int | None

    def run_seconds(self, config: RunConfig) -> float:
        """Of a whole run: every step, evaluation after every epoch, and at the end the train error, and BatchNorm
        recalibrated where the config wants it."""
        size = Size.of(config.dataset)
        images = trained_on(config, size.train, size.validation)
        steps = -(-images // config.batch_size)
        # An epoch is cut into equal steps, so that they are a little smaller than the batch size says.
        step = self.step_seconds * images / (steps * config.batch_size)
        evaluations = sum(config.evaluates(epoch) for epoch in range(1, config.epochs + 1))
        evaluated = evaluations * size.evaluated(config) + images
        evaluated += images + size.test if config.recalibrated else 0
        return config.epochs * steps * step + evaluated * self.image_seconds


def kind_of(config: RunConfig) -> str:
    """What it shares with all configs whose steps cost the same; of the options only those of branches dropped."""
    skips = any(METHODS[part].drops_branches for part in parts_of(config.method))  # fewer branches, cheaper steps
    options = dict(config.options) if skips else {}
    return json.dumps([config.method, options, replace(config, **_INDIFFERENT).setting], sort_keys=True)


def measure(config: RunConfig, device: str = "cpu", seconds: float = SECONDS, batch: int | None = None) -> Cost:
    """Times steps of `config`, for about `seconds` and the building of the network.

    >>> cost = measure(RunConfig(dataset="digits", network="simple-small", batch_size=32), seconds=0.05, batch=32)
    >>> cost.batch_size, cost.step_seconds > cost.image_seconds > 0
    (32, True)

    Args:
        batch: how many images a timed step has; by default what fits into `seconds`.

    Raises:
        ConfigError: the device is not there.
    """
    where = checked_device(device)
    with repeatable(where):
        steps = _Steps(replace(config, **_INDIFFERENT), where)
        batch = batch or _fitting(config, steps.time_bare, seconds)
        _reset_peak(where)
        step, count = steps.time(batch, seconds)
        image = steps.time_evaluation(batch, seconds / 3) / batch
        peak = _peak(where) if batch == config.batch_size else None
    return Cost(batch, step * config.batch_size / batch, image, count, peak)


def _fitting(config: RunConfig, step: Callable[[int], float], seconds: float) -> int:
    """The largest batch of which three steps should fit, as those of half of it say."""
    if config.compiled:  # for each size anew, which takes longer than any step
        return config.batch_size
    batch = min(max(PROBE, config.microbatches), config.batch_size)
    while batch < config.batch_size and 3 * 2 * step(batch) <= seconds:
        batch = min(2 * batch, config.batch_size)
    return batch


class _Steps:
    """A training run on noise, of which single steps can be timed; each time after one that does not count."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self._config, self._device = config, device
        self._data = synthetic(config.dataset, BATCHES * config.batch_size)
        self._trainer = Trainer(config, self._data, device)
        self._precision = autocast(config, device)

    def time_bare(self, batch: int) -> float:
        """Seconds of a step on `batch` images that are there already."""
        images, labels = next(iter(self._batches(batch, augmented=False).epoch(0)))
        return self._mean(lambda: self._trainer.step(images, labels), 0.0)[0]

    def time(self, batch: int, seconds: float) -> tuple[float, int]:
        """Mean seconds of making a batch of so many images and training on it, and over how many."""
        with self._batches(batch) as batches:
            made = batches.endless()
            with closing(made):
                return self._mean(lambda: self._trainer.step(*next(made)), seconds)

    def time_evaluation(self, batch: int, seconds: float) -> float:
        """Mean seconds of evaluating so many images."""
        trainer = self._trainer
        part = part_of(self._data.x_test[:batch], self._data.y_test[:batch], self._config, self._device)
        normalise = trainer.batches.normalise
        return self._mean(lambda: error_percent(trainer.evaluated, part, normalise, self._precision), seconds)[0]

    def _batches(self, batch: int, augmented: bool = True) -> Batches:
        bare: dict[str, Any] = {} if augmented else {"method": "baseline", "options": {}, "augmentation": "none"}
        return Batches(replace(self._config, batch_size=batch, **bare), self._data, self._device)

    def _mean(self, once: Callable[[], object], seconds: float) -> tuple[float, int]:
        once()
        self._wait()
        start, count = time.perf_counter(), 0
        while count < 1 or (time.perf_counter() - start) * (count + 1) / count <= seconds:
            once()
            count += 1
            if count % 8 == 0:  # an accelerator is asked for more than it has done
                self._wait()
        self._wait()
        return (time.perf_counter() - start) / count, count

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def synthetic(dataset: str, images: int) -> Dataset:
    """Noise in the shape of a data set, `images` of it in each part."""
    size = Size.of(dataset)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, *size.image_shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, size.num_classes, (images,), generator=generator, dtype=torch.uint8)
    return Dataset(dataset, size.num_classes, pixels, labels, pixels, labels, pixels, labels)


_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        gc.collect()
        with suppress(OSError, AttributeError):  # what freed memory the C library holds, where it is glibc
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):
            _RESET.write_text("5")


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
