"""The simulations behind docs/theory.md and docs/errata.md, through the layers themselves.

    python scripts/simulate_theory.py     # writes results/theory/simulation.json, some minutes of one core
    python scripts/update_theory.py       # puts the figures into the pages

Every part has its own seed and can be run alone: `python scripts/simulate_theory.py --only property-5.1`.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropact import DropActivation, diagnostics, theory
from dropact.experiments import RunConfig, load_dataset, train
from dropact.experiments.batches import Batches, part_of
from dropact.experiments.environment import describe
from dropact.experiments.evaluation import error_percent
from dropact.experiments.files import write_text
from dropact.experiments.trainer import initial_network

OUT = Path(__file__).resolve().parents[1] / "results" / "theory" / "simulation.json"
COMMAND = "python scripts/simulate_theory.py"
DROP_PROBS = (0.01, 0.05, 0.1, 0.2, 0.5)


def mean_and_error(values: Tensor) -> list[float]:
    return [values.mean().item(), values.std().item() / len(values) ** 0.5]


def property_51() -> list[dict[str, Any]]:
    """One hidden layer: 10 inputs, 40 units, 7 outputs, one input; weights, input and target standard normal."""
    w1, w2, x, target = (torch.randn(s, dtype=torch.float64) for s in ((40, 10), (7, 40), (1, 10), (7,)))
    draws, rows = 1_000_000, []
    for q in (0.05, 0.1, 0.5):
        p, v = 1 - q, x @ w1.T
        leaky = torch.where(v > 0, v, q * v)
        printed = (1 - p) / p * ((v - leaky) @ w2.T).square().sum().item()
        for granularity in ("element", "sample"):  # of one sample, "sample" is one mask for the layer
            layer = DropActivation(q, granularity=granularity)
            test = ((layer.eval()(v) @ w2.T - target) ** 2).sum()
            h = layer.train()(v.expand(draws, -1))
            simulated = mean_and_error(((h @ w2.T - target) ** 2).sum(1) - test)
            formula = theory.excess_loss(w1, w2, x, q, granularity).item()
            row = {"drop_prob": q, "granularity": granularity, "draws": draws, "simulated": simulated}
            rows.append(row | {"formula": formula, "printed": printed})
    return rows


def property_52() -> list[dict[str, Any]]:
    """4,000,000 standard normal inputs through the layer, in both modes."""
    x, rows = torch.randn(4_000_000), []
    for name in ("relu", "leaky_relu", "gelu", "silu", "mish", "elu", "hardswish", "softplus", "tanh", "sigmoid"):
        layer = DropActivation(0.05, name)
        train_output, test_output = layer.train()(x).double(), layer.eval()(x).double()
        ratio = (test_output.var() / train_output.var()).item()
        centred = test_output - test_output.mean(), train_output - train_output.mean()
        spread = (centred[0] ** 2 - ratio * centred[1] ** 2).std() / train_output.var() / len(x) ** 0.5
        worst = theory.worst_variance_shift(name)
        row = {"activation": name, "formula": theory.variance_shift(name, 0.05), "simulated": [ratio, spread.item()]}
        rows.append(row | {"worst_drop_prob": worst.drop_prob, "worst": worst.ratio})
    return rows


class TwoLayers:
    """Two hidden layers of ReLU, weights of variance 2 / fan in (the last 1), 32 inputs, squared loss to its output."""

    def __init__(self, width: int, q: float) -> None:
        def weights(rows: int, columns: int, gain: int) -> Tensor:
            return torch.randn(rows, columns, dtype=torch.float64) * math.sqrt(gain / columns)

        self.q, self.w = q, (weights(width, 8, 2), weights(width, width, 2), weights(3, width, 1))
        self.x = torch.randn(32, 8, dtype=torch.float64)
        self.model = nn.Sequential(
            *(nn.Linear(8, width, bias=False), DropActivation(q), nn.Linear(width, width, bias=False)),
            *(DropActivation(q), nn.Linear(width, 3, bias=False)),
        ).double()
        self.model.load_state_dict({f"{2 * i}.weight": w for i, w in enumerate(self.w)})
        self.target = self.model.eval()(self.x).detach()

    def loss(self, y: Tensor) -> Tensor:
        return (y - self.target.repeat(len(y) // 32, 1)).square().sum(1)

    def simulated(self, draws: int) -> list[float]:
        self.model.train()
        with torch.no_grad():
            parts = [self.loss(self.model(self.x.repeat(100, 1))).view(100, 32).mean(1) for _ in range(draws // 100)]
        return mean_and_error(torch.cat(parts))


def two_layers() -> list[dict[str, Any]]:
    rows = []
    for width in (16, 64, 256):
        for q in DROP_PROBS:
            net = TwoLayers(width, q)
            form = diagnostics.estimate_excess_loss(net.model, net.x, net.loss).mean().item()
            remainder = [t.mean().item() for t in theory.two_layer_remainder(*net.w, net.x, net.target, q)]
            row = {"width": width, "drop_prob": q, "form": form, "remainder": remainder}
            rows.append(row | {"simulated": net.simulated(20_000 if width < 256 else 8_000)})
    return rows


def one_flip() -> list[dict[str, Any]]:
    """The limit drop_prob -> 0 of the excess over drop_prob, without draws: one unit dropped, one after the other."""
    rows = []
    for width, networks in ((8, 100), (16, 50), (32, 30), (64, 20), (128, 10), (256, 5), (512, 3)):
        form = exact = 0.0
        for _ in range(networks):
            net = TwoLayers(width, 1e-9)
            form += diagnostics.estimate_excess_loss(net.model, net.x, net.loss).mean().item() / 1e-9
            exact += _flips(net)
        rows.append({"width": width, "networks": networks, "form": form / networks, "exact": exact / networks})
    return rows


def _flips(net: TwoLayers) -> float:
    w1, w2, w3 = net.w
    v1 = net.x @ w1.T
    total = (v1.relu() @ w2.T).clamp(max=0).square() @ w3.square().sum(0)
    for i in range(v1.shape[1]):
        h = v1.relu()
        h[:, i] += v1[:, i].clamp(max=0)
        total = total + ((h @ w2.T).relu() @ w3.T - net.target).square().sum(1)
    return total.mean().item()


class Block(nn.Module):
    """A block behind a convolution, not trained; its activation sees the output of the one before if `skip`."""

    def __init__(self, q: float, skip: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), DropActivation(q))
        self.branch, self.act, self.out = nn.Conv2d(24, 24, 3, padding=1), DropActivation(q), nn.Linear(24 * 16, 4)
        self.skip = skip
        for _ in range(30):
            self(torch.randn(64, 1, 4, 4))  # running statistics that fit

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out(self.act(x + self.branch(x) if self.skip else self.branch(x)).flatten(1))


def skip() -> list[dict[str, Any]]:
    """16 inputs, squared loss to its own output in evaluation."""
    rows = []
    for with_skip in (False, True):
        for q in (0.01, 0.05, 0.2):
            model, x = Block(q, with_skip).double(), torch.randn(16, 1, 4, 4, dtype=torch.float64)
            target = model.eval()(x).detach()

            def loss(y: Tensor, target: Tensor = target) -> Tensor:
                return (y - target.repeat(len(y) // 16, 1)).square().sum(1)

            form = diagnostics.estimate_excess_loss(model, x, loss).mean().item()
            for layer in (model.stem[2], model.act):
                layer.train()
            with torch.no_grad():
                draws = [loss(model(x.repeat(100, 1, 1, 1))).view(100, 16).mean(1) for _ in range(60)]
            row = {"skip": with_skip, "drop_prob": q, "form": form, "simulated": mean_and_error(torch.cat(draws))}
            rows.append(row)
    return rows


def real_networks() -> list[dict[str, Any]]:
    """Trained on the digits; cross-entropy on the validation images, 256 of them."""
    data, rows = load_dataset("digits"), []
    for name in ("simple-small", "resnet-20"):
        config = RunConfig(
            dataset="digits", network=name, method="drop-activation", epochs=20, batch_size=32, lr=0.1, seed=0
        )
        network, normalise = initial_network(config, data), Batches(config, data).normalise
        network.load_state_dict(train(config, data).state)
        part = part_of(data.x_validation[:256], data.y_validation[:256], config)
        images, labels = normalise(part.images), part.labels.long()
        layers = [m for m in network.modules() if isinstance(m, DropActivation)]

        def loss(y: Tensor, labels: Tensor = labels) -> Tensor:
            return F.cross_entropy(y, labels, reduction="none")

        for q in (0.01, 0.05, 0.2):
            for layer in layers:
                layer.drop_prob = q
            form = diagnostics.estimate_excess_loss(network, images, loss).mean().item()
            network.eval()
            with torch.no_grad():
                test = loss(network(images)).mean()
                for layer in layers:
                    layer.train()
                draws = torch.stack(
                    [loss(network(images)).mean() - test for _ in range(1000 if len(layers) < 9 else 300)]
                )
            row = {"network": name, "drop_prob": q, "form": form, "simulated": mean_and_error(draws)}
            rows.append(row | {"loss": test.item()})
    return rows


def recalibration() -> list[dict[str, Any]]:
    """Test error and calibration on the digits, 20 seeds: as trained, BatchNorm recalibrated, and sampled."""
    data, rows = load_dataset("digits"), []
    for q in (0.0, 0.05, 0.2):
        for seed in range(20):
            method = {"method": "drop-activation", "options": {"drop_prob": q}} if q else {"method": "baseline"}
            config = RunConfig(
                dataset="digits", network="simple-small", epochs=20, batch_size=32, lr=0.1, seed=seed, **method
            )
            network, batches = initial_network(config, data), Batches(config, data)
            network.load_state_dict(train(config, data).state)
            part = part_of(data.x_test, data.y_test, config)
            images, labels = batches.normalise(part.images), part.labels.long()

            def measured(
                model: nn.Module, x: Tensor = images, y: Tensor = labels, all_=(part, batches.normalise)
            ) -> Any:  # type: ignore[no-untyped-def]
                p = model.eval()(x).softmax(1)
                return [error_percent(model, *all_), diagnostics.calibration_error(p, y), nll(p, y)]

            torch.manual_seed(seed)
            sampled = None
            if q:
                p = diagnostics.predict_samples(network, images, 50).mean
                wrong = 100 * (p.argmax(1) != labels).double().mean().item()
                sampled = [wrong, diagnostics.calibration_error(p, labels), nll(p, labels)]
            training = batches.normalise(batches.part.images)
            found = diagnostics.recalibrate_batchnorm_(network, [training], measured)
            row = {"drop_prob": q, "seed": seed, "trained": found.before, "recalibrated": found.after}
            rows.append(row | {"sampled": sampled})
    return rows


def nll(p: Tensor, labels: Tensor) -> float:
    return -p.gather(1, labels[:, None]).clamp(min=1e-12).log().mean().item()


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "property-5.1": property_51,
    "property-5.2": property_52,
    "two-layers": two_layers,
    "one-flip": one_flip,
    "skip": skip,
    "real-networks": real_networks,
    "recalibration": recalibration,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts (all)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    record = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {"environments": {}, "parts": {}}
    about = describe(load_dataset("digits"), COMMAND, "cpu")
    for name in args.only:
        torch.manual_seed(20181114)
        record["parts"][name] = PARTS[name]()
        record["environments"][name] = about
        sys.stdout.write(f"{name}: {len(record['parts'][name])} rows\n")
        OUT.parent.mkdir(parents=True, exist_ok=True)
        write_text(OUT, json.dumps(record, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
