"""Rates over training: the shapes' values, the stepping, saving and restoring, no recompilation, named errors."""

import copy
import functools
import io
import math

import pytest
import torch
from torch import nn

import dropact
from dropact import DropActivation, RandomizedReLU, schedules
from dropact.schedules.training import SHAPES

# Each shape at 0, 1/4, 1/2, 3/4, 1, worked out by hand.
VALUES = {
    "constant": [1, 1, 1, 1, 1],
    "linear": [0, 0.25, 0.5, 0.75, 1],
    "cosine": [0, (1 - math.sqrt(0.5)) / 2, 0.5, (1 + math.sqrt(0.5)) / 2, 1],
    "warm_up": [0, 1, 1, 1, 1],
    "early": [1, 1, 0, 0, 0],
    "late": [0, 0, 1, 1, 1],
}


def build(*rates):
    layers = [layer for rate in rates for layer in (nn.Linear(4, 4), DropActivation(rate))]
    return nn.Sequential(*layers, nn.Linear(4, 2))


def rates(model):
    return [module.drop_prob for module in model.modules() if isinstance(module, DropActivation)]


def test_every_shape_has_its_values():
    assert set(VALUES) == set(SHAPES)


@pytest.mark.parametrize("name", VALUES)
def test_rates_follow_the_shape_between_start_and_each_layers_peak(name):
    model = build(0.4, 0.1)
    schedule = schedules.anneal(model, name, steps=4, start=0.02)
    for value in [*VALUES[name], VALUES[name][-1]]:  # one step past the end
        expected = [0.02 + (peak - 0.02) * value for peak in (0.4, 0.1)]
        assert rates(model) == pytest.approx(expected, abs=1e-12)
        schedule.step()
    assert schedule.progress == 1


def test_options_move_the_shape():
    model = build(0.4)
    for name, options, seen in (
        ("warm_up", {"fraction": 0.5}, [0, 0.2, 0.4, 0.4, 0.4]),
        ("early", {"until": 0.3}, [0.4, 0.4, 0, 0, 0]),
        ("late", {"since": 0.6}, [0, 0, 0, 0.4, 0.4]),
        (lambda progress: progress**2, {}, [0, 0.025, 0.1, 0.225, 0.4]),
    ):
        schedule = schedules.anneal(model, name, steps=4, peak=0.4, **options)
        for expected in seen:
            assert rates(model) == pytest.approx([expected], abs=1e-12)
            schedule.step()


def test_both_ends_are_exact():
    model = build(0.1, 0.3)
    schedule = schedules.anneal(model, "cosine", steps=3, start=0.7)
    assert rates(model) == [0.7, 0.7]
    for _ in range(3):
        schedule.step()
    assert rates(model) == [0.1, 0.3]


@pytest.mark.parametrize("name", VALUES)
def test_a_restored_schedule_goes_on_as_if_never_stopped(name):
    model = build(0.4, 0.1)
    schedule = schedules.anneal(model, name, steps=10)
    for _ in range(4):
        schedule.step()
    file = io.BytesIO()
    torch.save(schedule.state_dict(), file)
    file.seek(0)

    again = copy.deepcopy(model)  # its rates are those of step 4, not the peaks
    restored = schedules.anneal(again, name, steps=10)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(8):
        assert rates(again) == rates(model)
        schedule.step()
        restored.step()


def test_a_shared_layer_is_one_and_a_copy_can_be_taken_along():
    shared = DropActivation(0.4)
    model = nn.Sequential(shared, nn.Linear(2, 2), shared)
    average = torch.optim.swa_utils.AveragedModel(model)
    schedule = schedules.anneal(nn.ModuleList([model, average]), "linear", steps=2)
    assert len(schedule.state_dict()["peaks"]) == 2
    schedule.step()
    assert rates(model) == rates(average) == [0.2]


def test_a_peak_that_a_layer_refuses_is_refused_at_once():
    model = nn.Sequential(DropActivation(0.3), dropact.StochasticDepth(nn.Linear(4, 4), 0.5, scaling="train"))
    with pytest.raises(ValueError, match="below 1 with scaling='train'"):
        schedules.anneal(model, "linear", 100, peak=1.0)
    assert [layer.drop_prob for layer in model] == [0.3, 0.5]


