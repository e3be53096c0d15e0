"""Images per second of small runs that share one device, as a multiple of one run's.

    python benchmarks/many_runs.py --device cuda --noise --json results/gpu/many-runs.json

1, 2, 4, ... runs at a time, each in a process of its own, as `--on local:N` starts them: a run of a small network keeps
a GPU waiting for its host, and others can use it meanwhile. Every run trains its own seed with the training engine, on
CIFAR-10 in memory. A measurement begins when all of them have some steps behind them and lasts the same seconds for
all; starting, compiling and reading the data are left out. The counts are measured again in every round, in turns.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from dropact.bench.machine import Watch, environment, noise
from dropact.experiments import RunConfig, load_dataset
from dropact.experiments.config import CUDA_GRAPHS
from dropact.experiments.data import Dataset
from dropact.experiments.files import write_text
from dropact.experiments.hardware import checked_device, fast_fields, repeatable, usable_cores
from dropact.experiments.launchers.local import local
from dropact.experiments.planning.cost import synthetic
from dropact.experiments.trainer import Trainer

FORMAT = "dropact many runs 1"
MODES = {"eager": False, "compiled": True, "CUDA graphs": CUDA_GRAPHS}  # the config's field
WARM = 20  # steps before the clock starts: what a device prepares at the first ones
IN_FLIGHT = 20  # steps between looks at the clock, each of which waits for the device
PATIENCE = 300.0  # seconds that the others have to get ready
NOISE_IMAGES = 12_800


def images_of(noise: bool) -> Dataset:
    """CIFAR-10, or noise of its shape."""
    return synthetic("cifar10", NOISE_IMAGES) if noise else load_dataset("cifar10")


@dataclass(frozen=True)
class Share:
    """One run's share of a measurement; called with a config, in a process of its own."""

    folder: Path  # where the runs say that they are ready
    runs: int
    seconds: float
    device: str
    threads: int
    noise: bool

    def __call__(self, config: RunConfig) -> tuple[int, float]:
        """Images trained on, and in how many seconds."""
        torch.set_num_threads(self.threads)
        device = checked_device(self.device)
        data = images_of(self.noise)
        with repeatable(device):
            trainer = Trainer(config, data, device)
            feed = trainer.batches.endless()
            self._train(trainer, feed, WARM)
            self._wait_for_all(config)
            images, start = 0, time.monotonic()
            while time.monotonic() - start < self.seconds:
                images += self._train(trainer, feed, IN_FLIGHT)
            seconds = time.monotonic() - start
            self._wait_for_all(config, "done")  # nobody is to have the device for himself at the end
        return images, seconds

    def _train(self, trainer, feed, steps):
        images = 0
        for batch, labels in itertools.islice(feed, steps):
            trainer.step(batch, labels)
            images += len(labels)
            if trainer.steps % trainer.batches.per_epoch == 0:
                trainer.close_epoch({})
        if self.device == "cuda":
            torch.cuda.synchronize()
        return images

    def _wait_for_all(self, config, what="ready"):
        (self.folder / f"{what}-{config.seed}").touch()
        end = time.monotonic() + PATIENCE
        while len(list(self.folder.glob(f"{what}-*"))) < self.runs:
            if time.monotonic() > end:
                raise TimeoutError(f"some of {self.runs} runs were not {what} within {PATIENCE:g} s")
            time.sleep(0.01)


def rate(args: argparse.Namespace, runs: int, fields: dict[str, object]) -> float:
    """Images per second of so many runs together."""
    configs = [RunConfig(**fields, seed=seed) for seed in range(runs)]
    threads = max(1, usable_cores() // runs)
    with tempfile.TemporaryDirectory() as folder:
        share = Share(Path(folder), runs, args.seconds, args.device, threads, args.noise)
        return sum(images / seconds for _, (images, seconds) in local(runs, args.device)(share, configs))


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--network", default="simple")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="so many at a time (1 2 4 8 16)")
    parser.add_argument("--mode", choices=tuple(MODES), default="eager")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (10)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--noise", action="store_true", help="instead of CIFAR-10, in the same shape")
    parser.add_argument("--json", type=Path, help="file for the record")
    args = parser.parse_args(argv)
    if min(args.runs) < 1:
        parser.error(f"--runs: got {min(args.runs)}, accepted: whole numbers of at least 1")
    about = environment(args.device, "python benchmarks/many_runs.py " + " ".join(argv))
    fields = {
        "dataset": "cifar10",
        "network": args.network,
        "method": "drop-activation",
        "augmentation": "crop+flip",
        "batch_size": args.batch,
        "epochs": 1000,
        **fast_fields(args.device, "cifar10"),
        "compiled": MODES[args.mode],
    }
    counts = sorted({1, *args.runs})
    rates: dict[int, list[float]] = {runs: [] for runs in counts}
    with Watch() as watch:
        for number in range(args.rounds):
            for runs in counts if number % 2 == 0 else counts[::-1]:
                rates[runs].append(rate(args, runs, fields))
                print(f"round {number + 1} of {args.rounds}: {runs} runs, {rates[runs][-1]:.0f}/s", file=sys.stderr)
    rows = [
        {
            "runs": runs,
            "images_per_second": statistics.median(taken),
            "to_one": statistics.median(own / one for own, one in zip(taken, rates[1], strict=True)),
            "rates": taken,
        }
        for runs, taken in rates.items()
    ]
    print(f"{args.network}, {args.mode}, batch {args.batch}\nruns   images/s   × one at a time")
    for row in rows:
        print(f"{row['runs']:4} {row['images_per_second']:10.0f}   {row['to_one']:.2f}")
    # The runs' processes have ended and count as this one's.
    doubts = [*about.pop("noise"), *noise(watch.others, 0.0)]
    for doubt in doubts:
        print(f"NOISY: {doubt}")
    if args.json:
        data = images_of(args.noise)
        record = {"format": FORMAT, "environment": about, "noise": doubts, "data_sha256": data.sha256}
        record |= {"data": "noise" if args.noise else "cifar10"}
        record |= {name: getattr(args, name) for name in ("network", "mode", "batch", "seconds", "rounds")}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, json.dumps(record | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
