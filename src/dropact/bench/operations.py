"""One activation on one tensor: forward, backward, and both."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dropact.bench.candidates import CANDIDATES
from dropact.bench.timing import Contestant, Mark

OPERATION_PARTS = {"forward": (0, 1), "backward": (1, 2), "both": (0, 2)}
Operation = Callable[[Tensor], Tensor]


def prepare(names: Sequence[str], *, compiled: bool) -> dict[str, Operation]:
    """The operations by name, as they are or compiled."""
    operations = {name: CANDIDATES[name].operation for name in names}
    if not compiled:
        return operations
    return {name: torch.compile(operation, fullgraph=True, dynamic=False) for name, operation in operations.items()}


def operation_contestants(operations: Mapping[str, Operation], x: Tensor, grad: Tensor) -> dict[str, Contestant]:
    """What is timed of each operation: forward as in training, then backward with a given gradient.

    >>> x, grad = torch.randn(4, requires_grad=True), torch.ones(4)
    >>> contestants = operation_contestants(prepare(["relu"], compiled=False), x, grad)
    >>> marks = []
    >>> contestants["relu"](lambda: marks.append("mark"))
    >>> len(marks), x.grad
    (3, None)
    """
    return {name: _contestant(operation, x, grad) for name, operation in operations.items()}


def _contestant(operation: Operation, x: Tensor, grad: Tensor) -> Contestant:
    def call(mark: Mark) -> None:
        mark()
        y = operation(x)
        mark()
        # Handed over as to the layer behind, not added up in x.grad; it and y are freed after the last mark.
        to_x = torch.autograd.grad(y, x, grad)
        mark()
        del to_x

    return call
