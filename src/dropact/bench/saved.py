"""What an operation keeps in memory between its forward and its backward pass; the most that a step takes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dropact.bench.timing import Call, ignore


@dataclass(frozen=True)
class Kept:
    """Bytes per element of the input: of the input itself, of the output, and of anything else.

    The output is free where the next layer keeps it anyway, as a convolution does.
    """

    input: float
    output: float
    more: float


def kept_for_backward(operation: Callable[[Tensor], Tensor], x: Tensor) -> Kept:
    """Counts the memory that autograd holds on to after ``operation(x)``, each storage once and whole.

    >>> from torch.nn import functional as F
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


def allocated(device: str) -> int:
    """Bytes that tensors take on a GPU; 0 on a CPU, where nobody counts them."""
    return torch.cuda.memory_allocated() if device == "cuda" else 0


def peak_bytes(call: Call, device: str, before: int) -> int | None:
    """The most that a call takes on a GPU, beyond the `before` that were taken when it was made."""
    if device != "cuda":
        return None
    call(ignore)
    torch.cuda.reset_peak_memory_stats()
    call(ignore)
    return int(torch.cuda.max_memory_allocated()) - before
