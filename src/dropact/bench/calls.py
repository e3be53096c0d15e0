"""What is timed: one activation on one tensor, forward, backward and both; and a whole training step of a network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropact.bench.candidates import CANDIDATES
from dropact.bench.timing import Call, Mark
from dropact.experiments.models import build_network

OPERATION_PARTS = {"forward": (0, 1), "backward": (1, 2), "both": (0, 2)}
STEP_PARTS = {"step": (0, 1)}  # bfloat16 autocast, channels_last, SGD with momentum, data in memory
Operation = Callable[[Tensor], Tensor]


def prepare(names: Sequence[str], *, compiled: bool) -> dict[str, Operation]:
    """The operations by name, as they are or compiled."""
    operations = {name: CANDIDATES[name].operation for name in names}
    if not compiled:
        return operations
    return {name: torch.compile(operation, fullgraph=True, dynamic=False) for name, operation in operations.items()}


def operation_calls(operations: Mapping[str, Operation], x: Tensor, grad: Tensor) -> dict[str, Call]:
    """What is timed of each operation: forward as in training, then backward with a given gradient.

    >>> x, grad = torch.randn(4, requires_grad=True), torch.ones(4)
    >>> calls = operation_calls(prepare(["relu"], compiled=False), x, grad)
    >>> marks = []
    >>> calls["relu"](lambda: marks.append("mark"))
    >>> len(marks), x.grad
    (3, None)
    """
    return {name: _operation_call(operation, x, grad) for name, operation in operations.items()}


def _operation_call(operation: Operation, x: Tensor, grad: Tensor) -> Call:
    def call(mark: Mark) -> None:
        mark()
        y = operation(x)
        mark()
        # Handed over as to the layer behind, not added up in x.grad; it and y are freed after the last mark.
        to_x = torch.autograd.grad(y, x, grad)
        mark()
        del to_x

    return call


def step_calls(
    names: Sequence[str], device: str, shape: tuple[int, ...], network: str, *, compiled: bool
) -> dict[str, Call]:
    """One step each: gradients dropped, forward, loss, backward, update; same first weights and images for all.

    >>> steps = step_calls(["relu"], "cpu", (2, 3, 32, 32), network="resnet-20", compiled=False)
    >>> marks = []
    >>> steps["relu"](lambda: marks.append("mark"))
    >>> len(marks)
    2
    """
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(shape, generator=generator, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, shape[:1], generator=generator, device=device)
    return {name: _step_call(_network(name, device, network, shape[-1]), images, labels, compiled) for name in names}


def _network(name: str, device: str, network: str, side: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_network(network, image_size=side)
    convert = CANDIDATES[name].convert
    if convert is None:
        raise ValueError(f"{name} has no training step")
    convert(built)
    return built.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _step_call(network: nn.Module, images: Tensor, labels: Tensor, compiled: bool) -> Call:
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
