"""Where the net inputs of each layer lie, and which share of them is in saturation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dropact._elementwise import resolve
from dropact.diagnostics._passes import activation_layers, evaluating, inner, look_through, only_argument, undisturbed
from dropact.diagnostics.probes import Values
from dropact.methods._activation import underlying

FLAT = 0.1  # of slope: beyond |x| = 1.82 for tanh; everything below 0 for ReLU


def saturated(layer: nn.Module, x: Tensor, below: float = FLAT) -> Tensor:
    """Where the slope of the layer's plain activation at ``x`` is smaller than ``below``, as booleans."""
    plain = underlying(layer)
    # Not by a call of the module, which would run the hooks that brought us here.
    f = plain.forward if isinstance(plain, nn.Module) else resolve(plain)
    with torch.enable_grad():
        at = x.detach().float().requires_grad_()
        (slope,) = torch.autograd.grad(f(at.clone()).sum(), at)
    return slope.abs() < below


@dataclass(frozen=True)
class Saturation:
    """``saturation``: the share of net inputs at which the plain activation's slope is smaller than ``below``.

    A probe of :func:`dropact.diagnostics.record` and :func:`dropact.diagnostics.measure`.

    >>> from dropact.diagnostics import measure
    >>> model = nn.Sequential(nn.Tanh())
    >>> measure(model, torch.tensor([-3.0, -1.0, 0.0, 3.0]), probes=[Saturation()])[0].values
    {'saturation': 0.5}

    Args:
        below: in (0, 1]; 0.1 is beyond |x| = 1.82 for tanh, and all that is below 0 for ReLU.
    """

    below: float = FLAT
    both_modes = False

    def __post_init__(self) -> None:
        if not 0 < self.below <= 1:
            raise ValueError(f"below must lie in (0, 1], got {self.below!r}")

    def sites(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return activation_layers(model)

    def observe(self, module: nn.Module, x: Tensor | None, y: Tensor) -> Tensor:
        assert x is not None
        return saturated(module, x, self.below).float().mean()

    def combine(self, train: Tensor, evaluation: None) -> Values:
        return {"saturation": train}


@dataclass(frozen=True)
class Histogram:
    """How many net inputs of a layer lie in each bin.

    Attributes:
        edges: of the bins ``(B + 1,)``, ascending; a bin holds its lower edge, the last one its upper edge too.
        counts: ``(B,)``, int64.
        outside: how many lie in no bin.
        saturation: share of all net inputs at which the plain activation's slope is smaller than 0.1.
    """

    edges: Tensor
    counts: Tensor
    outside: int
    saturation: float

    @property
    def density(self) -> Tensor:
        """Share of all net inputs in each bin, per unit of the net input."""
        total = int(self.counts.sum()) + self.outside
        return self.counts.double() / total / self.edges.diff().double()


def net_input_histograms(
    model: nn.Module, batches: Iterable[Any], low: float = -6.0, high: float = 6.0, bins: int = 48
) -> dict[str, Histogram]:
    """A histogram of the inputs of every activation layer in evaluation mode, over all batches.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.Tanh())
    >>> with torch.no_grad():
    ...     _ = model[0].weight.copy_(torch.tensor([[1.0], [-1.0]])), model[0].bias.zero_()
    >>> histogram = net_input_histograms(model, [torch.tensor([[0.5], [2.5]])], -3, 3, 6)["1"]
    >>> histogram.counts.tolist(), histogram.saturation
    ([1, 0, 1, 1, 0, 1], 0.5)

    The model is left as it was.

    Args:
        model: any module.
        batches: what the model takes, one argument each (of a tuple or list, the first).
        low, high: range of the bins, in units of the net input.
        bins: how many, of equal width, at least 1.

    Raises:
        ValueError: an empty range, no bins, no batches, or no activation layer.
    """
    if not low < high or bins < 1:
        raise ValueError(f"bins must be at least 1 between low < high, got {bins!r} from {low!r} to {high!r}")
    target = inner(model)
    sites = activation_layers(target)
    if not sites:
        raise ValueError("the model has no activation layer")
    counts = {name: torch.zeros(bins, dtype=torch.int64) for name in sites}
    seen, flat = dict.fromkeys(sites, 0), dict.fromkeys(sites, 0)

    def look(name: str, call: int, x: Tensor | None, y: Tensor) -> None:
        assert x is not None
        counts[name] += torch.histc(x.detach().float(), bins, low, high).long().cpu()
        seen[name] += x.numel()
        flat[name] += int(saturated(sites[name], x).sum())

    with undisturbed(target), evaluating(target):
        for batch in batches:
            look_through(target, (only_argument(batch),), {}, sites, look)
    if not any(seen.values()):
        raise ValueError("batches must hold at least one batch that reaches an activation layer, got none")
    edges = torch.linspace(low, high, bins + 1)
    return {
        name: Histogram(edges, counts[name], seen[name] - int(counts[name].sum()), flat[name] / seen[name])
        for name in sites
        if seen[name]
    }