def test_compiled_code_follows_without_recompiling():
    torch._dynamo.reset()
    compiled = torch.compile(nn.Sequential(DropActivation(0.8)), fullgraph=True)
    schedule = schedules.anneal(compiled, "linear", steps=4)
    x = torch.full((200, 1000), -1.0, requires_grad=True)
    torch._dynamo.utils.counters.clear()
    for expected in (0, 0.2, 0.4, 0.6, 0.8):
        y = compiled(x)
        y.sum().backward()
        rate = y.ne(0).double().mean().item()
        assert abs(rate - expected) <= 5.5 * (expected * (1 - expected) / x.numel()) ** 0.5  # false alarm: 4e-8
        schedule.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


# Compiled GELU would raise torch's own error: the compiler keeps the buffer itself for backward.
@pytest.mark.parametrize(("activation", "compiled"), [("relu", False), ("gelu", False), ("relu", True)])
def test_a_step_between_forward_and_backward_leaves_that_mask_alone(activation, compiled):
    torch._dynamo.reset()
    layer = DropActivation(0.3, activation)
    call = torch.compile(layer, fullgraph=True) if compiled else layer
    x, gradients = torch.randn(5000, requires_grad=True), []
    for late in (0.3, 0.9):
        layer.drop_prob = 0.3
        torch.manual_seed(0)
        y = call(x)
        layer.drop_prob = late
        gradients += torch.autograd.grad(y.sum(), x)
    assert torch.equal(*gradients)


def test_casts_and_moves_keep_the_rate_of_the_step():
    model = build(0.3)
    schedule = schedules.anneal(model, "linear", steps=3)
    schedule.step()
    model.bfloat16()
    assert model[1]._rate.item() == pytest.approx(0.1, abs=1e-12)
    schedule.step()
    assert model[1]._rate.item() == pytest.approx(0.2, abs=1e-12)


def test_a_model_without_rates_is_refused_by_name():
    with pytest.raises(
        ValueError,
        match="no layer of dropact has a drop_prob to anneal: the model has Linear, RandomizedReLU, Sequential",
    ):
        schedules.anneal(nn.Sequential(nn.Linear(2, 2), RandomizedReLU()), "linear", steps=10)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "shape must be one of 'constant', .* got 'square'", {"shape": "square"}),
        (TypeError, "shape must be a name or a function of progress, got 3", {"shape": 3}),
        (ValueError, "steps must be at least 1, got 0", {"steps": 0}),
        (TypeError, "steps must be an integer, got 1.5", {"steps": 1.5}),
        (ValueError, r"start must lie in \[0, 1\], got -0.1", {"start": -0.1}),
        (ValueError, r"peak must lie in \[0, 1\], got 2", {"peak": 2}),
        (
            TypeError,
            "has the options .*, got 'until'",
            {"shape": functools.partial(SHAPES["late"], since=0.2), "until": 0.2},
        ),
        (TypeError, r"shape 'late' has the options \['since'\], got 'until'", {"shape": "late", "until": 0.2}),
        (ValueError, r"until must lie in \[0, 1\], got 7", {"shape": "early", "until": 7}),
        (ValueError, r"shape's value must lie in \[0, 1\], got 2", {"shape": lambda progress: 2}),
    ],
)
def test_bad_arguments_are_named(error, message, arguments):
    model = build(0.3)
    with pytest.raises(error, match=message):
        schedules.anneal(model, **{"shape": "linear", "steps": 10, **arguments})
    assert rates(model) == [0.3]


def test_a_partial_may_be_the_shape():
    model = build(0.3)
    schedules.anneal(model, functools.partial(schedules.early, until=0.0), steps=10)
    assert rates(model) == [0.0]


@pytest.mark.parametrize(
    "state", [{}, {"step": 1}, {"step": 1, "peaks": [0.1]}, {"step": 1, "peaks": [0.1] * 2, "x": 0}]
)
def test_a_state_of_another_model_is_refused(state):
    schedule = schedules.anneal(build(0.3, 0.2), "linear", steps=10)
    with pytest.raises(ValueError, match="a step and the peaks of 2 layers, got"):
        schedule.load_state_dict(state)
