"""What the scripts here share: the arguments of every one, a race shown as a table, and the record they leave."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dropact.bench import environment
from dropact.bench.race import race
from dropact.bench.timing import Call, Clock, Effort, WallClock
from dropact.experiments.files import write_text


def parser(doc: str | None) -> argparse.ArgumentParser:
    """With what every script has."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="file for the record")
    return made


def timed_parser(doc: str | None, rounds: int = 30) -> argparse.ArgumentParser:
    """With what a script has that times contestants in turns."""
    made = parser(doc)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--threads", type=int, help="of torch (torch's own choice)")
    return made


def begin(script: str, argv: list[str], args: argparse.Namespace, device: str = "cpu") -> dict[str, Any]:
    """Sets the threads; what the record is made with, its noise that of the start."""
    if getattr(args, "threads", None):
        torch.set_num_threads(args.threads)
    return environment(device, " ".join([f"python benchmarks/{Path(script).name}", *argv]))


def timed(
    title: str, contestants: Mapping[str, Call], effort: Effort, clock: Clock | None = None, *, lead_in: bool = True
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Times and ratios to the first contestant's, printed and as a record; and the seconds of each, round by round."""
    run = race(contestants, clock or WallClock(), {"all": (0, 1)}, effort, lead_in=lead_in)
    rows = [{"name": name, **asdict(parts["all"])} for name, parts in run.figures.items()]
    print(f"\n{title}, {run.rounds} rounds{''.join(f' NOISY: {doubt}' for doubt in run.noise)}")
    for row in rows:
        print(line(row))
    record = {"title": title, "rounds": run.rounds, "noise": list(run.noise), "rows": rows}
    return record, {name: parts["all"] for name, parts in run.samples.items()}


def line(row: Mapping[str, Any]) -> str:
    """A row for the terminal."""
    within = f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"  {row['name']:<36} {within:<24} {row['microseconds'] / 1e3:8.1f} ms"


def keep(path: Path | None, record: Mapping[str, Any]) -> None:
    """Writes the record, if a file is asked for; makes its folder."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(record, indent=1) + "\n")
