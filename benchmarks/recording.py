"""What `dropact.diagnostics.record` adds to a training step, as a ratio to the step without it.

    python benchmarks/recording.py --json results/diagnostics/recording.json

A ResNet-20 with Drop-Activation at every activation, batch 128, 32x32 images, SGD with momentum, in float32 and in
bfloat16 autocast with channels_last. Three contestants take turns in one process: the plain step, a step under
`record` that is not measured, and one that is, with all probes. What recording costs when every k-th step is measured
is put together from the two ratios within each round: ((k - 1) not measured + measured) / k - 1.
"""

import sys
from contextlib import ExitStack
from dataclasses import asdict

import torch
from common import begin, keep, line, timed, timed_parser
from torch.nn import functional as F

import dropact
from dropact.bench.race import compare
from dropact.bench.timing import Effort
from dropact.experiments import build_network


def contestant(bfloat16, stack, every=None):
    """One training step; if `every` is said, under a recorder that has its first step behind it."""
    torch.manual_seed(0)
    layout = torch.channels_last if bfloat16 else torch.contiguous_format
    network = build_network("resnet-20")
    dropact.convert_(network, dropact.DropActivation(0.05))
    network = network.to(memory_format=layout)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)
    images = torch.randn(128, 3, 32, 32).contiguous(memory_format=layout)
    labels = torch.randint(10, (128,))
    if every is not None:
        stack.enter_context(dropact.diagnostics.record(network, every=every))
        network(images)

    def call(mark):
        mark()
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimiser.step()
        mark()

    return call


def main(argv: list[str]) -> None:
    parser = timed_parser(__doc__)
    parser.add_argument("--every", type=int, default=50, help="steps from one measurement to the next (50)")
    parser.add_argument("--seconds", type=float, default=60.0, help="per precision, but not less than 5 rounds (60)")
    args = parser.parse_args(argv)
    about, tables = begin(__file__, argv, args), []
    for bfloat16 in (False, True):
        with ExitStack() as stack:
            contestants = {
                "plain": contestant(bfloat16, stack),
                "not measured": contestant(bfloat16, stack, every=10**9),
                "measured": contestant(bfloat16, stack, every=1),
            }
            effort = Effort(rounds=args.rounds, seconds=args.seconds, warmup=1)
            table, seconds = timed("bfloat16" if bfloat16 else "float32", contestants, effort)
        k = args.every
        together = [
            ((k - 1) * between + measured) / k
            for between, measured in zip(seconds["not measured"], seconds["measured"], strict=True)
        ]
        table["rows"].append({"name": f"every {k} steps", **asdict(compare(together, seconds["plain"]))})
        print(line(table["rows"][-1]))
        tables.append(table)
    keep(args.json, {"environment": about, "tables": tables})


if __name__ == "__main__":
    main(sys.argv[1:])
