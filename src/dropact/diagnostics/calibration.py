"""Expected calibration error: how far confidence and accuracy lie apart.

Chuan Guo, Geoff Pleiss, Yu Sun, Kilian Q. Weinberger: On Calibration of Modern Neural Networks, arXiv:1706.04599::

    ECE = sum_b |B_b| / N  | accuracy(B_b) - confidence(B_b) |,    B_b: samples whose largest probability lies in bin b
"""

from __future__ import annotations

import torch
from torch import Tensor


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over ``bins`` bins of equal width, weighted by their samples.

    >>> confident = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
    >>> round(calibration_error(confident, torch.tensor([0, 0, 1, 1])), 4)    # 90 % sure, 75 % right
    0.15

    Args:
        probabilities: ``(N, K)``, rows that sum to 1, such as the mean of :func:`predict_samples`.
        labels: ``(N,)`` of integers in [0, K).
        bins: their number; a confidence on an edge belongs to the bin below.

    Returns:
        A float in [0, 1].

    Raises:
        ValueError: shapes that do not fit, no samples, rows that are no probabilities (logits, perhaps), labels of no
            class, or no bins.
    """
    if probabilities.dim() != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        shapes = f"{tuple(probabilities.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"probabilities and labels must be of shape (N, K) and (N,), N at least 1, got {shapes}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    p = probabilities.double()
    if not ((p >= 0).all() and ((p.sum(1) - 1).abs() <= 1e-2).all()):  # nor NaN
        worst = p.sum(1)[(p.sum(1) - 1).abs().argmax()].item()
        raise ValueError(f"rows must be probabilities: least entry {p.min().item():.3g}, a row sums to {worst:.3g}")
    if not ((labels >= 0) & (labels < p.shape[1])).all():
        raise ValueError(f"labels must lie in [0, {p.shape[1]}), got {int(labels.min())} to {int(labels.max())}")
    confidence, predicted = p.max(1)
    place = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1].to(p.device))
    gap = (predicted == labels).double() - confidence
    return float(torch.zeros(bins, dtype=torch.float64, device=p.device).index_add(0, place, gap).abs().sum() / len(p))
