"""Stochastic depth on a toy regression, at budgets from 0.1 to 1: `python scripts/depth_regression.py [--seeds 10]`.

Soufiane Hayou and Fadhel Ayed (arXiv:2106.03091) test their budget hypothesis on a toy regression with a vanilla
residual network. Its details are not at hand; everything here is ours: y = sin(3 x) + x / 2 on [-2, 2], noise of 0.3
on 40 points; a residual network of 16 branches of width 32, y + W2 relu(W1 y), He's weights, last layers scaled by
1 / sqrt(16) so that the depth can be trained at all; Adam, 1e-3, 500 steps on all points. The error is the root mean
square distance to the true function on 401 points in evaluation. A seed decides points, noise, weights and draws; all
profiles have the same points and weights. Sensitivities are those at initialisation on the training points.

Writes results/depth-regression/regression.json and prints the table.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dropact
from dropact.diagnostics import sensitivities
from dropact.experiments.environment import PACKAGES, git_revision, machine
from dropact.experiments.files import write_text
from dropact.experiments.seeds import derived_seed
from dropact.experiments.statistics import holm, paired_difference, summarise
from dropact.report.captions import probability
from dropact.report.grids import Grid
from dropact.report.text import markdown_table
from dropact.schedules import linear_survival, sensitivity_survival, uniform_survival

BRANCHES, WIDTH, POINTS, NOISE, STEPS, LR = 16, 32, 40, 0.3, 500, 1e-3
BUDGETS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
OUT = Path(__file__).parents[1] / "results" / "depth-regression" / "regression.json"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        for layer in (self.one, self.two):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.two.weight /= math.sqrt(BRANCHES)

    def forward(self, y: Tensor) -> Tensor:
        return y + self.two(F.relu(self.one(y)))


def truth(x: Tensor) -> Tensor:
    return torch.sin(3 * x) + x / 2


def one_run(seed: int, budget: float, profile: str) -> float:
    generator = torch.Generator().manual_seed(derived_seed(seed, "points"))
    x = 4 * torch.rand(POINTS, 1, generator=generator) - 2
    y = truth(x) + NOISE * torch.randn(POINTS, 1, generator=generator)
    torch.manual_seed(derived_seed(seed, "weights"))
    net = nn.Sequential(nn.Linear(1, WIDTH), *(Block() for _ in range(BRANCHES)), nn.Linear(WIDTH, 1))
    total = budget * BRANCHES
    if profile == "uniform":
        rates = uniform_survival(BRANCHES, total)
    elif profile == "linear":
        rates = linear_survival(BRANCHES, budget=total)
    else:
        rates = sensitivity_survival(sensitivities(net, F.mse_loss, (x, y)), total)
    dropact.add_stochastic_depth_(net, rates)
    optimiser = torch.optim.Adam(net.parameters(), lr=LR, fused=True)
    torch.manual_seed(derived_seed(seed, "masks"))
    for _ in range(STEPS):
        optimiser.zero_grad()
        F.mse_loss(net(x), y).backward()
        optimiser.step()
    grid = torch.linspace(-2, 2, 401).unsqueeze(1)
    with torch.no_grad():
        return float((net.eval()(grid) - truth(grid)).square().mean().sqrt())


def profiles(budget: float) -> tuple[str, ...]:
    if budget == 1:
        return ("uniform",)  # all the same
    return ("uniform", "sensitivity") + ("linear",) * (budget > 0.5)


def page(record: Mapping[str, Any]) -> str:
    """The errors of every profile at every budget, and what they differ by from uniform rates, as Markdown."""
    errors, lines, tested = record["errors"], [], []
    for budget in BUDGETS:
        for profile in profiles(budget):
            own = errors.get(f"{budget} {profile}")
            if not own:
                continue
            whole = summarise(list(own.values()))
            gap = None if profile == "uniform" else paired_difference(own, errors[f"{budget} uniform"])
            if gap is not None and gap.p_value is not None:
                tested.append(gap.p_value)
            lines.append((budget, profile, whole, gap))
    corrected = iter(holm(tested))
    rows = []
    for budget, profile, whole, gap in lines:
        against, p = ("–", "–")
        if gap is not None:
            against = f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" if gap.p_value is not None else "one seed"
            p = probability(next(corrected) if gap.p_value is not None else None)
        half = "" if whole.half_width is None else f" ± {whole.half_width:.3f}"
        rows.append((f"{budget:g}", profile, str(whole.n), f"{whole.mean:.3f}{half}", against.replace("-", "−"), p))
    headings = ("Budget", "Profile", "n", "Distance to the truth", "− uniform", "p, corrected")
    return markdown_table(Grid(headings, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    record = json.loads(OUT.read_text()) if OUT.exists() else {"environments": [], "errors": {}}
    environment = {
        "command": " ".join(["python scripts/depth_regression.py", *sys.argv[1:]]),
        "git_revision": git_revision(),
        **machine(PACKAGES),
    }
    if environment not in record["environments"]:
        record["environments"].append(environment)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    for budget in BUDGETS:
        for profile in profiles(budget):
            errors = record["errors"].setdefault(f"{budget} {profile}", {})
            for seed in seeds:
                if str(seed) not in errors:  # the same command again goes on
                    errors[str(seed)] = one_run(seed, budget, profile)
                    write_text(OUT, json.dumps(record, indent=1) + "\n")
    sys.stdout.write(page(record) + "\n")


if __name__ == "__main__":
    main()
