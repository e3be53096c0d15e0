import pytest
import torch
from scipy import stats
from torch import nn

from dropact import DropActivation, RandomizedReLU
from dropact.diagnostics import predict_samples


def network():
    return nn.Sequential(
        nn.Linear(4, 32), nn.BatchNorm1d(32), DropActivation(0.3), nn.Dropout(0.5), nn.Linear(32, 3), RandomizedReLU()
    )


def test_equals_the_samples_written_out():
    model, x = network(), torch.randn(5, 4)
    model.eval()
    for layer in (model[2], model[5]):
        layer.train()
    torch.manual_seed(7)
    with torch.no_grad():
        p = torch.stack([model(x).softmax(-1) for _ in range(20)]).double().numpy()
    torch.manual_seed(7)
    mean, entropy, information = predict_samples(model.train(), x, 20)
    total = stats.entropy(p.mean(0), axis=1)
    torch.testing.assert_close(mean.double(), torch.from_numpy(p.mean(0)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(entropy.double(), torch.from_numpy(total), rtol=1e-5, atol=1e-6)
    wanted = torch.from_numpy(total - stats.entropy(p, axis=2).mean(0))
    torch.testing.assert_close(information.double(), wanted, rtol=1e-3, atol=1e-6)


def test_the_model_is_left_as_it_was():
    model = network()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    prediction = predict_samples(model, torch.randn(5, 4), 2)
    assert [m.training for m in model] == [True, False, True, True, True, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not prediction.mean.requires_grad


def test_without_noise_there_is_no_mutual_information():
    model = nn.Sequential(nn.Linear(4, 8), DropActivation(0.0), nn.Linear(8, 3))
    x = torch.randn(50, 4)
    mean, _, information = predict_samples(model, x, 3)
    torch.testing.assert_close(mean, model(x).softmax(-1).detach())
    assert information.min() == 0
    assert information.max() < 1e-6


def test_certain_and_impossible_classes_have_finite_entropy():
    model = nn.Sequential(DropActivation(0.5))
    prediction = predict_samples(model, torch.tensor([[3e38, -3e38], [0.0, float("-inf")]]), 4)
    assert all(part.isfinite().all() for part in prediction)
    assert prediction.entropy[0] == 0


def test_errors_name_the_value_and_what_is_accepted():
    for n in (1, 0, 2.0, True):
        with pytest.raises(ValueError, match="n must be a whole number of at least 2, got"):
            predict_samples(network(), torch.randn(5, 4), n)
    with pytest.raises(ValueError, match="no activation of dropact to draw masks in"):
        predict_samples(nn.Dropout(), torch.randn(5, 4), 2)
    model = network()
    model.register_forward_hook(lambda module, args, y: {"logits": y})
    with pytest.raises(TypeError, match="must return a floating tensor of logits, got dict"):
        predict_samples(model, torch.randn(5, 4), 2)
