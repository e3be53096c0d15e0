"""`dropact bench`: what an activation costs, as a ratio to plain ReLU."""

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropact.cli.options import command_line
from dropact.cli.parser import UsageError, add_verb, budget, threads, within

if TYPE_CHECKING:
    from dropact.bench import Measurement, Suite

DESCRIPTION = """\
Times Drop-Activation, RandomizedReLU and their rivals, forward, backward and both, and a whole training step of a
ResNet-20 (on a GPU of a ResNet-18 and a ViT-small), eager and compiled; all in one process, in turns, as ratios to
F.relu of the same mode. One table per mode, shape, dtype and memory format. Takes up to twenty minutes: run it alone,
as anything else on the machine shows in the figures. The tables say so where it was not quiet.
"""
DTYPES = ("float32", "bfloat16", "float16", "float64")
MOST_ELEMENTS = 2**28  # several tensors of that size are alive at a time


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "bench", "time the operations and a training step against ReLU", DESCRIPTION, run)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, help="of the operations (float32 bfloat16)")
    parser.add_argument(
        "--shape",
        nargs="+",
        type=shape,
        help="of the operations (128x64x32x32 128x64x8x8, on a GPU 67108864 16777216)",
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these, beside relu (default: all)")
    parser.add_argument("--batch", type=within(1, 10**6), help="images of the training step (128)")
    parser.add_argument("--rounds", type=within(1, 10**6), help="turns of each candidate per table (50)")
    parser.add_argument("--seconds", type=budget, help="stop a table after this long, but not before 5 rounds (40)")
    parser.add_argument("--threads", type=threads, help="threads of torch (torch's own choice)")
    parser.add_argument("--no-operations", action="store_true", help="leave the single operations out")
    parser.add_argument("--no-step", action="store_true", help="leave the training step out")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, help="also compiled (default: yes)")
    parser.add_argument("--quick", action="store_true", help="only to see that it works: tiny, 3 rounds, eager")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures in FILE")


def shape(text: str) -> tuple[int, ...]:
    """Sizes separated by x.

    >>> shape("128x64x8x8")
    (128, 64, 8, 8)

    Raises:
        argparse.ArgumentTypeError: not positive whole numbers, or more than 2**28 elements.
    """
    parts = text.split("x")
    sizes = tuple(int(part) for part in parts if part.isascii() and part.isdecimal())
    if len(sizes) < len(parts) or not 0 < math.prod(sizes) <= MOST_ELEMENTS:
        accepted = "sizes such as 128x64x32x32, of at least 1 and at most 2**28 elements together"
        raise argparse.ArgumentTypeError(f"got {text!r}, accepted: {accepted}")
    return sizes


def run(args: argparse.Namespace) -> None:
    from rich.console import Console

    from dropact.bench import FORMAT, LEGEND, document, environment, measure, show_head, show_measurement
    from dropact.cli.json_file import claim_file
    from dropact.cli.terminal import wide_console
    from dropact.experiments.files import write_text

    suite = suite_of(args)
    if args.json is not None:
        claim_file(args.json, FORMAT)
    console, progress = wide_console(), Console(stderr=True)
    about = environment(suite.device, command_line(args))
    show_head(about, console)
    cases = suite.cases()
    tables: list[Measurement] = []
    try:
        for case in cases:
            with progress.status(f"{len(tables) + 1} of {len(cases)}: {case.what}, {case.mode}, {case.dtype}"):
                tables.append(measure(case, suite))
            show_measurement(tables[-1], console)
            if args.json is not None:
                write_text(args.json, document(about, tables, complete=len(tables) == len(cases)))
    except KeyboardInterrupt:
        kept = f"; they are in {args.json}" if tables and args.json is not None else ""
        progress.print(f"dropact: stopped after {len(tables)} of {len(cases)} tables{kept}", markup=False)
        raise SystemExit(130) from None
    console.print(LEGEND, style="dim", highlight=False)


def suite_of(args: argparse.Namespace) -> "Suite":
    """What the words on the command line ask for, checked; sets the number of threads."""
    import torch

    from dropact.bench import NAMES, Effort, Suite

    unknown = [name for name in args.only if name not in NAMES]
    if unknown:
        raise UsageError(f"--only: got {unknown[0]!r}, accepted: {', '.join(NAMES)}")
    if args.no_operations and args.no_step:
        raise UsageError("--no-operations and --no-step: got both, which leaves nothing to measure")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device: got 'cuda', but torch finds no CUDA device here, accepted: cpu")
    if args.threads is not None:
        torch.set_num_threads(args.threads)

    usual = Suite.usual(args.device)
    if args.quick:
        usual = replace(usual, shapes=((4, 8, 8, 8),), batch=8, effort=Effort(3, 5.0, 1))
    compiled = not args.quick if args.compiled is None else args.compiled
    return replace(
        usual,
        dtypes=tuple(dict.fromkeys(args.dtype or usual.dtypes)),
        shapes=tuple(dict.fromkeys(args.shape or usual.shapes)),
        only=tuple(args.only),
        modes=("eager", "compiled") if compiled else ("eager",),
        operations=not args.no_operations,
        step=not args.no_step,
        batch=args.batch or usual.batch,
        effort=Effort(
            rounds=args.rounds or usual.effort.rounds,
            seconds=args.seconds or usual.effort.seconds,
            warmup=usual.effort.warmup,
        ),
    )
