"""What `dropact.diagnostics.record` adds to a training step, as a ratio to the step without it.

    python benchmarks/recording.py --json results/diagnostics/recording.json

A ResNet-20 with Drop-Activation at every activation, batch 128, 32x32 images, SGD with momentum, in float32 and in
bfloat16 autocast with channels_last. Three contestants take turns in one process: the plain step, a step under
`record` that is not measured, and one that is, with all probes. What recording costs when every k-th step is measured
is put together from the two ratios within each round: ((k - 1) not measured + measured) / k - 1.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn import functional as F

import dropact
from dropact.bench.machine import Watch, environment, noise
from dropact.bench.ratios import compare, spread
from dropact.bench.timing import Effort, WallClock, interleave
from dropact.experiments import build_network
from dropact.experiments.files import write_text


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=50, help="steps from one measurement to the next (50)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60.0, help="per precision, but not less than 5 rounds (60)")
    parser.add_argument("--threads", type=int, help="threads of torch (torch's own choice)")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    args = parser.parse_args(argv)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
    if args.threads:
        torch.set_num_threads(args.threads)
    about, tables = environment("cpu", " ".join(["python benchmarks/recording.py", *argv])), []
    for bfloat16 in (False, True):
        with ExitStack() as stack, Watch() as watch:
            contestants = {
                "plain": contestant(bfloat16, stack),
                "not measured": contestant(bfloat16, stack, every=10**9),
                "measured": contestant(bfloat16, stack, every=1),
            }
            effort = Effort(rounds=args.rounds, seconds=args.seconds, warmup=1)
            samples = interleave(contestants, WallClock(), {"step": (0, 1)}, effort)
        seconds = {name: parts["step"] for name, parts in samples.items()}
        k = args.every
        seconds[f"every {k} steps"] = [
            ((k - 1) * between + measured) / k
            for between, measured in zip(seconds["not measured"], seconds["measured"], strict=True)
        ]
        table = {
            "precision": "bfloat16" if bfloat16 else "float32",
            "rounds": len(seconds["plain"]),
            "noise": noise(watch.others, spread(seconds["plain"])),
            "ratios": {name: asdict(compare(own, seconds["plain"])) for name, own in seconds.items()},
        }
        tables.append(table)
        print(f"{table['precision']}, {table['rounds']} rounds, {', '.join(table['noise']) or 'quiet'}")
        for name, figure in table["ratios"].items():
            print(f"  {name:15} {figure['ratio']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
    if args.json:
        write_text(args.json, json.dumps({"environment": about, "tables": tables}, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
