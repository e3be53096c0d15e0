"""Figure 3: regression of two functions from 20 noisy points, ReLU against Drop-Activation.

Senwei Liang, Yuehaw Khoo, Haizhao Yang: arXiv:1811.05850, Section 5.1. [P] printed there, ours otherwise.

[P] y = x sin x with 20 points x_i on [0, 10] and y_i = f(x_i) + N(0, 1), and a piecewise constant function; a fully
connected network with three hidden layers of 1000, 800 and 200 units; p (keep) = 0.95. One run of each is shown: with
Drop-Activation the first has a better prediction error and fits the points less well, the second gives a smooth curve.

Ours: the points are uniform; the piecewise constant function is 0, 6, -4 and 3 on four intervals of 2.5, with as many
points and the same noise; inputs are scaled to [-1, 1]; torch's initial weights; Adam on all 20 points, learning rate
1e-3, 3,000 steps. Rate, scaling and steps were chosen with ReLU alone, on seeds that the study does not use, to be in
the paper's situation: it fits the points far below their noise. The error is the root mean square distance to the true
function on 1,001 points, in evaluation mode, at the last step; earlier steps are noted beside it, as a shorter training
regularises too.

A seed decides the points, the noise, the initial weights and the masks; both methods have the same points and weights.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropact.experiments.comparison import CLAIM_LOCK, check_folder, check_holds
from dropact.experiments.environment import PACKAGES, Origin, git_revision, machine
from dropact.experiments.errors import RecordError
from dropact.experiments.files import parsed, read_text, write_text
from dropact.experiments.lock import held
from dropact.experiments.models.mlp import mlp
from dropact.experiments.schema import Count, Measured, NonNegative, Positive
from dropact.experiments.seeds import derived_seed
from dropact.methods import DropActivation
from dropact.surgery import convert_

FILE = "figure3.json"
SEEDS = 40
COMPARED = ("baseline", "drop-activation")
DRAWN = 401  # points of a curve in the picture


def steps_function(x: Tensor) -> Tensor:
    """0, 6, -4 and 3 on four intervals of length 2.5."""
    return torch.tensor([0.0, 6.0, -4.0, 3.0], dtype=x.dtype)[(x / 2.5).long().clamp(0, 3)]


FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"x sin x": lambda x: x * x.sin(), "steps": steps_function}


@dataclass(frozen=True)
class Regression:
    """Everything that decides the outcome but the seed.

    Attributes:
        points: of training, on [0, 10].
        noise: standard deviation of the noise on them.
        widths: of the hidden layers.
        drop_prob: of Drop-Activation.
        lr: of Adam.
        steps: of training, at each of which the errors are noted; the last is the result.
        tested: points of the grid on [0, 10] on which the error is measured.
    """

    points: int = 20
    noise: float = 1.0
    widths: tuple[int, ...] = (1000, 800, 200)
    drop_prob: float = 0.05
    lr: float = 1e-3
    steps: tuple[int, ...] = (100, 300, 1000, 3000)
    tested: int = 1001


class RegressionValues(TypedDict):
    """The fields of a `Regression`."""

    points: Positive
    noise: NonNegative
    widths: list[Positive]
    drop_prob: NonNegative
    lr: NonNegative
    steps: list[Positive]
    tested: Positive


class Distances(TypedDict):
    """Root mean square distances: on the points to what is trained on, on the grid to the function."""

    train: Measured
    test: Measured


class Shown(TypedDict):
    """By function the points (x, y) and by method the curves of one seed."""

    seed: Count
    functions: dict[str, dict[str, list[Measured]]]


# By function, method and step.
Errors = dict[str, dict[str, dict[str, Distances]]]


class RegressionRecord(TypedDict):
    """figure3.json; errors by seed."""

    study: RegressionValues
    environments: list[Origin]
    seeds: dict[str, Errors]
    shown: Shown | None


def run(
    out: Path,
    seeds: Sequence[int],
    command: str,
    done: Callable[[int], None] = lambda seed: None,
    study: Regression | None = None,
) -> None:
    """Trains both methods on both functions under every seed, and keeps the errors in `out`/figure3.json.

    Seeds that are there already are not trained again; after each the file is written, complete. Several processes may
    add to one file.

    Args:
        command: how to make the file again, for the record.
        done: told of each seed that is there, trained now or before.

    Raises:
        RecordError: the folder cannot be written, or holds another study or something else.
    """
    study = Regression() if study is None else study
    check_folder(out)
    check_holds(out, FILE)  # the tables of other runs would be written over
    environment: Origin = {"command": command, "git_revision": git_revision(), **machine(PACKAGES), "device": "cpu"}
    for seed in seeds:
        if str(seed) not in _held(out, study)["seeds"]:
            results, curves = one_seed(study, seed)
            out.mkdir(parents=True, exist_ok=True)
            with held(out / CLAIM_LOCK, "the study", patience=10.0):
                record = _held(out, study)  # with what another process has added since
                if environment not in record["environments"]:
                    record["environments"].append(environment)
                record["seeds"].setdefault(str(seed), results)
                record["shown"] = record["shown"] or {"seed": seed, "functions": curves}
                write_text(out / FILE, json.dumps(record, allow_nan=False) + "\n")
        done(seed)


def _held(out: Path, study: Regression) -> RegressionRecord:
    """What the folder holds of the study."""
    if not (out / FILE).exists():
        return {"study": _json(study), "environments": [], "seeds": {}, "shown": None}
    record = read(out)
    if record["study"] != _json(study):
        raise RecordError(f"{out / FILE}: holds another study, {record['study']}; choose another --out")
    return record


def read(folder: Path) -> RegressionRecord:
    """The record that `run` keeps: `study`, `environments`, by seed the errors of every function, method and step, and
    the curves of the one seed that is `shown`.

    Raises:
        RecordError: it is not there or damaged.
    """
    record = parsed(RegressionRecord, read_text(folder / FILE), folder / FILE)
    if not _is_whole(record):
        raise RecordError(f"{folder / FILE}: damaged, it lacks seeds, some of their errors, or what is shown")
    return record


def _is_whole(record: RegressionRecord) -> bool:
    study, shown = record["study"], record["shown"]
    steps = [str(step) for step in study["steps"]]
    drawn = {**dict.fromkeys("xy", study["points"]), **dict.fromkeys(COMPARED, DRAWN)}
    return bool(
        steps
        and record["environments"]
        and record["seeds"]
        and all(seed.isascii() and seed.isdecimal() for seed in record["seeds"])
        and all(
            list(errors.get(function, {}).get(method, ())) == steps
            for errors in record["seeds"].values()
            for function in FUNCTIONS
            for method in COMPARED
        )
        and shown is not None
        and all(
            len(shown["functions"].get(function, {}).get(name, ())) == count
            for function in FUNCTIONS
            for name, count in drawn.items()
        )
    )


def one_seed(study: Regression, seed: int) -> tuple[Errors, dict[str, dict[str, list[float]]]]:
    """The errors by function, method and step; and by function the points and the curves of the last step.

    >>> errors, curves = one_seed(Regression(widths=(8,), steps=(1, 2), tested=11), seed=0)
    >>> sorted(errors), list(errors["steps"]["baseline"]), sorted(curves["steps"])
    (['steps', 'x sin x'], ['1', '2'], ['baseline', 'drop-activation', 'x', 'y'])
    """
    results: Errors = {}
    curves: dict[str, dict[str, list[float]]] = {}
    for name, function in FUNCTIONS.items():
        generator = torch.Generator().manual_seed(derived_seed(seed, "points"))
        x = 10 * torch.rand(study.points, generator=generator)
        y = function(x) + study.noise * torch.randn(study.points, generator=generator)
        results[name], curves[name] = {}, {"x": _rounded(x), "y": _rounded(y)}
        for method in COMPARED:
            network = _network(study, method, seed)
            results[name][method] = _train(network, study, seed, x, y, function)
            curves[name][method] = _rounded(_predict(network.eval(), torch.linspace(0, 10, DRAWN)))
    return results, curves


def _network(study: Regression, method: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        network = mlp(widths=study.widths, num_classes=1, in_channels=1, image_size=1)
    if method == "drop-activation":
        convert_(network, DropActivation(study.drop_prob))
    return network


def _train(
    network: nn.Module, study: Regression, seed: int, x: Tensor, y: Tensor, function: Callable[[Tensor], Tensor]
) -> dict[str, Distances]:
    grid = torch.linspace(0, 10, study.tested)
    optimiser = torch.optim.Adam(network.parameters(), lr=study.lr, fused=True)
    errors: dict[str, Distances] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "masks"))
        for step in range(1, max(study.steps) + 1):
            network.train()
            optimiser.zero_grad()
            F.mse_loss(network(_scaled(x)).squeeze(1), y).backward()
            optimiser.step()
            if step in study.steps:
                network.eval()
                errors[str(step)] = {
                    "train": _distance(_predict(network, x), y),
                    "test": _distance(_predict(network, grid), function(grid)),
                }
    return errors


def _scaled(x: Tensor) -> Tensor:
    return (x / 5 - 1).unsqueeze(1)


def _predict(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(_scaled(x)).squeeze(1)


def _distance(a: Tensor, b: Tensor) -> float:
    return (a.double() - b.double()).square().mean().sqrt().item()


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def _json(study: Regression) -> RegressionValues:
    values: Any = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(study).items()}
    return values
