"""What conversion takes, and what a converted call of a function costs in a training step.

    python benchmarks/conversion.py --json results/bench/cpu-conversion.json

One thread, float32, ratios of interleaved rounds. A first conversion reads sources, later ones know them. The step is
forward and backward of a ResNet-20, batch 32, whose blocks call activation modules or functions. "Under a mode" is the
way not taken: the blocks' ``forward`` runs inside a ``TorchFunctionMode``, which sees every call of a function, here to
pass it on.
"""

import sys
import time
from functools import partial
from itertools import pairwise

import torch
from common import begin, keep, timed, timed_parser
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torchvision.models import inception_v3, resnet50

import dropact
from dropact.bench.timing import Call, Effort, Mark

FORMAT = "dropact conversion 1"


class Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.around = nn.Identity() if before == after else nn.Conv2d(before, after, 1, stride)


class Functions(Block):
    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.around(x))


class Modules(Block):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.around(x))


class PassOn(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class UnderMode(Functions):
    def forward(self, x):
        with PassOn():
            return super().forward(x)


def network(block: type[Block], *, converted: bool) -> nn.Module:
    torch.manual_seed(0)
    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [block(before, after) for before, after in pairwise(widths)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    if converted:
        receipt = dropact.convert_(model, dropact.DropActivation(0.05))
        assert len(receipt) == 19
    return model


def step(model: nn.Module) -> Call:
    images, labels = torch.randn(32, 3, 32, 32), torch.arange(32) % 10

    def call(mark: Mark) -> None:
        mark()
        F.cross_entropy(model(images), labels).backward()
        mark()

    return call


def conversion(build, size: int) -> dict[str, Call]:
    model, images = build().eval(), torch.randn(1, 3, size, size)

    def forward(mark: Mark) -> None:
        mark()
        with torch.no_grad():
            model(images)
        mark()

    def convert(inputs, mark: Mark) -> None:
        mark()
        receipt = dropact.convert_(model, dropact.DropActivation(0.05), inputs=inputs)
        mark()
        receipt.undo()

    return {
        "one forward pass, batch 1": forward,
        "convert_": lambda mark: convert(None, mark),
        "convert_ with inputs": lambda mark: convert(images, mark),
    }


def main(argv: list[str]) -> None:
    args = timed_parser(__doc__).parse_args(argv)
    torch.set_num_threads(1)
    about = begin(__file__, argv, args)
    effort = Effort(args.rounds, seconds=120)
    tables, first_seconds = [], {}
    networks = {"resnet50": (resnet50, 224), "inception_v3": (partial(inception_v3, init_weights=False), 299)}
    for name, (build, size) in networks.items():
        model = build()
        built = time.perf_counter()
        dropact.convert_(model, dropact.DropActivation(0.05))
        first_seconds[name] = time.perf_counter() - built
        print(f"{name}: converted for the first time in {first_seconds[name]:.3f} s")
        tables.append(timed(f"conversion of torchvision's {name}", conversion(build, size), effort)[0])
    blocks = {
        "modules": step(network(Modules, converted=True)),
        "functions": step(network(Functions, converted=True)),
        "modules, again": step(network(Modules, converted=True)),
    }
    tables.append(timed("training step, Drop-Activation", blocks, effort)[0])
    blocks = {
        "functions": step(network(Functions, converted=False)),
        "functions under a mode": step(network(UnderMode, converted=False)),
        "modules": step(network(Modules, converted=False)),
    }
    tables.append(timed("training step, ReLU", blocks, effort)[0])
    keep(args.json, {"format": FORMAT, "environment": about, "first_seconds": first_seconds, "tables": tables})


if __name__ == "__main__":
    main(sys.argv[1:])
