import pytest
import torch
from torch import nn

from dropact import DropActivation
from dropact.diagnostics import VarianceShift, measure, recalibrate_batchnorm_


def network():
    model = nn.Sequential(
        nn.Linear(4, 64), nn.BatchNorm1d(64), DropActivation(0.4), nn.Linear(64, 8), nn.BatchNorm1d(8, momentum=0.3)
    )
    for _ in range(200):
        model(torch.randn(256, 4))
    return model


def test_statistics_are_those_of_the_test_time_network():
    model, batches = network(), [torch.randn(256, 4) for _ in range(7)]
    layers = recalibrate_batchnorm_(model, batches).layers
    with torch.no_grad():
        hidden = [model[0](x) for x in batches]
        inner = [
            model[3](model[2].eval()((h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt() * 1.0)) for h in hidden
        ]
    assert [layer.name for layer in layers] == ["1", "4"]
    for norm, seen in ((model[1], hidden), (model[4], inner)):
        torch.testing.assert_close(
            norm.running_mean, torch.stack([x.mean(0) for x in seen]).mean(0), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            norm.running_var, torch.stack([x.var(0) for x in seen]).mean(0), rtol=1e-4, atol=1e-6
        )


def test_the_variance_behind_batchnorm_is_right_afterwards():
    """Running statistics of noisy activations leave evaluation with too little variance (Property 5.2)."""
    model, x = network(), torch.randn(4096, 4)
    probe = VarianceShift(("4",))
    before = measure(model, x, probes=[probe])[0].values["variance_shift"]
    recalibration = recalibrate_batchnorm_(model, [x])
    after = measure(model, x, probes=[probe])[0].values["variance_shift"]
    assert before < 0.9
    assert after == pytest.approx(1, abs=0.01)
    assert recalibration.layers[1].variance_ratio < 0.9
    assert recalibration.layers[0].variance_ratio == pytest.approx(1, abs=0.1)


def test_everything_else_stays_and_undo_goes_back():
    model = network()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    recalibration = recalibrate_batchnorm_(model, [(torch.randn(64, 4), "labels")])
    assert [m.training for m in model] == [True, False, True, True, True]
    assert (model[1].momentum, model[4].momentum) == (0.1, 0.3)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"{i}.{name}" for i in (1, 4) for name in ("running_mean", "running_var", "num_batches_tracked")}
    recalibration.undo()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_before_and_after_are_evaluated_in_evaluation_mode():
    model, x = network(), torch.randn(64, 4)

    def evaluate(m):
        assert not any(module.training for module in m.modules())
        return m(x).var().item()

    recalibration = recalibrate_batchnorm_(model, [x], evaluate)
    assert recalibration.before < recalibration.after
    assert not torch.equal(recalibration.layers[0].mean_after, recalibration.layers[0].mean_before)


def failing():
    yield torch.randn(8, 4)
    raise RuntimeError("disk")


@pytest.mark.parametrize(("batches", "error"), [([], ValueError), (failing(), RuntimeError)])
def test_a_failure_leaves_the_model_as_it_was(batches, error):
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(error, match=r"at least one batch, got none|disk"):
        recalibrate_batchnorm_(model, batches)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model[4].momentum == 0.3
    assert model.training


class WithAuxiliaryHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.norm, self.auxiliary = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def forward(self, x):
        y = self.norm(self.body(x))
        return y + self.auxiliary(y) if self.training else y


def test_a_norm_that_evaluation_does_not_reach_keeps_its_statistics():
    torch.manual_seed(0)
    model, batches = WithAuxiliaryHead(), [3 + torch.randn(64, 4) for _ in range(5)]
    for batch in batches:
        model(batch)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    recalibration = recalibrate_batchnorm_(model, batches)
    assert [layer.name for layer in recalibration.layers] == ["norm"]
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"norm.running_mean", "norm.running_var"}  # and as many batches as before

    model.forward = lambda x: model.body(x)
    with pytest.raises(ValueError, match="no BatchNorm is reached in evaluation, of these: norm, auxiliary"):
        recalibrate_batchnorm_(model, batches)
    recalibration.undo()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_model_without_batchnorm_is_an_error():
    with pytest.raises(ValueError, match="no BatchNorm with running statistics"):
        recalibrate_batchnorm_(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), [torch.randn(4, 3)])
