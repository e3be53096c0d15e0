"""Sensitivities against the network written out, with a factor on each branch."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropact
from dropact.diagnostics import sensitivities
from dropact.experiments import build_network


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(5, 8), nn.Linear(8, 5)

    def forward(self, x):
        return x + self.two(torch.tanh(self.one(x)))

    def branch(self, x):
        return self.two(torch.tanh(self.one(x)))


@pytest.fixture
def setting():
    torch.manual_seed(0)
    model = nn.Sequential(*(Block() for _ in range(4))).double()
    x, target = torch.randn(12, 5, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    return model, x, target


def written_out(model, x, factors, scale=1.0):
    for block, factor in zip(model, factors, strict=True):
        x = x + factor * scale * block.branch(x)
    return x


def oracle(model, x, target, order, scale=1.0):
    ones = torch.ones(4, dtype=torch.float64)

    def loss(factors, rows=slice(None)):
        return F.mse_loss(written_out(model, x[rows], factors, scale), target[rows])

    if order == "leave-one-out":
        return torch.stack([loss(ones - F.one_hot(torch.tensor(i), 4)) - loss(ones) for i in range(4)])
    rows = [torch.autograd.functional.jacobian(lambda f, i=i: loss(f, slice(i, i + 1)), ones) for i in range(len(x))]
    per_sample = torch.stack(rows)  # d loss / d factor of each sample
    return per_sample.abs().mean(0) if order == "first" else -per_sample.mean(0)


@pytest.mark.parametrize("order", ["first", "signed", "leave-one-out"])
def test_against_the_network_written_out(setting, order):
    model, x, target = setting
    before = copy.deepcopy(model)
    got = sensitivities(model, F.mse_loss, (x, target), order)
    torch.testing.assert_close(got, oracle(model, x, target, order), rtol=1e-9, atol=1e-12)
    assert [type(block) for block in model] == [type(block) for block in before]
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("order", ["first", "signed", "leave-one-out"])
def test_of_a_converted_model_its_rates_do_not_matter_and_its_scale_does(setting, order):
    model, x, target = setting
    plain = copy.deepcopy(model)
    dropact.add_stochastic_depth_(model, 0.5, residual_scale=0.5)
    got = sensitivities(model, F.mse_loss, (x, target), order)
    torch.testing.assert_close(got, oracle(plain, x, target, order, scale=0.5), rtol=1e-9, atol=1e-12)
    assert model[0].residual.drop_prob == 0.5


def test_of_a_network_with_batchnorm_nothing_changes():
    torch.manual_seed(0)
    model = build_network("resnet-20")
    before = copy.deepcopy(model.state_dict())
    batch = torch.randn(4, 3, 16, 16), torch.arange(4)
    state = torch.get_rng_state()
    values = sensitivities(model, F.cross_entropy, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert values.shape == (9,)
    assert bool((values > 0).all())
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    exact = sensitivities(model, F.cross_entropy, batch, "leave-one-out")
    assert exact.shape == (9,)


def test_branches_that_start_at_zero_have_no_sensitivity_and_uniform_rates():
    torch.manual_seed(0)
    model = build_network("resnet-20")
    for name, module in model.named_modules():
        if name.endswith("bn2"):
            nn.init.zeros_(module.weight)
    values = sensitivities(model, F.cross_entropy, (torch.randn(4, 3, 16, 16), torch.arange(4)))
    assert values.tolist() == [0.0] * 9
    with pytest.warns(UserWarning, match="all sensitivities are 0"):
        assert dropact.schedules.sensitivity_survival(values, budget=4.5) == [0.5] * 9


def test_a_branch_that_the_loss_does_not_reach_has_none_of_the_kind_of_the_others(setting, monkeypatch):
    """torch stacks no tensors of several devices, and one that is made without the branch's stands on the CPU."""
    _, x, target = setting
    stack = torch.stack

    def stack_of_one_kind(tensors):
        assert len({(t.device, t.dtype) for t in tensors}) == 1
        return stack(tensors)

    monkeypatch.setattr(torch, "stack", stack_of_one_kind)

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.aside = Block(), Block()

        def forward(self, x):
            return self.main(x), self.aside(x)

    model = TwoHeads().double()
    values = sensitivities(model, lambda outputs, target: F.mse_loss(outputs[0], target), (x, target))
    assert values[0] > 0
    assert values[1] == 0


def test_refusals(setting):
    model, x, target = setting
    with pytest.raises(ValueError, match="order must be one of 'first', 'signed', 'leave-one-out', got 'second'"):
        sensitivities(model, F.mse_loss, (x, target), "second")
    frozen = copy.deepcopy(model).requires_grad_(False)
    with pytest.raises(ValueError, match="the loss has no gradient, which order 'first' takes"):
        sensitivities(frozen, F.mse_loss, (x, target))
    assert torch.equal(*(sensitivities(m, F.mse_loss, (x, target), "leave-one-out") for m in (frozen, model)))
    with pytest.raises(ValueError, match="no residual branch was found"):
        sensitivities(nn.Sequential(nn.Linear(5, 5)), F.mse_loss, (x.float(), target.float()))
