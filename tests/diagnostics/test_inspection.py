import math

import pytest
import torch
from torch import nn

from dropact import AID, GAAF, Coverage, DropActivation, RandomizedReLU, StochA, SurrogateGradient
from dropact.diagnostics import LayerReport, estimate_excess_loss, inspect
from dropact.diagnostics.recommendations import recommendations
from dropact.surgery import CallSite
from dropact.theory import UnitNoise, variance_shift, worst_variance_shift


def test_predicted_alone_and_measured_agree_where_the_theory_s_assumptions_hold():
    """Independent N(0, 1) inputs: eq. 15, the layer on its own inputs, and both modes of the model say the same."""
    x = torch.randn(20_000, 16)
    slope = 11 / 48  # RReLU's in evaluation; half of the mass of x ** 2 lies below 0
    test = (1 + slope**2) / 2 - (1 - slope) ** 2 / (2 * math.pi)
    for layer, ratio in (
        (DropActivation(0.05), variance_shift("relu", 0.05)),
        (DropActivation(0.3, "gelu"), variance_shift("gelu", 0.3)),
        (DropActivation(0.2, nn.PReLU()), variance_shift(nn.PReLU().double(), 0.2)),
        (RandomizedReLU(), test / (test + (1 / 3 - 1 / 8) ** 2 / 12 / 2)),
    ):
        found = inspect(nn.Sequential(layer), x).layers[0]
        assert found.predicted == pytest.approx(ratio, rel=1e-12)
        # 320,000 values; each of the two standard errors of a ratio is below 0.002.
        assert found.alone == pytest.approx(found.predicted, abs=0.01)
        assert found.measured == pytest.approx(found.predicted, abs=0.01)
        assert found.predicted < 1


def test_of_aid_alone_is_measured_and_of_stocha_what_is_not_known_is_left_out():
    x = torch.randn(20_000, 16)
    (aid,) = inspect(nn.Sequential(AID(0.2)), x).layers
    assert aid.predicted == pytest.approx(aid.measured, abs=0.01)
    assert aid.alone == pytest.approx(aid.measured, abs=0.01)
    assert aid.measured < 0.8  # a fifth of the mass of x ** 2 is noise, and more
    (stocha,) = inspect(nn.Sequential(StochA()), x).layers
    assert math.isnan(stocha.alone)
    assert math.isnan(stocha.predicted)
    assert math.isfinite(stocha.measured)


class HalvedAtRandom(nn.Module):
    """Somebody's own method: the output is x / 2 or x, at odds of one to one."""

    activation = "relu"

    def forward(self, x):
        return x * (torch.randint_like(x, 1, 3) / 2 if self.training else 0.75)

    def replacement_for(self, activation):
        return None

    def folded(self):
        return nn.Identity()


class WithNoise(HalvedAtRandom):
    def noise(self, x):
        return UnitNoise(x / 2, 1 / 4)


def test_a_method_of_somebody_else_is_known_by_what_it_says_of_its_noise():
    x = torch.randn(20_000, 16)
    (told,) = inspect(nn.Sequential(WithNoise()), x).layers
    assert told.predicted == pytest.approx(0.9, rel=1e-12)  # (3/4)**2 / ((3/4)**2 + 1/16)
    assert told.alone == pytest.approx(told.predicted, abs=0.01)
    assert told.measured == pytest.approx(told.predicted, abs=0.01)
    (untold,) = inspect(nn.Sequential(HalvedAtRandom()), x).layers
    assert math.isnan(untold.predicted)
    assert math.isnan(untold.alone)
    with pytest.raises(TypeError, match="the noise of a HalvedAtRandom is not known"):
        estimate_excess_loss(nn.Sequential(HalvedAtRandom()), x, lambda y: y.sum(1))


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_the_worst_drop_prob_is_where_theory_has_it(activation):
    worst = worst_variance_shift(activation).drop_prob
    for drop_prob, past in ((worst - 0.01, False), (worst + 0.01, True), (0.0, False), (1.0, True)):
        found = inspect(nn.Sequential(DropActivation(drop_prob, activation)), torch.randn(64, 4))
        assert any("beyond the worst variance shift in 0" in advice for advice in found.recommendations) == past


def test_alone_is_the_law_of_the_layer_on_the_batch_itself():
    x = torch.randn(4, 3, dtype=torch.float64)
    test = DropActivation(0.3).eval()(x).var(0, correction=0).mean()
    wanted = test / (test + 0.3 * 0.7 * x.clamp(max=0).square().mean())
    assert inspect(nn.Sequential(DropActivation(0.3)), x).layers[0].alone == pytest.approx(wanted.item(), rel=1e-6)


