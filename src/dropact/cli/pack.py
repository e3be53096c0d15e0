"""`dropact pack`: finished runs as two files that can be kept for good, and back."""

import argparse
from pathlib import Path
from typing import Any

from dropact.cli.options import require_extras
from dropact.cli.parser import add_verb

DESCRIPTION = """\
Writes the finished runs of DIR into OUT: runs.jsonl, one line a run, and study.json, what they belong to and the
environments that they were made in; then the report. Weights and checkpoints are left behind, DIR is not changed, and
what OUT holds already stays. report, verify, compare and reproduce read a packed folder as any other, and runs that are
added to it can be packed into it in turn (DIR and OUT may be the same).

--unpack writes the packed runs of DIR as directories into OUT, every file to the byte.
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "pack", "finished runs as two files, and back", DESCRIPTION, run)
    parser.add_argument("folder", metavar="DIR", type=Path, help="the --out of compare, reproduce or train")
    parser.add_argument("out", metavar="OUT", type=Path, help="where to")
    parser.add_argument("--unpack", action="store_true", help="from two files to directories")


def run(args: argparse.Namespace) -> None:
    require_extras()
    from dropact.cli.report import report_on
    from dropact.experiments.comparison import Comparison, join_folder, read_claim
    from dropact.experiments.errors import RecordError
    from dropact.experiments.packed import PACKED, pack, runs_in, unpack
    from dropact.experiments.reproduction import Reproduction

    if args.unpack:
        count = unpack(args.folder, args.out)
        print(f"{count} runs unpacked into {args.out}")  # noqa: T201
        return
    claims = {}
    for kind in (Comparison, Reproduction):
        claim = read_claim(kind, args.folder)
        if claim is not None:
            claims[kind.file.removesuffix(".json")] = join_folder(args.out, claim).to_values()
    runs = runs_in(args.folder)
    if not runs:
        raise RecordError(f"{args.folder}: no runs in it, accepted: the --out of compare, reproduce or train")
    count = pack(runs, claims, args.out)
    print(f"{count} runs packed in {args.out / PACKED}")  # noqa: T201
    report_on(args.out)
