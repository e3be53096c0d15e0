"""How flat the loss is around the weights: along random directions, and by the largest eigenvalue of its Hessian.

The GAAF paper speaks of flat regions and gives no protocol; these two are ours. Both are taken in evaluation mode,
where GAAF is the plain activation: in training its gradient is that of no function, and has no Hessian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dropact.diagnostics._passes import evaluating, inner

Loss = Callable[[nn.Module], Tensor]


def random_direction(model: nn.Module, generator: torch.Generator | None = None) -> list[Tensor]:
    """A direction of the weights with each filter as long as the model's own, one tensor for each parameter.

    Normal, and scaled over each row (dimension 0) of a weight of two dimensions or more to the norm of that row of the
    weight; 0 for biases and the parameters of normalisations.

    Source: filter-wise normalisation of H. Li et al., arXiv:1712.09913, section 4.
    """
    direction = []
    for weight in model.parameters():
        if weight.dim() < 2:
            direction.append(torch.zeros_like(weight))
            continue
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
        length = weight.detach().flatten(1).norm(dim=1) / drawn.flatten(1).norm(dim=1).clamp(min=1e-30)
        direction.append(drawn * length.view(-1, *[1] * (weight.dim() - 1)))
    return direction


def loss_along_directions(
    model: nn.Module, loss: Loss, radii: Sequence[float], directions: int = 10, seed: int = 0
) -> Tensor:
    """The loss at ``weights + radius * direction``, for random filter-normalised directions.

    >>> model = nn.Linear(3, 1)
    >>> x = torch.randn(8, 3)
    >>> losses = loss_along_directions(model, lambda model: model(x).square().mean(), [0.0, 0.1, 0.5], directions=4)
    >>> losses.shape
    torch.Size([4, 3])

    A flat minimum is one where the rows rise slowly. A radius of 1 moves every filter by its own length.

    Args:
        model: any module; it is left as it was.
        loss: from the model, which is in evaluation mode, to a scalar, such as its mean loss on some data.
        radii: distances, in units of each filter's norm.
        directions: how many.
        seed: of the directions.

    Returns:
        Losses ``(directions, len(radii))``, float64.

    Raises:
        ValueError: fewer than one direction, no radii, or a loss that is not a scalar.
    """
    if directions < 1 or not len(radii):
        raise ValueError(f"directions and radii must be at least one, got {directions!r} and {list(radii)!r}")
    generator = torch.Generator().manual_seed(seed)
    target = inner(model)
    weights = list(target.parameters())
    held = [weight.detach().clone() for weight in weights]
    found = torch.empty(directions, len(radii), dtype=torch.float64)
    with torch.no_grad(), evaluating(target):
        for row in found:
            direction = random_direction(target, generator)
            try:
                for place, radius in enumerate(radii):
                    for weight, start, step in zip(weights, held, direction, strict=True):
                        weight.copy_(start + radius * step)
                    row[place] = _scalar(loss(model))
            finally:  # the next direction is scaled to these
                for weight, start in zip(weights, held, strict=True):
                    weight.copy_(start)
    return found


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue found; a true eigenvalue lies within ``residual`` of it; after ``steps`` steps."""

    eigenvalue: float
    residual: float
    steps: int


def sharpness(model: nn.Module, loss: Loss, steps: int = 50, tolerance: float = 1e-3, seed: int = 0) -> Sharpness:
    """The largest eigenvalue of the loss's Hessian by the weights, by the method of Lanczos.

    >>> model = nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> found = sharpness(model, lambda model: model(x).square().sum() / 2)  # Hessian: x^T x = diag(9, 1)
    >>> round(found.eigenvalue, 6)
    9.0

    Each step costs one product of Hessian and vector, which is two backward passes. All vectors are kept, one float64
    for each weight and step, and held orthogonal. It stops when the residual is at most ``tolerance`` times the
    eigenvalue.

    Args:
        model: any module with trainable parameters; it is left as it was.
        loss: from the model, which is in evaluation mode, to a scalar, such as its mean loss on some data. Called once.
        steps: at most so many.
        tolerance: relative to the eigenvalue.
        seed: of the first vector.

    Raises:
        ValueError: fewer than one step, a loss that is not a finite scalar, or no trainable parameter.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps!r}")
    target = inner(model)
    weights = [weight for weight in target.parameters() if weight.requires_grad]
    if not weights:
        raise ValueError("the model has no trainable parameter")
    with torch.enable_grad(), evaluating(target):
        value = _scalar(loss(model))
        if not value.isfinite():
            raise ValueError(f"loss must be finite at the model's weights, got {value.item()}")
        slopes = torch.autograd.grad(value, weights, create_graph=True, allow_unused=True, materialize_grads=True)
        return _lanczos(_hessian_times(slopes, weights), weights, steps, tolerance, seed)


def _hessian_times(slopes: Sequence[Tensor], weights: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    sizes = [weight.numel() for weight in weights]

    def product(vector: Tensor) -> Tensor:
        parts = [part.view_as(w).to(w.dtype) for part, w in zip(vector.split(sizes), weights, strict=True)]
        inner_product = torch.stack([(slope * part).sum() for slope, part in zip(slopes, parts, strict=True)]).sum()
        if not inner_product.requires_grad:  # a loss linear in the weights
            return torch.zeros_like(vector)
        found = torch.autograd.grad(
            inner_product, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten().double() for part in found])

    return product


def _lanczos(
    product: Callable[[Tensor], Tensor], weights: Sequence[Tensor], steps: int, tolerance: float, seed: int
) -> Sharpness:
    count = sum(weight.numel() for weight in weights)
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(count, generator=generator, dtype=torch.float64).to(weights[0].device)
    vector /= vector.norm()
    basis = vector.new_empty(min(steps, count), count)
    small = vector.new_zeros(len(basis), len(basis))  # the Hessian in the basis: a diagonal and the numbers beside it
    for last in range(len(basis)):
        basis[last] = vector
        image = product(vector)
        small[last, last] = vector @ image
        so_far = basis[: last + 1]
        for _ in range(2):  # once leaves what rounding has put back
            image = image - so_far.T @ (so_far @ image)
        rest = image.norm()
        values, vectors = torch.linalg.eigh(small[: last + 1, : last + 1])
        found = Sharpness(float(values[-1]), float(rest * vectors[-1, -1].abs()), last + 1)
        exhausted = float(rest) <= 1e-12 * float(values.abs().max())  # they span all that the first vector reaches
        if exhausted or last + 1 == len(basis) or found.residual <= tolerance * abs(found.eigenvalue):
            break
        small[last, last + 1] = small[last + 1, last] = rest
        vector = image / rest
    return found


def _scalar(value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.dim() != 0:
        came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"loss must return a scalar tensor, got {came}")
    return value