class Functional(nn.Sequential):
    def forward(self, x):
        return torch.relu(super().forward(x))


def test_what_is_left_unconverted_is_named_and_the_inside_of_a_layer_is_not():
    model = Functional(nn.Linear(4, 4), DropActivation(0.1, nn.PReLU()), nn.Sequential(nn.GELU(), nn.Tanh()))
    found = inspect(model, torch.randn(16, 4))
    assert str(found.coverage).startswith("1 of 4 call sites converted")
    assert "3 activations are as they were (2.0, 2.1, relu_call1)" in found.recommendations[0]


def test_what_cannot_be_reached_is_named_with_the_reason():
    sites = [CallSite(f"relu_call{i}", "torch.relu()", "", 1, "missed", "its source is not at hand") for i in range(4)]
    (advice,) = recommendations([report()], Coverage(tuple(sites)), [])
    assert advice.startswith("Out of convert_'s reach, to be changed by hand: relu_call0: its source is not at hand, ")
    assert advice.endswith("relu_call2: its source is not at hand and 1 more.")


def test_recalibration_is_tried_on_a_copy():
    model = nn.Sequential(
        nn.Linear(4, 64), DropActivation(0.4), nn.Linear(64, 64), nn.BatchNorm1d(64), DropActivation(0.1)
    )
    x = torch.randn(512, 4)
    for _ in range(60):
        model(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = inspect(model, x, iter([x]), lambda m: float(m(x).var()))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert found.before < found.after
    assert abs(found.layers[1].recalibrated - found.layers[1].alone) < abs(
        found.layers[1].measured - found.layers[1].alone
    )
    assert found.layers[0].recalibrated == pytest.approx(found.layers[0].measured, abs=0.05)
    assert f"error {found.before:.4g} before, error {found.after:.4g} after, in" in found.recommendations[-1]
    assert inspect(model, x).layers[1].recalibrated is None


def test_an_activation_without_a_number_is_shown_without_one():
    layer = DropActivation(0.1, torch.log)
    found = inspect(nn.Sequential(layer), torch.rand(64, 4) + 1).layers[0]
    assert math.isnan(found.predicted)
    assert 0 < found.alone <= 1


def test_a_model_without_layers_is_an_error():
    with pytest.raises(ValueError, match="no activation of dropact to inspect"):
        inspect(nn.ReLU(), torch.randn(3))


def report(name="a", measured=1.0, recalibrated=None, dead=0.0, negative=0.5):
    return LayerReport(name, "", 1.0, 1.0, measured, recalibrated, {"dead_units": dead, "negative_share": negative})


@pytest.mark.parametrize(
    ("reports", "words"),
    [
        ([report()], "Nothing to change."),
        ([report(dead=0.2), report("b")], "More than 10% of the channels never rise above 0 on this batch in a:"),
        ([report(negative=0.01)], "Under 5% of the inputs lie below 0 in a:"),
        ([report(measured=0.8)], "The variance shifts by more than 10% in a: a smaller drop_prob"),
        ([report(measured=0.8, recalibrated=0.97)], "the widest shift, in a, goes from 0.800 to 0.970."),
        ([report(str(i), measured=1.2) for i in range(7)], "in 0, 1, 2, 3, 4 and 2 more: a smaller drop_prob"),
    ],
)
def test_recommendations(reports, words):
    (advice,) = recommendations(reports, Coverage(()), [])
    assert words in advice


def test_recommendations_on_drop_prob_and_error():
    advice = recommendations([report()], Coverage(()), ["a"], said=("test error 3 %", "test error 2.5 %"))
    assert "beyond the worst variance shift in a" in advice[0]
    assert "here: test error 3 % before, test error 2.5 % after, in this one training" in advice[1]
    model = nn.Sequential(DropActivation(0.5))
    assert "beyond the worst variance shift in 0" in inspect(model, torch.randn(64, 4)).recommendations[0]


@pytest.mark.parametrize("layer", [GAAF(), SurrogateGradient()])
def test_layers_that_change_the_gradient_alone_shift_nothing(layer):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 3))
    x = torch.randn(64, 4)
    (report,) = inspect(model, x).layers
    assert (report.predicted, report.alone, report.measured) == (1.0, 1.0, 1.0)
    assert not estimate_excess_loss(model, x, lambda y: y.square().sum(1)).any()
