"""How much the loss depends on each residual branch: what survival rates can be chosen by.

With every branch kept, y_l = y_{l-1} + Psi_l(y_{l-1}) and the loss l of a sample::

    "first"            S_l = E | <Psi_l, grad_{y_l} l> |       the mean over the batch
    "signed"           S_l = - E <Psi_l, grad_{y_l} l>
    "leave-one-out"    S_l = E l without branch l  -  E l

"signed" is the first-order estimate of "leave-one-out"; both may be negative. "first" is our reading of the sensitivity
of Soufiane Hayou, Fadhel Ayed: Regularization in ResNet with Stochastic Depth, arXiv:2106.03091, whose wording is
reconstructed here; it is meant at initialisation. All orders but the last take one backward pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dropact._arguments import check_choice
from dropact.diagnostics._passes import inner, undisturbed
from dropact.methods import ResidualSum
from dropact.surgery import Receipt, add_stochastic_depth_
from dropact.surgery._trial import Inputs, arguments, seed_generators

ORDERS = ("first", "signed", "leave-one-out")


def sensitivities(
    model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], batch: tuple[Inputs, Any], order: str = "first"
) -> Tensor:
    """The sensitivity of the loss to each residual branch, in the order in which they are called.

    >>> import dropact
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(*(dropact.StochasticDepth(nn.Linear(4, 4)) for _ in range(3)))
    >>> batch = torch.randn(16, 4), torch.randn(16, 4)
    >>> values = sensitivities(model, nn.functional.mse_loss, batch)
    >>> values.shape
    torch.Size([3])
    >>> rates = dropact.schedules.sensitivity_survival(values, budget=1.5)
    >>> receipt = dropact.add_stochastic_depth_(model, rates)

    The branches are those that ``dropact.add_stochastic_depth_(model, ..., existing="replace")`` finds, converted
    already or not, and the order is that in which it takes rates. The model runs in the mode it is in, so that
    BatchNorm has the statistics of the batch in training; rates are set aside, and nothing of the model changes.

    Args:
        model: a model with residual branches.
        loss_fn: from the model's output and the targets to the mean loss over the batch.
        batch: what the model is called with (a tensor, a tuple of positional or a mapping of keyword arguments), and
            the targets. The first dimension of all values in between counts the samples.
        order: "first", "signed" or "leave-one-out", which takes a forward pass for each branch.

    Returns:
        A tensor of one float64 per branch, on the CPU, in units of the loss.

    Raises:
        ValueError: an unknown order, no residual branch was found, or a frozen model, whose loss has no gradient.
    """
    check_choice(order, "order", ORDERS)
    inputs, targets = batch
    args, kwargs = arguments(inputs)
    model = inner(model)
    with _branches(model, inputs) as layers, undisturbed(model):
        seed = int(torch.randint(2**62, ()))

        def loss() -> Tensor:
            seed_generators(model, seed)
            return loss_fn(model(*args, **kwargs), targets)

        if order == "leave-one-out":
            with _watched(layers, leave=None):
                whole = float(loss())
            changes = []
            for layer in layers:
                with _watched(layers, leave=layer):
                    changes.append(float(loss()) - whole)
            return torch.tensor(changes, dtype=torch.float64)
        with torch.enable_grad(), _watched(layers, leave=None) as seen:
            value = loss()
        if not value.requires_grad:
            raise ValueError(f"the loss has no gradient, which order {order!r} takes: is the model frozen?")
        pairs = [seen[id(layer)] for layer in layers]
        gradients = torch.autograd.grad(value, [y for _, y in pairs], allow_unused=True)
        products = [
            branch.new_zeros(1, dtype=torch.float64)
            if g is None
            else (branch.detach().double() * g.double()).flatten(1).sum(1)
            for (branch, _), g in zip(pairs, gradients, strict=True)
        ]
        return torch.stack([p.abs().sum() if order == "first" else -p.sum() for p in products]).double().cpu()


@contextmanager
def _branches(model: nn.Module, inputs: Inputs) -> Iterator[list[ResidualSum]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of branches that cannot be dropped
        receipt: Receipt = add_stochastic_depth_(model, 1.0, inputs=inputs, existing="replace")
    try:
        layers = []
        for change in receipt:
            assert isinstance(change.after, ResidualSum)
            if isinstance(change.before, ResidualSum):
                change.after._how = change.before._how
            layers.append(change.after)
        yield layers
    finally:
        receipt.undo()


@contextmanager
def _watched(layers: list[ResidualSum], leave: ResidualSum | None) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """Every branch computed and added, that of ``leave`` aside; the branch's value and the sum by the layer's id."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def add(layer: ResidualSum, shortcut: Tensor, branch: Callable[..., Tensor], args: Any, kwargs: Any) -> Tensor:
        if layer is leave:
            return shortcut.clone()
        value = branch(*args, **(kwargs or {})) * layer._how.residual_scale
        total = shortcut + value
        seen[id(layer)] = value, total
        return total

    for layer in layers:
        vars(layer)["forward"] = lambda s, b, a, k=None, owners=(), layer=layer: add(layer, s, b, a, k)
    try:
        yield seen
    finally:
        for layer in layers:
            del vars(layer)["forward"]
