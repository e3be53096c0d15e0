"""What a training step of a ResNet-110 costs where a quarter of its branches is left out.

    python benchmarks/stochastic_depth.py [--rounds 30] [--batch 32] [--bfloat16] [--device cuda] [--json FILE]

The paper's setting: linear decay to a last survival rate of 0.5, mean survival 0.75. A step is forward, backward and
SGD with momentum, of the same network with the same weights: as it is; with our layers, by batch, by row and by a fixed
number of rows; and with torchvision's and timm's layers on its branches, which compute what they drop. Ratios to the
plain network's time in the same round. The time of a step is linear in how many branches are active, 40.25 of 54 in the
mean, and free draws would scatter it by some 7 %: by batch, steps are of draws with 40, 40, 40 and 41 active branches
in turn.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from functools import partial
from itertools import count, cycle

import torch
import torchvision
from common import begin, keep, timed, timed_parser
from timm.layers import DropPath
from torch import nn
from torch.nn import functional as F

import dropact
from dropact._random import chosen_on_host
from dropact.bench.timing import Call, Effort, Mark, WallClock, clock_for
from dropact.experiments import build_network
from dropact.methods import ResidualSum
from dropact.schedules import linear_survival

# What must hold on a quiet machine: at most for ours, at least for the others.
TARGETS = {"ours, batch": 0.80, "ours, row": 0.82, "ours, subset": 0.82}
OTHERS_AT_LEAST = 0.97


class Theirs(nn.Module):
    """Adds a branch through a layer of another library."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, shortcut, branch, args, kwargs=None, owners=()):
        return shortcut + self.layer(branch(*args))


class ProcessorClock(WallClock):
    """What this thread has computed, whoever else does: for machines that are not quiet."""

    def mark(self) -> None:
        self._marks.append(time.thread_time())


def network(name: str, mode: str | None, layer: Callable[[float], nn.Module] | None) -> nn.Module:
    torch.manual_seed(0)
    model = build_network(name)
    if mode is None and layer is None:
        return model
    survival = partial(linear_survival, last=0.5)
    receipt = dropact.add_stochastic_depth_(model, survival, mode=mode or "batch")
    if layer is not None:
        for change in receipt:
            owner, _, child = change.name.rpartition(".")
            model.get_submodule(owner)._modules[child] = Theirs(layer(change.after.drop_prob))
    return model


def typical_seeds(survival: list[float]) -> Iterator[int]:
    """Seeds of torch's generator whose draws, one for each branch, leave the mean number of branches active."""
    mean = Fraction(sum(survival)).limit_denominator(12)
    low, more = divmod(mean.numerator, mean.denominator)
    turns = cycle([low] * (mean.denominator - more) + [low + 1] * more)
    wanted = next(turns)
    for seed in count():
        generator = torch.Generator().manual_seed(seed)
        drawn = [int(torch.randint(0, 2**63 - 1, (), generator=generator)) for _ in survival]
        active = sum(not chosen_on_host(d, 1, 1 - p) for d, p in zip(drawn, survival, strict=True))
        if active == wanted:
            yield seed
            wanted = next(turns)


def step(model: nn.Module, args: argparse.Namespace) -> Call:
    layout = torch.channels_last if args.bfloat16 else torch.contiguous_format
    model = model.to(args.device, memory_format=layout).train()
    images = torch.randn(args.batch, 3, 32, 32, device=args.device).contiguous(memory_format=layout)
    labels = torch.arange(args.batch, device=args.device) % 10
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)

    sums = [module for module in model.modules() if isinstance(module, ResidualSum)]
    seeds = typical_seeds([1 - layer.drop_prob for layer in sums]) if sums else count()

    def call(mark: Mark) -> None:
        torch.manual_seed(next(seeds))
        mark()
        with torch.autocast(args.device, torch.bfloat16) if args.bfloat16 else nullcontext():
            loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        mark()

    return call


def main(argv: list[str]) -> None:
    parser = timed_parser(__doc__)
    parser.add_argument("--network", default="resnet-110")
    parser.add_argument("--warmup", type=int, default=5, help="rounds that are not counted")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--bfloat16", action="store_true", help="autocast, channels_last")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true", help="processor time of the one thread, not the clock's")
    parser.add_argument("--only", choices=("ours", "theirs"))
    parser.set_defaults(threads=1)
    args = parser.parse_args(argv)
    if args.cpu_time and (args.threads != 1 or args.device != "cpu"):
        parser.error("--cpu-time: accepted with one thread on the CPU")
    about = begin(__file__, argv, args, args.device)
    tv = torchvision.ops.StochasticDepth
    layers = {
        "undropped": (None, None),
        "ours, batch": ("batch", None),
        "ours, row": ("row", None),
        "ours, subset": ("subset", None),
        "torchvision, batch": (None, lambda p: tv(p, "batch")),
        "torchvision, row": (None, lambda p: tv(p, "row")),
        "timm": (None, DropPath),
    }
    chosen = {
        n: v
        for n, v in layers.items()
        if args.only is None or n == "undropped" or (args.only == "ours") == ("ours" in n)
    }
    contestants = {name: step(network(args.network, *how), args) for name, how in chosen.items()}
    precision = "bfloat16 autocast, channels_last" if args.bfloat16 else "float32, contiguous"
    # Convolutions are prepared for each number of rows that comes up: many rounds until row mode is warm.
    effort = Effort(args.rounds, args.seconds, warmup=args.warmup)
    clock = ProcessorClock() if args.cpu_time else clock_for(args.device)
    title = f"{args.network}, batch {args.batch}, {precision}, {args.device}, {args.threads} threads"
    table, _ = timed(title, contestants, effort, clock, lead_in=False)
    for row in table["rows"][1:]:
        ours, ratio = row["name"] in TARGETS, row["ratio"]
        bound = TARGETS.get(row["name"], OTHERS_AT_LEAST)
        row |= {"bound": bound, "met": ratio <= bound if ours else ratio >= bound}
        print(f"  {row['name']} {'<=' if ours else '>='} {bound:.2f}: {'met' if row['met'] else 'MISSED'}")
    about["noise"] += table["noise"]
    what = {"network": args.network, "batch": args.batch, "precision": precision, "last_survival": 0.5}
    what["time"] = "processor" if args.cpu_time else "wall"
    what |= {"rounds": table["rounds"], "rows": table["rows"]}
    keep(args.json, {"format": "dropact stochastic depth 1", "environment": about, **what})


if __name__ == "__main__":
    main(sys.argv[1:])
