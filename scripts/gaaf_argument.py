"""The GAAF paper's argument on MNIST, looked into: gradients in training, net inputs and flatness after it.

    DROPACT_DATA=FOLDER python scripts/gaaf_argument.py RUNS

RUNS is the folder of `dropact reproduce gaaf-mnist --out RUNS`, weights included, which results/ does not keep. Writes
argument.json and argument.md into results/gaaf-argument:

* gradient information: mean |dL / d net input| of each layer over every 20th step of the first 5 epochs, trained anew
  with the configs of the runs under the first two seeds. L is the mean loss of a batch of 128; whether the paper's
  is, and how long it averages, it does not say;
* of the final weights: histograms of the net inputs of the test images, and the share where tanh' is below 0.1;
* flatness by our two measures, on the first 2,000 training images: the largest Hessian eigenvalue of the mean loss, and
  the mean rise of the loss at half of each filter's length along 10 random directions.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropact import diagnostics
from dropact.experiments import load_dataset
from dropact.experiments.batches import Batches, part_of
from dropact.experiments.config import RunConfig
from dropact.experiments.environment import describe
from dropact.experiments.files import write_text
from dropact.experiments.grid import finished_runs
from dropact.experiments.inspection import Target, trained
from dropact.experiments.methods import label
from dropact.experiments.statistics import summarise
from dropact.experiments.trainer import Trainer

EPOCHS, EVERY, SEEDS = 5, 20, 2  # of the gradients
IMAGES = 2000
RADIUS = 0.5
NETWORK = "mlp-tanh-256-256-256"
RESULTS = Path(__file__).resolve().parents[1] / "results" / "gaaf-argument"
ORDER = ("baseline", "hidden-dropout", "gaaf")
PAPER = {"baseline": (1.07e-4, 1.40e-4, 9.35e-5), "hidden-dropout": (5.93e-4, 6.52e-4, 5.83e-4)}


def gradients(config: RunConfig) -> dict[str, float]:
    """Mean gradient information of each layer over the first epochs."""
    trainer = Trainer(config, load_dataset(config.dataset), torch.device("cpu"))
    with trainer.batches, diagnostics.record_gradients(trainer.network, every=EVERY) as recording:
        for _ in range(EPOCHS):
            trainer.run_epoch(lambda: None)
            trainer.close_epoch({})
    return recording.means("gradient_information")


def net_inputs(target: Target) -> dict[str, dict[str, Any]]:
    part = part_of(target.data.x_test, target.data.y_test, target.config)
    normalise = Batches(target.config, target.data).normalise
    found = diagnostics.net_input_histograms(target.network, [normalise(images) for images in part.images.split(500)])
    return {
        layer: {
            "low": float(histogram.edges[0]),
            "high": float(histogram.edges[-1]),
            "counts": histogram.counts.tolist(),
            "outside": histogram.outside,
            "saturation": histogram.saturation,
        }
        for layer, histogram in found.items()
    }


def flatness(target: Target) -> dict[str, float]:
    batches = Batches(target.config, target.data)
    images = batches.normalise(batches.part.images[:IMAGES])
    labels = batches.part.labels[:IMAGES].long()

    def loss(network: nn.Module) -> Tensor:
        return F.cross_entropy(network(images), labels)

    at, away = diagnostics.loss_along_directions(target.network, loss, [0.0, RADIUS], directions=10).mean(0).tolist()
    sharp = diagnostics.sharpness(target.network, loss, steps=40, tolerance=1e-2)
    return {"loss": at, "rise": away - at, "sharpness": sharp.eigenvalue, "residual": sharp.residual}


def _text(values: Sequence[float]) -> str:
    found = summarise(values)
    if found.half_width is None or found.n < 3:  # of two, an interval is six times their distance
        return f"{found.mean:.3g}"
    return f"{found.mean:.3g} ± {found.half_width:.1g}"


def table(rows: Mapping[str, Sequence[Mapping[str, Any]]], network: str) -> str:
    """Means over the seeds with half of the 95 % t-interval."""
    methods = list(rows)
    lines = ["| | " + " | ".join(label(m, network) for m in methods) + " |", "|---|" + "---:|" * len(methods)]

    def add(name: str, cell: Callable[[Mapping[str, Any]], float | None]) -> None:
        values = [[value for row in rows[m] if (value := cell(row)) is not None] for m in methods]
        lines.append(f"| {name} | " + " | ".join(_text(v) if v else "–" for v in values) + " |")

    layers = list(rows[methods[0]][0]["net_inputs"])
    for place, layer in enumerate(layers):
        printed = ", ".join(
            f"{values[place]:.3g} {'without' if m == 'baseline' else 'with'} dropout" for m, values in PAPER.items()
        )
        add(
            f"gradient information, layer {place + 1} (paper: {printed})",
            lambda row, la=layer: (row["gradients"] or {}).get(la),
        )
    for place, layer in enumerate(layers):
        add(
            f"share of net inputs in saturation, layer {place + 1}",
            lambda row, la=layer: row["net_inputs"][la]["saturation"],
        )
    add("loss on 2,000 training images", lambda row: row["flatness"]["loss"])
    add(f"rise of it at radius {RADIUS:g} along random directions", lambda row: row["flatness"]["rise"])
    add("largest Hessian eigenvalue of it", lambda row: row["flatness"]["sharpness"])
    return "\n".join(lines) + "\n"


def page(found: Mapping[str, Any]) -> str:
    """What argument.json holds, as tables."""
    rates = found["learning_rates"].items()
    return "\n".join(
        f"**Learning rate {float(rate):g}**\n\n{table(methods, NETWORK)}" for rate, methods in rates
    ).rstrip()


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    rows: dict[float, dict[str, list[dict[str, Any]]]] = {}  # by learning rate and method
    for run in finished_runs(folder):
        config = run.config
        torch.manual_seed(0)
        target = trained(folder / "runs" / config.key)
        row = {
            "seed": config.seed,
            "gradients": gradients(config) if config.seed < SEEDS else None,
            "net_inputs": net_inputs(target),
            "flatness": flatness(target),
        }
        rows.setdefault(config.lr, {}).setdefault(config.method, []).append(row)
        sys.stdout.write(f"{config.key}\n")
        sys.stdout.flush()
    ordered = {lr: {m: rows[lr][m] for m in ORDER if m in rows[lr]} for lr in sorted(rows, reverse=True)}
    found = {
        **describe(load_dataset("mnist"), " ".join(["python scripts/gaaf_argument.py", *sys.argv[1:]]), "cpu"),
        "gradients": {"epochs": EPOCHS, "every": EVERY, "seeds": SEEDS},
        "learning_rates": ordered,
    }
    write_text(RESULTS / "argument.json", json.dumps(found) + "\n")
    write_text(RESULTS / "argument.md", f"{page(found)}\n")


if __name__ == "__main__":
    main()
