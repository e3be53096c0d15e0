"""What is timed: one activation on one tensor, and a training step of a network; and the memory that they take."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropact.bench.record import Kept
from dropact.bench.timing import Call, Mark, ignore
from dropact.experiments.models import build_network

OPERATION_PARTS = {"forward": (0, 1), "backward": (1, 2), "both": (0, 2)}
STEP_PARTS = {"step": (0, 1)}  # bfloat16 autocast, channels_last, SGD with momentum, data in memory
Operation = Callable[[Tensor], Tensor]


def operation_call(operation: Operation, x: Tensor, grad: Tensor) -> Call:
    """Forward as in training, then backward with a given gradient: three marks."""

    def call(mark: Mark) -> None:
        mark()
        y = operation(x)
        mark()
        # Handed over as to the layer behind, not added up in x.grad; it and y are freed after the last mark.
        to_x = torch.autograd.grad(y, x, grad)
        mark()
        del to_x

    return call


def converted_network(network: str, convert: Callable[[nn.Module], object], device: str, side: int) -> nn.Module:
    """With the same first weights whatever stands in it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_network(network, image_size=side)
    convert(built)
    return built.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def step_call(network: nn.Module, images: Tensor, labels: Tensor, compiled: bool) -> Call:
    """Gradients dropped, forward, loss, backward, update: two marks."""
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


def kept_for_backward(operation: Operation, x: Tensor) -> Kept:
    """Counts the memory that autograd holds on to after ``operation(x)``, each storage once and whole.

    >>> x = torch.randn(1000, requires_grad=True)
    >>> kept_for_backward(F.relu, x)
    Kept(input=0.0, output=4.0, more=0.0)
    >>> kept_for_backward(F.gelu, x)
    Kept(input=4.0, output=0.0, more=0.0)

    Args:
        operation: an operation on one tensor.
        x: its input, which requires a gradient.
    """
    saved: list[Tensor] = []  # held until counted, so that no storage takes the place of another

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = operation(x)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    own = x.untyped_storage().data_ptr(), y.untyped_storage().data_ptr()
    of_input, of_output = (storages.pop(pointer, 0) for pointer in own)
    elements = max(x.numel(), 1)
    return Kept(of_input / elements, of_output / elements, sum(storages.values()) / elements)


def peak_bytes(call: Call, before: int) -> int:
    """The most that a call takes on a GPU, beyond the `before` that were taken when it was made."""
    torch.cuda.reset_peak_memory_stats()
    call(ignore)
    return int(torch.cuda.max_memory_allocated()) - before
