"""A whole training step of a network: bfloat16 autocast, channels_last, SGD with momentum, data in memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropact.bench.candidates import CANDIDATES
from dropact.bench.timing import Contestant, Mark
from dropact.experiments.models import build_network

STEP_PARTS = {"step": (0, 1)}


def step_contestants(
    names: Sequence[str], device: str, shape: tuple[int, ...], network: str, *, compiled: bool
) -> dict[str, Contestant]:
    """One step each: gradients dropped, forward, loss, backward, update; same first weights and images for all.

    >>> steps = step_contestants(["relu"], "cpu", (2, 3, 32, 32), network="resnet-20", compiled=False)
    >>> marks = []
    >>> steps["relu"](lambda: marks.append("mark"))
    >>> len(marks)
    2
    """
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(shape, generator=generator, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, shape[:1], generator=generator, device=device)
    return {name: _contestant(_network(name, device, network, shape[-1]), images, labels, compiled) for name in names}


def _network(name: str, device: str, network: str, side: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_network(network, image_size=side)
    convert = CANDIDATES[name].convert
    if convert is None:
        raise ValueError(f"{name} has no training step")
    convert(built)
    return built.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _contestant(network: nn.Module, images: Tensor, labels: Tensor, compiled: bool) -> Contestant:
    # The rate is too small to lead the networks to activations of their own, whose sparsity might have another price.
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)
    model: Any = torch.compile(network, dynamic=False) if compiled else network

    def call(mark: Mark) -> None:
        mark()
        optimiser.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        mark()

    return call
