"""How gradients grow towards the input of a residual network with stochastic depth, at initialisation.

Soufiane Hayou, Fadhel Ayed: Regularization in ResNet with Stochastic Depth, arXiv:2106.03091, reconstructed from the
description of their result (its wording is not at hand) and simulated here. Weights as He et al. draw them, ReLU,
infinite width; q_l is the mean square of the gradient with respect to the output of branch l::

    vanilla    y_l = y_{l-1} + b_l f_l(y_{l-1})               q_l = q_L prod_{k > l} (1 + p_k)
    stable     y_l = y_{l-1} + b_l f_l(y_{l-1}) / sqrt(L)     q_l = q_L prod_{k > l} (1 + p_k / L)  <=  e q_L

The mean over the draws is that of a heavy tail. Given the draws the law is much tighter: in a vanilla network each
active branch doubles q, so that log2(q_0 / q_L) is the active depth; in a stable one it is N log2(1 + 1 / L).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dropact._arguments import check_choice
from dropact.theory._active_depth import survival_rates

SCALINGS = ("vanilla", "stable")


def gradient_growth(survival: Sequence[float], scaling: str = "vanilla") -> Tensor:
    """q_l / q_L for l = 0, ..., L: the mean over draws and weights.

    >>> gradient_growth([1.0, 1.0, 1.0])
    tensor([8., 4., 2., 1.], dtype=torch.float64)
    >>> round(float(gradient_growth([1.0] * 1000, "stable")[0]), 4)  # below e
    2.7169

    Args:
        survival: the survival rate of each branch, in [0, 1]; with rates of 0 and 1 alone, the law given the draws.
        scaling: "vanilla" or "stable".

    Returns:
        A float64 tensor ``(L + 1,)``.

    Raises:
        TypeError, ValueError: no numbers, out of range, none at all, or an unknown scaling.
    """
    check_choice(scaling, "scaling", SCALINGS)
    rates = survival_rates(survival)
    steps = torch.tensor(rates, dtype=torch.float64) / (len(rates) if scaling == "stable" else 1)
    growth = (1 + steps).flip(0).cumprod(0).flip(0)
    return torch.cat([growth, torch.ones(1, dtype=torch.float64)])
