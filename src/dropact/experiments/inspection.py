"""What `dropact inspect` looks at: a finished run, or a network by name, with images of its data set."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dropact.diagnostics import Inspection, inspect
from dropact.experiments.batches import Batches, part_of
from dropact.experiments.config import RunConfig
from dropact.experiments.data import Dataset, load_dataset
from dropact.experiments.errors import ConfigError, RecordError
from dropact.experiments.evaluation import error_percent
from dropact.experiments.files import read_text
from dropact.experiments.methods import METHODS, label, parts_of
from dropact.experiments.models import check_external
from dropact.experiments.records import CONFIG, WEIGHTS, parsed_config
from dropact.experiments.trainer import initial_network

BATCH = 250
MOST_BATCHES = 40  # 10,000 images tell a channel's variance to about a hundredth


@dataclass(frozen=True)
class Target:
    """A network as a config trains it, and whether its weights are those of a finished training."""

    network: nn.Module
    config: RunConfig
    data: Dataset
    trained: bool

    @property
    def title(self) -> str:
        what = f"{self.config.network} with {label(self.config.method, self.config.network)}, {self.config.dataset}"
        return f"{what}, {'trained' if self.trained else 'not trained'}, seed {self.config.seed}"


def run_config(path: Path) -> RunConfig:
    """The config of the run in a directory, or of the run that a file of weights belongs to.

    Raises:
        RecordError: there is none, or it is damaged.
    """
    directory = path if path.is_dir() else path.parent
    if not (directory / CONFIG).exists():
        raise RecordError(f"{path}: no {CONFIG} there, accepted: the directory of a run, its {WEIGHTS}")
    return parsed_config(read_text(directory / CONFIG), directory / CONFIG)


def trained(path: Path, root: Path | None = None) -> Target:
    """The run in a directory, with its final weights.

    Raises:
        RecordError: it is not finished, or damaged.
    """
    config = run_config(path)
    weights = path / WEIGHTS if path.is_dir() else path
    data = load_dataset(config.dataset, root)
    network = _plain(config, data)
    try:
        network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    except FileNotFoundError:
        raise RecordError(f"{weights}: not there; only a finished run has its weights") from None
    except Exception as error:  # torch.load raises what it likes on a damaged file
        raise RecordError(f"{weights}: damaged, or not the weights of this run ({type(error).__name__})") from None
    return Target(network, config, data, trained=True)


def untrained(config: RunConfig, root: Path | None = None) -> Target:
    """The network of a config with its initial weights, and BatchNorm with statistics of the training images."""
    data = load_dataset(config.dataset, root)
    target = Target(_plain(config, data), config, data, trained=False)
    norms = [m for m in target.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain average
    with torch.no_grad():
        target.network.train()
        for batch in _images(target):
            target.network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return target


def check_look(config: RunConfig, images: int) -> None:
    """That there is something for `look_at` to look at.

    Raises:
        ConfigError: fewer images than 2, or a method without layers of dropact.
    """
    check_external(config.network)
    if images < 2:
        raise ConfigError(f"images: got {images}, accepted: a whole number of at least 2")
    if not any(METHODS[part].replaces_activations for part in parts_of(config.method)):
        accepted = ", ".join(name for name, method in METHODS.items() if method.replaces_activations)
        raise ConfigError(
            f"method: got {config.method!r}, which has no layers of dropact to inspect, accepted: {accepted}"
        )


def look_at(target: Target, images: int = 512) -> Inspection:
    """Inspects a target on `images` training images, none augmented; recalibrates BatchNorm on 10,000.

    The errors before and after are those on the validation part, or where there is none on the test part; of a network
    that is not trained there are none.

    Raises:
        ConfigError: fewer images than 2, or a method without layers of dropact.
    """
    check_look(target.config, images)
    batches = _images(target)
    x = torch.cat(batches)[:images]
    if not target.trained:
        return inspect(target.network, x)
    config, data = target.config, target.data
    held_out = config.train_on == "train"
    part = (
        part_of(data.x_validation, data.y_validation, config) if held_out else part_of(data.x_test, data.y_test, config)
    )
    normalise = Batches(config, data).normalise

    def evaluate(network: nn.Module) -> float:
        return error_percent(network, part, normalise)

    shown = f"{'validation' if held_out else 'test'} error {{:.2f}} %"
    return inspect(target.network, x, batches, evaluate, shown)


def _plain(config: RunConfig, data: Dataset) -> nn.Module:
    """In float32, contiguous and not compiled, whatever the run was trained in."""
    with torch.random.fork_rng(devices=[]):
        return initial_network(config, data)


def _images(target: Target) -> list[Tensor]:
    """Normalised training images in batches, none augmented."""
    batches = Batches(target.config, target.data)
    return [batches.normalise(part) for part in batches.part.images[: BATCH * MOST_BATCHES].split(BATCH)]
