"""Images per second of whole training, ours beside the usual recipe: a network with Drop-Activation, batch 128.

    python benchmarks/throughput.py --json results/bench/cpu-throughput.json    # DROPACT_DATA names the data's folder
    python benchmarks/throughput.py --device cuda --network resnet-164 --noise --json results/gpu/resnet-164.json

Contestants take turns in one process (see README.md here). A turn is a few untimed steps and then the timed ones.

* usual: PIL per image (RandomCrop, RandomHorizontalFlip, ToTensor, Normalize) in a DataLoader with 2 workers, float32,
  NCHW, SGD as torch makes it, and the mask arithmetic of the paper's authors. Its workers start with its turn and end
  with it, and what they have made ahead is used up before the clock starts: nothing is prepared at another's expense.
  On a GPU with TF32, 8 workers, pinned memory and cuDNN choosing the fastest algorithm. It adds up `loss.item()`, as
  torch's tutorials do, and so waits for the device at every step; ours waits at the end of a turn (in a run it looks
  at its losses every 20 steps).
* ours: the training engine, eager and compiled: batches from bytes in memory, bfloat16 autocast, channels_last. On a
  GPU also compiled into CUDA graphs; cuDNN keeps to algorithms that repeat their bits, as in every run of the engine.
* no pipeline: the same engine and network on normalised floats that lie ready in memory.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from common import begin, keep, timed_parser
from torch import Tensor
from torch.nn import functional as F

from dropact.bench.candidates import CANDIDATES
from dropact.bench.machine import Watch, noise
from dropact.bench.race import compare, spread
from dropact.bench.timing import order
from dropact.experiments import RunConfig, build_network, load_dataset
from dropact.experiments.batches import Batches
from dropact.experiments.config import CUDA_GRAPHS
from dropact.experiments.data import Dataset
from dropact.experiments.hardware import checked_device
from dropact.experiments.planning.cost import synthetic
from dropact.experiments.trainer import Trainer

FORMAT = "dropact throughput 1"
BATCH = 128
WORKERS, AHEAD = {"cpu": 2, "cuda": 8}, 2  # DataLoader's own default of batches made ahead by each worker
READY = 8  # batches of floats that lie in memory
Steps = Callable[[int, int], float]  # so many untimed and timed steps -> seconds of the timed ones
NETWORKS = {
    "resnet-20": "ResNet-20",
    "resnet-164": "ResNet-164",
    "wrn-28-10": "WRN-28-10",
    "densenet-bc-100-12": "DenseNet-BC-100-12",
    "resnext-29-8x64d": "ResNeXt-29-8x64d",
    "simple": "simple network",
}
MODES = {  # fields of the config
    "eager": {},
    "compiled": {"compiled": True},
    "CUDA graphs": {"compiled": CUDA_GRAPHS},
}
ONLY_ON = {"CUDA graphs": "cuda"}
TARGETS = {"resnet-164": 4.0, "wrn-28-10": 3.0}  # times the usual recipe's rate, on a GPU, by the fastest mode


def images_of(noise: bool) -> Dataset:
    """CIFAR-10, or noise of its shape."""
    return synthetic("cifar10", 50_000) if noise else load_dataset("cifar10")


def whole_batches(data: Dataset) -> Dataset:
    """Cut, so that every step is as large as the next."""
    whole = len(data.y_train) // BATCH * BATCH
    parts = data.x_validation, data.y_validation, data.x_test, data.y_test
    return Dataset(data.name, data.num_classes, data.x_train[:whole], data.y_train[:whole], *parts)


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """As torchvision.datasets.CIFAR10 does it."""

    def __init__(self, data: Dataset, normalise: Batches) -> None:
        from torchvision import transforms

        self._pixels, self._labels = data.x_train.numpy(), data.y_train.tolist()
        mean, std = (value.mean((0, 2, 3)) / 255 for value in (normalise.normalise.mean, normalise.normalise.std))
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean.tolist(), std.tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self._transform(Image.fromarray(self._pixels[index])), self._labels[index]


@contextmanager
def cudnn(*, benchmark: bool, deterministic: bool) -> Iterator[None]:
    """How cuDNN chooses its algorithms."""
    backend = torch.backends.cudnn
    before = backend.benchmark, backend.deterministic
    try:
        backend.benchmark, backend.deterministic = benchmark, deterministic
        yield
    finally:
        backend.benchmark, backend.deterministic = before


def now(device: torch.device) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def usual(name: str, data: Dataset, batches: Batches, device: torch.device) -> Steps:
    """The recipe of most repositories."""
    network = build_network(name).to(device)
    convert = CANDIDATES["mask_arithmetic"].convert
    assert convert is not None
    convert(network)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    pictures, workers, on_gpu = Pictures(data, batches), WORKERS[device.type], device.type == "cuda"

    def steps(untimed: int, timed: int) -> float:
        loader = torch.utils.data.DataLoader(
            pictures,
            BATCH,
            shuffle=True,
            num_workers=workers,
            prefetch_factor=AHEAD,
            drop_last=True,
            pin_memory=on_gpu,
        )
        start, total = 0.0, 0.0
        with cudnn(benchmark=on_gpu, deterministic=False):
            for number, (images, labels) in enumerate(loader):
                if number == untimed + workers * AHEAD:
                    start = now(device)
                if number == untimed + workers * AHEAD + timed:
                    break
                images, labels = (value.to(device, non_blocking=True) for value in (images, labels))
                loss = F.cross_entropy(network(images), labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()
            return now(device) - start

    return steps


def drive(trainer: Trainer, feed: Iterator[tuple[Tensor, Tensor]]) -> Steps:
    """Our engine on batches that come from `feed`."""

    def steps(untimed: int, timed: int) -> float:
        start = 0.0
        with cudnn(benchmark=False, deterministic=True):
            for number in range(untimed + timed):
                if number == untimed:
                    start = now(trainer.device)
                trainer.step(*next(feed))
                if trainer.steps % trainer.batches.per_epoch == 0:
                    trainer.close_epoch({})
            return now(trainer.device) - start

    return steps


def contestants(network: str, data: Dataset, modes: Sequence[str], device: torch.device) -> dict[str, Steps]:
    fields = {
        "dataset": "cifar10",
        "network": network,
        "method": "drop-activation",
        "augmentation": "crop+flip",
        "batch_size": BATCH,
        "epochs": 1000,  # a rate too small to lead the networks to sparser activations, whose price might be another
        "precision": "bfloat16",
        "memory_format": "channels_last",
    }
    found: dict[str, Steps] = {}
    for mode in modes:
        trainer = Trainer(RunConfig(**fields, **MODES[mode]), data, device)
        ready = [trainer.batches.make(torch.arange(i * BATCH, (i + 1) * BATCH), i) for i in range(READY)]
        if not found:
            found["usual"] = usual(network, data, trainer.batches, device)
        found[f"ours, {mode}"] = drive(trainer, trainer.batches.endless())
        found[f"no pipeline, {mode}"] = drive(trainer, itertools.cycle(ready))
    return found


def ratio(faster: list[float], slower: list[float]) -> dict[str, float]:
    """How many times the rate of `slower` that of `faster` is, round by round."""
    found = compare(slower, faster)
    return {"ratio": found.ratio, "low": found.low, "high": found.high}


def summary(seconds: dict[str, list[float]], timed: int) -> list[dict[str, object]]:
    """One row per contestant: rate, and ratios of rates to the usual recipe and to no pipeline of the same mode."""
    rows: list[dict[str, object]] = []
    for name, own in seconds.items():
        row: dict[str, object] = {"name": name, "images_per_second": BATCH * timed / statistics.median(own)}
        row["to_usual"] = ratio(own, seconds["usual"])
        who, _, mode = name.partition(", ")
        if who == "ours":
            row["to_no_pipeline"] = ratio(own, seconds[f"no pipeline, {mode}"])
        row["seconds"] = own
        rows.append(row)
    return rows


def line(row: dict[str, object]) -> str:
    def show(name: str) -> str:
        value = row.get(name)
        return f"{value['ratio']:8.3f} [{value['low']:.3f}, {value['high']:.3f}]" if isinstance(value, dict) else ""

    return f"{row['name']:22} {row['images_per_second']:8.0f}  {show('to_usual'):26} {show('to_no_pipeline')}"


def verdict(network: str, rows: list[dict[str, object]]) -> dict[str, object] | None:
    """How the fastest of ours stands to the network's target on a GPU."""
    if network not in TARGETS:
        return None
    ratios = {str(row["name"]): row["to_usual"]["ratio"] for row in rows if str(row["name"]).startswith("ours")}
    name = max(ratios, key=ratios.__getitem__)
    bound = TARGETS[network]
    return {"times_usual": bound, "name": name, "value": ratios[name], "met": ratios[name] >= bound}


