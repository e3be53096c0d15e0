"""One run in the making: what a step does, and everything that is needed to go on from where it stands."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from inspect import signature
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from dropact.diagnostics import VarianceShift, measure, recalibrate_batchnorm_
from dropact.diagnostics.batchnorm import has_batchnorm
from dropact.experiments.average import Average
from dropact.experiments.batches import Batches, normalisation, training_part
from dropact.experiments.config import CUDA_GRAPHS, MEMORY_FORMATS, RunConfig
from dropact.experiments.data import Dataset
from dropact.experiments.errors import ConfigError, DivergedError
from dropact.experiments.hardware import autocast, check_trainable, keep_freed_memory
from dropact.experiments.methods import apply_to_network
from dropact.experiments.models import build_network
from dropact.experiments.ranks import ALONE, Ranks
from dropact.experiments.records import Epoch, Shift
from dropact.experiments.schedule import learning_rate
from dropact.experiments.schema import Seconds, checked
from dropact.experiments.seeds import derived_seed

RECORDED_EVERY = 100  # steps between two looks at the variance shift: two forward passes, under 1 % of the time
SAMPLED = 256  # training images for methods that look at some before the first step
CHECKED_EVERY = 20  # steps between looks at the losses, each of which an accelerator waits for

# The name of one argument changed between the releases of torch that are supported.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel).parameters
)


def initial_network(config: RunConfig, data: Dataset, sampled: int = SAMPLED) -> nn.Module:
    """The network before the first step. Seeds torch's default generator: with the weights' seed, then the masks'.

    Args:
        sampled: how many training images a method may look at.

    Raises:
        ConfigError: there is no such network, the method does not fit it, or it lacks what the config is to recalibrate
            or record.
    """
    torch.manual_seed(derived_seed(config.seed, "weights"))
    network = build_network(
        config.network,
        data.num_classes,
        in_channels=data.in_channels,
        image_size=data.image_size,
        dropout=config.dropout,
    )
    apply_to_network(network, config.method, config.options, partial(_sample, config, data, sampled))
    if config.recalibrated and not has_batchnorm(network):
        raise ConfigError(f"recalibrated: got True, and {config.network} has no BatchNorm, accepted: False")
    try:
        VarianceShift(config.recorded).sites(network)
    except ValueError as error:
        raise ConfigError(f"recorded: {error}") from None
    torch.manual_seed(derived_seed(config.seed, "masks"))
    return network


def _sample(config: RunConfig, data: Dataset, count: int) -> tuple[Tensor, Tensor]:
    """The first images of the training part, none augmented, normalised among themselves as the config says."""
    part = training_part(config, data)
    images, labels = part.images[:count], part.labels[:count]
    return normalisation(config, images)(images), labels.long()


def set_masks_on_device(state: Tensor, device: torch.device, otherwise: int) -> None:
    """Has the CUDA generator go on from `state`; from the seed `otherwise` where that is of a CPU, and so empty."""
    if state.numel():
        torch.cuda.set_rng_state(state, device)
    else:
        torch.cuda.manual_seed(otherwise)


class State(TypedDict):
    """What a checkpoint holds; metrics and readings as JSON."""

    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimiser: dict[str, Any]
    losses: Tensor
    errors: Tensor
    masks: Tensor
    masks_on_device: Tensor
    metrics: str
    seconds: list[Seconds]
    elapsed: Seconds
    readings: NotRequired[str]


class Trainer:
    """Network, optimiser, position and random streams; metrics and seconds of the epochs that are done."""

    def __init__(self, config: RunConfig, data: Dataset, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.config = config
        self.device = device
        self._ranks = ranks
        if device.type == "cpu":
            keep_freed_memory()
        self.batches = Batches(config, data, device, ranks)
        check_trainable(config, len(self.batches.part), device, ranks)
        network = initial_network(config, data)
        if config.sync_batchnorm:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.network: nn.Module = network.to(device, memory_format=MEMORY_FORMATS[config.memory_format])  # type: ignore[call-overload]
        self._model: nn.Module = self.network
        self._unsynced: Callable[[], AbstractContextManager[object]] = nullcontext  # gradients stay on this rank
        if ranks.count > 1:
            buffers: Any = {_SYNC_BUFFERS: False}  # the steps see to them
            self._model = together = DistributedDataParallel(self.network, **buffers)
            self._unsynced = together.no_sync
        if config.compiled:
            torch.compiler.reset()  # what was compiled for other networks counts towards a limit, then nothing more is
            mode = CUDA_GRAPHS if config.compiled == CUDA_GRAPHS else None
            self._model = torch.compile(self._model, dynamic=False, mode=mode)  # type: ignore[assignment]
        norms = [module for module in self.network.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        self._statistics: list[Tensor] = [
            value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None
        ]
        self._counters: list[Tensor] = [
            norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None
        ]
        self.average = Average(self.network, config.ema_decay) if config.ema_decay else None
        self._precision = autocast(config, device)
        self._optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
            fused=True,
        )
        self._probe = VarianceShift(config.recorded)
        self.metrics: list[Epoch] = []
        self.readings: list[Shift] = []
        self.seconds: list[float] = []
        self._losses: list[Tensor] = []  # of the steps of this epoch, like the errors: sums over a batch
        self._errors: list[Tensor] = []
        self._began = time.perf_counter()

    @property
    def evaluated(self) -> nn.Module:
        """The network that the metrics speak of: the average where there is one."""
        return self.average.network if self.average else self.network

    @property
    def steps(self) -> int:
        return len(self.metrics) * self.batches.per_epoch + len(self._losses)

    @property
    def seen(self) -> int:
        """Images trained on so far, to within a batch."""
        return self.steps * len(self.batches.part) // self.batches.per_epoch

    @property
    def elapsed(self) -> float:
        """Seconds since the last epoch was closed."""
        return time.perf_counter() - self._began

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One update of the weights, from this rank's share of a batch."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.steps, self.batches.per_epoch)
        self._optimiser.zero_grad()
        if self.config.compiled == CUDA_GRAPHS:
            torch.compiler.cudagraph_mark_step_begin()  # what the last step left in the graphs' memory is done with
        backward = self._backward if self.config.microbatches == 1 else self._backward_in_parts
        loss, errors = backward(images, labels)
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self._optimiser.step()
        if self.average:
            self.average.update(self.network)
        self._losses.append(loss)
        self._errors.append(errors)

    def _backward(self, images: Tensor, labels: Tensor, weight: float = 1.0, first: bool = True) -> list[Tensor]:
        """Adds the gradient of `weight` times the mean loss; returns the sums of the losses and errors."""
        with self._precision:
            if first and self.config.recorded and self.steps % RECORDED_EVERY == 0:
                self._record(images)
            logits = self._model(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        (loss * weight).backward()
        return [loss.detach() * len(labels), (logits.detach().argmax(1) != labels).sum()]

    def _backward_in_parts(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """The same for a batch cut into microbatches: this rank's one after the other, and the sums over all ranks.

        What a microbatch draws and makes of BatchNorm's statistics depends on its number alone, and not on the rank it
        falls to: each begins with the statistics from before the step, of whose successors the mean is kept.
        """
        config, ranks = self.config, self._ranks
        whole = len(labels) if ranks.count == 1 else self.batches.images_in(self.steps)
        shares = ranks.share(whole, config.microbatches)
        begin = ranks.rank * len(shares)
        buffers = [*self._statistics, *self._counters]
        before = [buffer.clone() for buffer in buffers]
        total = torch.zeros((), device=self.device)
        for number, (x, y) in enumerate(zip(images.split(shares), labels.split(shares), strict=True), start=begin):
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            stream = 0 if config.shared_masks else number
            torch.manual_seed(derived_seed(config.seed, "masks", 1 + self.steps * config.microbatches + stream))
            last = number == begin + len(shares) - 1
            with nullcontext() if last else self._unsynced():
                # DistributedDataParallel takes the mean over ranks.
                sums = self._backward(x, y, len(y) * ranks.count / whole, first=number == 0)
            total = total + torch.cat([value.flatten() for value in (*self._statistics, *sums)])
        ranks.sum_(total)
        loss, errors = total[-2:]
        means = (total[:-2] / config.microbatches).split([buffer.numel() for buffer in self._statistics])
        for buffer, value in zip(self._statistics, means, strict=True):
            buffer.copy_(value)
        return [loss, errors.long()]

    def _record(self, images: Tensor) -> None:
        """Notes what this batch shows in both modes, without leaving a trace in the network or the random streams."""
        for reading in measure(self.network, images, probes=[self._probe]):
            shift = reading.values["variance_shift"]
            self.readings.append(
                {"step": self.steps, "site": reading.site, "variance_shift": shift if math.isfinite(shift) else None}
            )

    def run_epoch(self, after_step: Callable[[], None]) -> None:
        """The steps that are left of this epoch.

        Raises:
            DivergedError: the loss of a step is not finite.
        """
        for images, labels in self.batches.epoch(len(self.metrics), first=len(self._losses)):
            self.step(images, labels)
            if len(self._losses) % CHECKED_EVERY == 0:
                self.check(recent=CHECKED_EVERY)
            after_step()

    def check(self, recent: int = 0) -> None:
        """That the losses of the last `recent` steps, or of the epoch, are finite.

        Raises:
            DivergedError: naming the step and the config.
        """
        summed = torch.stack(self._losses[-recent:])
        if summed.isfinite().all():
            return
        step = self.steps - len(summed) + int((~summed.isfinite()).nonzero()[0])
        self._stop(f"the loss of step {step} is not finite", step)

    def check_weights(self) -> None:
        """That the weights are finite, as a checkpoint of any others is no good.

        Raises:
            DivergedError: naming the step and the config.
        """
        if not nn.utils.get_total_norm(list(self.network.parameters())).isfinite():
            self._stop(f"the weights after step {self.steps - 1} are not finite", self.steps - 1)

    def _stop(self, what: str, step: int) -> None:
        settings = ", ".join(f"{name}={value}" for name, value in asdict(self.config).items())
        sentence = f"{what}; try a smaller lr (config: {settings})"
        raise DivergedError(sentence, step, 1 + step // self.batches.per_epoch)

    @contextmanager
    def recalibrated(self) -> Iterator[None]:
        """While in it, BatchNorm has the statistics of the training images, as they are augmented, in evaluation."""
        images = (images for images, _ in self.batches.epoch(self.config.epochs))
        with self._precision:
            found = recalibrate_batchnorm_(self.evaluated, images)
        try:
            yield
        finally:
            found.undo()
            self.evaluated.train()

    def training_metrics(self) -> tuple[float, float]:
        """Mean loss and error in percent over the epoch, both while training."""
        images = len(self.batches.part)
        loss = float(torch.stack(self._losses).double().sum()) / images
        return loss, 100 * int(torch.stack(self._errors).sum()) / images

    def close_epoch(self, record: Epoch) -> None:
        """Notes what an epoch came to; the next begins."""
        self.metrics.append(record)
        self.seconds.append(time.perf_counter() - self._began)
        self._losses, self._errors = [], []
        self._began = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """Everything, as tensors and plain values."""
        empty = torch.empty(0)
        return {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict() if self.average else {},
            "optimiser": self._optimiser.state_dict(),
            "losses": torch.stack(self._losses) if self._losses else empty,
            "errors": torch.stack(self._errors) if self._errors else empty,
            "masks": torch.get_rng_state(),
            "masks_on_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else empty,
            "metrics": json.dumps(self.metrics),
            "seconds": self.seconds,
            "elapsed": self.elapsed,
            **({"readings": json.dumps(self.readings)} if self.config.recorded else {}),
        }

    def load(self, state: Mapping[str, Any], step: int) -> None:
        """Goes on from what `state` gave after so many steps.

        Raises:
            Exception: it is the state of something else; whatever was loaded by then is.
        """
        checked(State, state, "")
        self.network.load_state_dict(state["network"])
        if self.average:
            self.average.network.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._losses = list(state["losses"].to(self.device))
        self._errors = list(state["errors"].to(self.device))
        if not state["losses"].shape == state["errors"].shape == (len(self._losses),):
            raise ValueError("losses and errors are not those of the same steps")
        for weights, kept in self._optimiser.state.items():
            if any(value.shape != weights.shape for value in kept.values() if isinstance(value, Tensor)):
                raise ValueError("the optimiser's state is not that of the weights")
        self.metrics = checked(list[Epoch], json.loads(state["metrics"]), "metrics")
        torch.set_rng_state(state["masks"])
        if self.device.type == "cuda":
            masks = derived_seed(self.config.seed, "masks", self.steps)
            set_masks_on_device(state["masks_on_device"], self.device, masks)
        if self.config.recorded:
            self.readings = checked(list[Shift], json.loads(state["readings"]), "readings")
        self.seconds = list(state["seconds"])
        if self.steps != step or len(self.seconds) != len(self.metrics):
            raise ValueError(f"it is that of step {self.steps}, and not of {step}")
        self._began = time.perf_counter() - state["elapsed"]
