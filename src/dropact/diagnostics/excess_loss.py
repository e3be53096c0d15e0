"""Property 5.1 for a real network and batch: what the noise of its layers adds to the mean loss, to second order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from dropact.diagnostics._noise import noise_of
from dropact.diagnostics._passes import evaluating, inner, look_through, require_method_layers, undisturbed
from dropact.theory import UnitNoise, second_order_excess


def estimate_excess_loss(
    model: nn.Module, x: Any, loss: Callable[[Tensor], Tensor], directions: int | None = None
) -> Tensor:
    """Mean training loss over the masks minus test-time loss, for each sample, to second order in each unit's effect.

    >>> import dropact
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 64), dropact.DropActivation(0.05), nn.Linear(64, 3))
    >>> x, labels = torch.randn(8, 4), torch.randint(3, (8,))
    >>> estimate_excess_loss(model, x, lambda y: nn.functional.cross_entropy(y, labels, reduction="none")).shape
    torch.Size([8])

    Only dropact's activations are noise. Everything else is as in evaluation mode, the running statistics of BatchNorm
    and stochastic depth included, whose own excess is :func:`dropact.theory.depth_excess`.
    :func:`dropact.theory.second_order_excess` has the form; docs/theory.md says how good it is.

    Args:
        model: returns outputs ``(N, K)``.
        x: its one argument, a batch of N samples.
        loss: from outputs to the loss of each sample ``(N,)``.
        directions: ``None`` for the exact form, which costs 2K backward passes; else a number of random directions.

    Raises:
        ValueError: a model without activations of dropact, or outputs or losses of another shape.
        TypeError: an activation that is not its mean in evaluation, such as ``StochA``, or of somebody else's method.
    """
    model = inner(model)
    layers = require_method_layers(model, "whose noise it would be")
    noise: list[UnitNoise] = []

    def look(name: str, call: int, given: Tensor | None, y: Tensor) -> None:
        assert given is not None
        noise.append(noise_of(layers[name], given))

    with undisturbed(model), evaluating(model):
        look_through(model, (x,), {}, layers, look)

    def network(offsets: Sequence[Tensor]) -> Tensor:
        remaining = iter(offsets)
        with ExitStack() as hooks:
            for layer in layers.values():
                hooks.enter_context(layer.register_forward_hook(lambda _, args, y: y + next(remaining)))
            return model(x)

    with torch.no_grad(), evaluating(model):
        return second_order_excess(network, noise, loss, directions)
