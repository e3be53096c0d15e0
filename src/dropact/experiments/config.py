"""Everything that decides the outcome of one run, as one frozen value with a JSON form and a key."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, get_type_hints

import torch

from dropact.experiments.augmentation import AUGMENTATIONS
from dropact.experiments.data import DATASETS
from dropact.experiments.errors import ConfigError
from dropact.experiments.methods import METHODS, complete_options, parts_of
from dropact.experiments.models import check_network
from dropact.experiments.schema import Accepts, Count, MismatchError, NonNegative, Positive, accepted, checked, one_of

SCHEDULES = ("constant", "one-cycle", "step")
TRAINING_PARTS = ("train", "train+validation")
PRECISIONS = ("float32", "bfloat16")
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CUDA_GRAPHS = "reduce-overhead"  # torch.compile's name for them
LR_FACTOR = 0.1
NORMALISATIONS = ("standardise", "scale")
_COMPILED = Accepts(f'true or false, or "{CUDA_GRAPHS}" for CUDA graphs', (False, True, CUDA_GRAPHS).__contains__)
Share = Annotated[float, Accepts("a number from 0 to below 1", lambda value: 0 <= value < 1)]
# Not written where they say nothing, so that the key of a usual run is short of them.
_UNUSUAL: Mapping[str, Any] = {
    "train_images": None,
    "evaluate_every": 1,
    "recorded": (),
    "microbatches": 1,
    "shared_masks": False,
    "sync_batchnorm": False,
    "fused": False,
    "recalibrated": False,
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run.

    >>> config = RunConfig(dataset="digits", network="simple-small", method="drop-activation", seed=3)
    >>> config.options
    {'drop_prob': 0.05}
    >>> RunConfig.from_dict(json.loads(config.to_json())) == config
    True
    >>> config.key
    'digits-simple-small-drop-activation-s3-02a00a535175'

    Args:
        dataset, network: names; see `DATASETS`, `build_network`.
        method: a name of `METHODS`, or several joined by "+", in any order.
        options: the methods' own numbers; those left out take the defaults.
        seed: the one source of initial weights, batch order, augmentation and masks, each from a stream of its own,
            so that methods with the same seed start from the same weights and see the same batches.
        epochs: passes over the training part.
        batch_size: images per step; an epoch is cut into steps of equal size (± 1), none larger than this.
        lr, momentum, weight_decay, nesterov: of stochastic gradient descent.
        schedule: "constant"; "one-cycle" (linear from 0 up to lr over the first fifth of all steps, then linear down
            to 0); "step" (times lr_factor at the start of each epoch named in milestones, counted from 0).
        train_on: the part that is trained on. With "train+validation" there is no validation error.
        train_images: how many images of that part are trained on, every class in proportion, drawn by the seed: methods
            with the same seed see the same images, another seed draws others, and a smaller number of them is a subset
            of a larger. None for all. Validation and test part stay whole.
        evaluate_every: epochs between two evaluations on the validation and the test part; the last epoch always is.
            It changes nothing but which epochs have errors in the record.
        augmentation: of the training images; a name of `AUGMENTATIONS`.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        clip_norm: largest Euclidean norm of the whole gradient; 0 does not clip.
        ema_decay: d of the running average a ← d·a + (1 − d)·w of weights and BatchNorm statistics after each step.
            Above 0 the average is what is evaluated and kept; 0 keeps none.
        precision: "float32", or "bfloat16": autocast of forward pass and loss, weights in float32.
        memory_format: of images and weights.
        compiled: whether training steps run through `torch.compile`. It changes rounding, hence the run.
            "reduce-overhead" has them replayed as CUDA graphs, which spares a deep thin network the host's time for
            each of its operators; on CUDA only, and with 1 microbatch, as a replay overwrites the last one's gradient.
        fused: of records alone: whether BatchNorm was computed in one pass with what followed it, which revisions up to
            e114d16 could. Reports read such runs; to train one is refused.
        normalisation: of the images, per channel: "standardise" (mean 0, variance 1 over the training images) or
            "scale" (to [0, 1]).
        dropout: rate of the dropout that wide ResNets and DenseNets have inside their blocks, part of the network and
            not of the method; 0 for none.
        full_epochs: length of the schedule that this one is scaled down from, or up; None for a schedule of its own.
            It changes nothing but is shown wherever the result is.
        microbatches: equal parts (± 1) that each batch is cut into, on as many ranks or one after the other: each has
            masks and BatchNorm statistics of its own, the gradient is that of the whole batch. Two give the same bits
            on one rank and on two; more the same but for rounding.
        shared_masks: whether all microbatches of a step draw the same random numbers.
        sync_batchnorm: whether BatchNorm takes its statistics over all microbatches; on CUDA only, a rank for each.
        recalibrated: whether the result also has a test error with BatchNorm's statistics recomputed for evaluation,
            from one more pass over the training images; the weights come out the same.
        recorded: names of modules of the network, such as "stage2", whose variance shift is kept every
            `RECORDED_EVERY` steps; the weights come out the same with and without.

    Raises:
        ConfigError: names the field, what it got and what is accepted.
    """

    dataset: Annotated[str, one_of(DATASETS)]
    network: Annotated[str, Accepts("the name of a network")]
    method: Annotated[str, Accepts(f"{', '.join(METHODS)}, or several joined by '+'")] = "baseline"
    options: Annotated[Mapping[str, Any], Accepts("an object of numbers")] = field(default_factory=dict, hash=False)
    seed: Count = 0
    epochs: Positive = 30
    batch_size: Positive = 128
    lr: Annotated[float, Accepts("a finite number above 0", lambda value: value > 0)] = 0.1
    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    nesterov: bool = False
    schedule: Annotated[str, one_of(SCHEDULES)] = "one-cycle"
    milestones: Annotated[tuple[Positive, ...], Accepts("a list of whole numbers of at least 1")] = ()
    lr_factor: Annotated[float, Accepts("a number between 0 and 1", lambda value: 0 < value < 1)] = LR_FACTOR
    train_on: Annotated[str, one_of(TRAINING_PARTS)] = "train"
    augmentation: Annotated[str, one_of(AUGMENTATIONS)] = "none"
    label_smoothing: Share = 0.0
    clip_norm: NonNegative = 0.0
    ema_decay: Share = 0.0
    precision: Annotated[str, one_of(PRECISIONS)] = "float32"
    memory_format: Annotated[str, one_of(MEMORY_FORMATS)] = "contiguous"
    compiled: Annotated[bool | str, _COMPILED] = False
    normalisation: Annotated[str, one_of(NORMALISATIONS)] = "standardise"
    dropout: Share = 0.0
    full_epochs: Positive | None = None
    microbatches: Positive = 1
    shared_masks: bool = False
    sync_batchnorm: bool = False
    recorded: Annotated[tuple[str, ...], Accepts("a list of names of modules", all)] = ()
    fused: bool = False
    recalibrated: bool = False
    train_images: Positive | None = None
    evaluate_every: Positive = 1

    def __post_init__(self) -> None:
        try:
            for name, kind in _KINDS.items():
                object.__setattr__(self, name, checked(kind, getattr(self, name), name))
        except MismatchError as error:
            raise ConfigError(str(error)) from None
        object.__setattr__(self, "method", "+".join(parts_of(self.method)))
        check_network(self.network, self.dropout)
        object.__setattr__(self, "options", complete_options(self.method, self.options, self.dataset))
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov: got True with momentum 0, accepted: a momentum above 0")
        if (self.schedule == "step") != bool(self.milestones):
            raise ConfigError(
                f"milestones: got {list(self.milestones)} with schedule {self.schedule!r}, "
                "accepted: at least one with 'step', none with any other schedule"
            )
        if self.schedule != "step" and self.lr_factor != LR_FACTOR:
            raise ConfigError(
                f"lr_factor: got {self.lr_factor:g} with schedule {self.schedule!r}, "
                f"accepted: a factor with 'step', {LR_FACTOR:g} with any other schedule, where it does nothing"
            )
        if list(self.milestones) != sorted(set(self.milestones)) or any(
            milestone >= self.epochs for milestone in self.milestones
        ):
            raise ConfigError(
                f"milestones: got {list(self.milestones)}, accepted: ascending epochs below {self.epochs}"
            )
        if self.microbatches > self.batch_size:
            raise ConfigError(
                f"microbatches: got {self.microbatches}, accepted: at most {self.batch_size}, the batch size"
            )
        if self.compiled == CUDA_GRAPHS and self.microbatches > 1:
            raise ConfigError(
                f"compiled: got {CUDA_GRAPHS!r} with {self.microbatches} microbatches, accepted: true or false, or 1"
            )
        if self.recalibrated and self.microbatches > 1:
            raise ConfigError(f"recalibrated: got True with {self.microbatches} microbatches, accepted: 1 microbatch")
        if self.recorded and self.sync_batchnorm:  # it is read by one process, whose passes the others would wait for
            raise ConfigError(f"recorded: got {self.recorded} with sync_batchnorm, accepted: () or without it")
        for name in ("shared_masks", "sync_batchnorm"):
            if getattr(self, name) and self.microbatches == 1:
                raise ConfigError(f"{name}: got True with 1 microbatch, accepted: 2 microbatches or more")
        if self.full_epochs == self.epochs:
            raise ConfigError(f"full_epochs: got {self.epochs}, which is epochs, accepted: null or another number")

    @property
    def key(self) -> str:
        """Name of the run's directory: a readable prefix and a hash of every field."""
        return key_of(self._values())

    def evaluates(self, epoch: int) -> bool:
        """Whether the validation and the test part are evaluated at the end of an epoch, counted from 1."""
        return epoch == self.epochs or epoch % self.evaluate_every == 0

    @property
    def setting(self) -> dict[str, Any]:
        """What runs of one comparison share: every field but the method, its options and the seed."""
        return {k: v for k, v in asdict(self).items() if k not in ("method", "options", "seed")}

    def to_json(self) -> str:
        """Everything that decides the outcome, readable and ending in a newline."""
        return json.dumps(self._values(), indent=2) + "\n"

    def _values(self) -> dict[str, Any]:
        """Every field, those of `_UNUSUAL` only where they say something."""
        return {name: value for name, value in asdict(self).items() if name not in _UNUSUAL or value != _UNUSUAL[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """The config of parsed JSON; fields left out take their defaults."""
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"config: got {type(values).__name__}, accepted: an object with fields {', '.join(_KINDS)}"
            )
        for name in values:
            if name not in _KINDS:
                raise ConfigError(f"{name}: unknown field, accepted: {', '.join(_KINDS)}")
        for name in ("dataset", "network"):
            if name not in values:
                raise ConfigError(f"{name}: missing, accepted: {accepted(_KINDS[name])}")
        return cls(**values)


def key_of(values: Mapping[str, Any]) -> str:
    """The key of a config given as parsed JSON, from what it holds rather than from today's defaults."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    return f"{values['dataset']}-{values['network']}-{values['method']}-s{values['seed']}-{digest}"


def schedule_mark(setting: Mapping[str, Any]) -> str:
    """What must stand beside every result of a schedule that is not the full one; "" for a full one.

    >>> schedule_mark({"epochs": 8, "full_epochs": 164}), schedule_mark({"epochs": 8, "full_epochs": None})
    ('shortened: 8 of 164 epochs', '')
    """
    epochs, full = setting["epochs"], setting["full_epochs"]
    return "" if full is None else f"{'shortened' if epochs < full else 'lengthened'}: {epochs} of {full} epochs"


_KINDS = get_type_hints(RunConfig, include_extras=True)
