"""Sampling at test time: the noise of training as an estimate of what the model does not know.

The predictive distribution is the mean over masks, as in Monte-Carlo dropout (Gal and Ghahramani, arXiv:1506.02142);
the split of its entropy is that of Houlsby et al., arXiv:1112.5745::

    H[mean_s p_s]  =  mean_s H[p_s]  +  mutual information
    total             of the data      of the model
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dropact.diagnostics._passes import evaluating, inner, require_method_layers


class Prediction(NamedTuple):
    """Class probabilities ``(..., K)``, and in nats the entropy and the mutual information ``(...)``."""

    mean: Tensor
    entropy: Tensor
    mutual_information: Tensor


def predict_samples(model: nn.Module, x: Any, n: int) -> Prediction:
    """Predict by ``n`` forward passes with fresh masks in dropact's activations and evaluation mode elsewhere.

    >>> import dropact
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 32), dropact.DropActivation(0.2), nn.Linear(32, 3))
    >>> mean, entropy, information = predict_samples(model, torch.randn(5, 4), n=20)
    >>> mean.shape, bool((information > 0).all()), bool((information < entropy).all())
    (torch.Size([5, 3]), True, True)

    Stochastic depth is in evaluation mode too. No gradient is kept and the model is left as it was. Masks come from
    torch's default generator.

    Args:
        model: returns logits ``(..., K)``.
        x: its one argument.
        n: forward passes, at least 2.

    Raises:
        ValueError: ``n`` below 2, or a model without activations of dropact, which would predict the same ``n`` times.
        TypeError: the model does not return a floating tensor.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise ValueError(f"n must be a whole number of at least 2, got {n!r}")
    layers = require_method_layers(inner(model), "to draw masks in").values()
    with torch.no_grad(), evaluating(inner(model)):
        for layer in layers:
            layer.training = True
        total, entropies = torch.tensor(-math.inf), torch.tensor(0.0)
        for _ in range(n):
            logits = model(x)
            if not isinstance(logits, Tensor) or not logits.is_floating_point():
                raise TypeError(f"the model must return a floating tensor of logits, got {type(logits).__name__}")
            log_p = logits.float().log_softmax(-1)
            total, entropies = torch.logaddexp(total.to(log_p), log_p), entropies.to(log_p) + _entropy(log_p)
    log_mean = total - math.log(n)
    entropy = _entropy(log_mean)
    return Prediction(log_mean.exp(), entropy, (entropy - entropies / n).clamp(min=0))  # rounding may fall below 0


def _entropy(log_p: Tensor) -> Tensor:
    p = log_p.exp()
    return -torch.where(p > 0, p * log_p, 0).sum(-1)
