import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from dropact.diagnostics import calibration_error


def by_hand(p, labels, bins):
    confidence, correct = p.max(1), p.argmax(1) == labels
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = (confidence > low) & (confidence <= high) if b else confidence <= high
        if inside.any():
            total += inside.sum() * abs(correct[inside].mean() - confidence[inside].mean())
    return total / len(p)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_equals_the_definition(bins):
    p, labels = torch.randn(500, 4, dtype=torch.float64).mul(2).softmax(1), torch.randint(4, (500,))
    assert calibration_error(p, labels, bins) == pytest.approx(by_hand(p.numpy(), labels.numpy(), bins), rel=1e-12)


def test_equals_scikit_learn_s_bins():
    p, labels = torch.randn(500, 2, dtype=torch.float64).mul(2).softmax(1), torch.randint(2, (500,))
    confidence, predicted = (t.numpy() for t in p.max(1))
    correct = predicted == labels.numpy()
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=10)
    counts = np.histogram(confidence, bins=np.linspace(0, 1, 11))[0]
    wanted = (counts[counts > 0] * np.abs(accuracy - mean_confidence)).sum() / 500
    assert calibration_error(p, labels, bins=10) == pytest.approx(wanted, rel=1e-12)


def test_edges_belong_to_the_bin_below():
    p = torch.tensor([[0.75, 0.25], [0.7501, 0.2499]], dtype=torch.float64)
    assert calibration_error(p, torch.tensor([0, 1]), bins=4) == pytest.approx((0.25 + 0.7501) / 2)


def test_certain_and_right_is_0_certain_and_wrong_is_1():
    p = torch.eye(3)
    assert calibration_error(p, torch.arange(3)) == 0
    assert calibration_error(p, (torch.arange(3) + 1) % 3) == 1


def test_a_calibrated_forecast_has_little_error():
    confidence = 0.5 + torch.rand(100_000, dtype=torch.float64) / 2
    p = torch.stack([confidence, 1 - confidence], 1)
    labels = (torch.rand(100_000, dtype=torch.float64) > confidence).long()
    assert calibration_error(p, labels) < 0.01


def test_errors_name_the_value_and_what_is_accepted():
    p, labels = torch.full((4, 2), 0.5), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"got \(4, 2\) and \(3,\)"):
        calibration_error(p, labels[:3])
    with pytest.raises(ValueError, match=r"N at least 1, got \(0, 2\) and \(0,\)"):
        calibration_error(p[:0], labels[:0])
    with pytest.raises(ValueError, match="rows must be probabilities: least entry -1, a row sums to 2"):
        calibration_error(torch.tensor([[3.0, -1.0]]), labels[:1])
    with pytest.raises(ValueError, match="rows must be probabilities: least entry nan, a row sums to nan"):
        calibration_error(torch.full((4, 2), float("nan")), labels)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 2\), got 0 to 7"):
        calibration_error(p, torch.tensor([0, 1, 7, 0]))
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        calibration_error(p, labels, bins=0)