def main(argv: list[str]) -> None:
    parser = timed_parser(__doc__, rounds=12)
    parser.add_argument("--device", choices=tuple(WORKERS), default="cpu")
    parser.add_argument("--network", choices=tuple(NETWORKS), default="resnet-20")
    parser.add_argument("--noise", action="store_true", help="instead of CIFAR-10, in the same shape")
    parser.add_argument("--steps", type=int, default=10, help="timed steps per turn")
    parser.add_argument("--untimed", type=int, default=2, help="steps before them")
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), help="of ours (default: all that the device has)")
    args = parser.parse_args(argv)
    device = checked_device(args.device)
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32; convolutions have it anyhow, and ours are in bfloat16
    about = begin(__file__, argv, args, args.device)
    modes = args.modes or [mode for mode in MODES if ONLY_ON.get(mode, args.device) == args.device]
    for mode in modes:
        if ONLY_ON.get(mode, args.device) != args.device:
            parser.error(f"--modes: got {mode!r} on {args.device}, which needs --device {ONLY_ON[mode]}")
    images = images_of(args.noise)
    data = whole_batches(images)
    # The usual recipe's turn is an epoch.
    most = len(data.y_train) // BATCH - args.untimed - WORKERS[args.device] * AHEAD
    if not 1 <= args.steps <= most:
        parser.error(f"--steps: got {args.steps}, accepted: from 1 to {most}, what an epoch has after the untimed ones")
    everyone: dict[str, Steps] = contestants(args.network, data, modes, device)
    for steps in everyone.values():  # compiles
        steps(2, 1)
    names = list(everyone)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    record: dict[str, object] = {
        "format": FORMAT,
        "environment": about,
        "data": "noise" if args.noise else "cifar10",
        "data_sha256": images.sha256,
        "network": NETWORKS[args.network],
        "batch": BATCH,
        "steps_per_turn": args.steps,
    }
    found_before = about.pop("noise")
    with Watch() as watch:
        for number in range(args.rounds):
            for index in order(len(names), number):
                seconds[names[index]].append(everyone[names[index]](args.untimed, args.steps))
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
            rows = summary(seconds, args.steps)
            record |= {"rounds": number + 1, "complete": number + 1 == args.rounds, "rows": rows}
            record |= {"noise": [*found_before, *noise(None, spread(seconds["usual"]))]}
            keep(args.json, record)  # what is cut off is kept
    # The usual recipe's own workers count as this process's only once they have ended, which they have by now.
    record["noise"] = doubts = [*found_before, *noise(watch.others, spread(seconds["usual"]))]
    print(f"{'':22} images/s  × usual                    × no pipeline")
    for row in rows:
        print(line(row))
    target = verdict(args.network, rows) if args.device == "cuda" else None
    if target:
        record["target"] = target
        word = "met" if target["met"] else "missed"
        print(f"target: ≥ {target['times_usual']:g} × usual: {word} by {target['name']} ({target['value']:.2f})")
    for doubt in doubts:
        print(f"NOISY: {doubt}")
    keep(args.json, record)


if __name__ == "__main__":
    main(sys.argv[1:])
