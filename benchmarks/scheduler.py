"""What a grid of 10,000 runs costs besides their training: to spread, to skip and to report.

    python benchmarks/scheduler.py --json results/scale/scheduler.json

Every run is a stub that trains nothing. Spread over a Ray cluster of this machine and over processes of this machine:
runs per second, and how much memory the driver takes on from a tenth of the runs to the last. Then a folder of as many
finished runs, as files in the form that training leaves: time and memory of the `dropact compare` that would have
trained them, given again with nothing left to train, of `dropact watch` and of `dropact report`.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import begin, keep, parser

from dropact.bench.machine import Watch, noise
from dropact.experiments.comparison import Comparison, claim_folder
from dropact.experiments.data import load_dataset
from dropact.experiments.hardware import usable_cores
from dropact.experiments.launchers.grid import Done, launch_grid
from dropact.experiments.launchers.local import local
from dropact.experiments.launchers.ray import ray_cluster
from dropact.experiments.recipes import default_setting
from dropact.experiments.watch import Watcher

METHODS = ("baseline", "dropout", "rrelu", "drop-activation")
EPOCHS = 20


def stub(config):
    return Done({"test_error": 5.0 + config.seed % 7 / 10})


def comparison_of(runs):
    setting = default_setting("digits", "simple-small") | {"epochs": EPOCHS}
    return Comparison.of(setting, {method: {} for method in METHODS}, range(runs // len(METHODS)))


def resident() -> float:
    """Memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


class Growth(Watcher):
    """The driver's memory when a tenth of the runs is finished, and at the end."""

    def __init__(self, runs):
        self._tenth, self.finished_runs, self.first, self.last = runs // 10, 0, 0.0, 0.0

    def finished(self, config, result):
        self.finished_runs += 1
        if self.finished_runs % self._tenth == 0:
            self.first, self.last = self.first or resident(), resident()


def spread(configs, over):
    with tempfile.TemporaryDirectory() as folder:
        growth = Growth(len(configs))
        warm = configs[:1]
        launch_grid(warm, Path(folder) / "warm", stub, over, Watcher())
        start = time.perf_counter()
        launch_grid(configs, Path(folder) / "out", stub, over, growth)
        seconds = time.perf_counter() - start
    return {
        "runs": growth.finished_runs,
        "seconds": seconds,
        "runs_per_second": growth.finished_runs / seconds,
        "driver_mib": growth.last,
        "driver_growth_mib": growth.last - growth.first,
    }


def leave(folder, config, data_sha256):
    """The files of a finished run."""
    directory = folder / "runs" / config.key
    directory.mkdir(parents=True)
    errors = [round(60 / (epoch + 1) + config.seed % 11 / 10, 2) for epoch in range(EPOCHS)]
    lines = "".join(
        json.dumps({"epoch": epoch, "train_loss": e / 30, "train_error": e, "validation_error": e, "test_error": e})
        + "\n"
        for epoch, e in enumerate(errors, start=1)
    )
    result = {"epochs": EPOCHS, "test_error": errors[-1], "validation_error": errors[-1], "train_error": errors[-1]}
    result |= {"best_epoch": 1 + errors.index(min(errors)), "best_test_error": min(errors)}
    result["metrics_sha256"] = hashlib.sha256(lines.encode()).hexdigest()
    made_with = {"command": "stub", "git_revision": None, "packages": {"torch": ""}, "threads": 1}
    made_with["data_sha256"] = data_sha256
    timing = {"total_seconds": 1.0, "epoch_seconds": [1.0 / EPOCHS] * EPOCHS}
    for name, text in (
        ("config.json", config.to_json()),
        ("environment.json", json.dumps(made_with)),
        ("metrics.jsonl", lines),
        ("result.json", json.dumps(result)),
        ("timing.json", json.dumps(timing)),
    ):
        (directory / name).write_text(text)


def cost_of(*words):
    """Wall clock, processor time and largest memory of a `dropact` command."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "dropact", *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)  # of this child alone: RUSAGE_CHILDREN has the largest of all so far
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def main(argv: list[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--runs", type=int, default=10_000, help="a multiple of 40 (10,000)")
    arguments.add_argument("--processes", type=int, default=usable_cores(), help="of local:N (one per core)")
    arguments.add_argument("--only", choices=("ray", "local", "folder"), nargs="*", default=("ray", "local", "folder"))
    args = arguments.parse_args(argv)
    if args.runs < 40 or args.runs % 40:  # tenths of as many for each method
        arguments.error(f"--runs: got {args.runs}, accepted: a multiple of 40")
    about = begin(__file__, argv, args)
    comparison = comparison_of(args.runs)
    configs, over, commands = comparison.configs(), {}, {}
    if "ray" in args.only:
        over["ray"] = spread(configs, ray_cluster("local"))
    if "local" in args.only:
        over[f"local:{args.processes}"] = spread(configs, local(args.processes))
    with Watch() as watch, tempfile.TemporaryDirectory() as folder:  # Ray's own processes would count as others'
        if "folder" in args.only:
            claim_folder(Path(folder), comparison)
            data_sha256 = load_dataset("digits").sha256
            for config in configs:
                leave(Path(folder), config, data_sha256)
            again = ["--dataset", "digits", "--network", "simple-small", "--epochs", EPOCHS]
            again += ["--methods", ",".join(METHODS), "--seeds", len(comparison.seeds), "--out", folder]
            commands["compare"] = cost_of("compare", *again)
            commands["watch"] = cost_of("watch", folder, "--once")
            commands["report"] = cost_of("report", folder)
    doubts = noise(watch.others, 0.0)
    for name, figures in (over | commands).items():
        print(name, ", ".join(f"{figure} {value:.4g}" for figure, value in figures.items()))
    if doubts:
        print("NOISY:", "; ".join(doubts))
    values = {"format": "dropact scheduler 1", "environment": about, "noise": doubts, "runs": args.runs}
    keep(args.json, values | {"spread": over, "commands": commands})


if __name__ == "__main__":
    main(sys.argv[1:])
