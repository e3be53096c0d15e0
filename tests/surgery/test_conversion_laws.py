"""Laws of conversion over random trees of modules with sharing, hooks and flags."""

from __future__ import annotations

import copy
import pickle

import nets
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from dropact import DropActivation, convert_, coverage, fold_

ACTIVATIONS = [nn.ReLU, lambda: nn.ReLU(inplace=True), nn.GELU, nn.PReLU, lambda: nn.LeakyReLU(0.2), nn.Tanh, nn.SiLU]
OTHERS = [lambda: nn.Linear(4, 4), lambda: nn.LayerNorm(4), nn.Identity, nn.Sigmoid, nn.Dropout, lambda: nn.Softmax(-1)]
BLOCKS = [nets.Functions, nets.Methods, nets.Nested, nets.OtherMethods, nets.Super, nets.Reused, nets.Loop]
CONTAINERS = [nn.Sequential, nets.Head, nets.Residual]


@st.composite
def trees(draw, depth: int = 3):
    """A container of containers, some of its parts standing at several places; parameters and modes at random."""
    made: list[nn.Module] = []

    def build(level: int) -> nn.Module:
        if made and draw(st.booleans()) and draw(st.booleans()):
            return draw(st.sampled_from(made))
        kind = draw(st.integers(0, 3 if level else 2))
        if kind == 3:
            parts = [build(level - 1) for _ in range(draw(st.integers(1, 4)))]
            module: nn.Module = draw(st.sampled_from(CONTAINERS))(*parts)
        else:
            module = draw(st.sampled_from([ACTIVATIONS, OTHERS, BLOCKS][kind]))()
        made.append(module)
        return module

    torch.manual_seed(draw(st.integers(0, 99)))
    model = nn.Sequential(*[build(depth - 1) for _ in range(draw(st.integers(1, 4)))])
    model.to(draw(st.sampled_from([torch.float32, torch.float64])))
    for parameter in model.parameters():
        parameter.requires_grad_(draw(st.booleans()))
    for module in model.modules():
        module.train(draw(st.booleans())) if not module._modules else None
    return model


LAW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def example(model: nn.Module) -> torch.Tensor:
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).to(dtype)


def run(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(2)  # of the dropout
    return model(x.clone())


def converted(model: nn.Module, drop_prob: float, x: torch.Tensor | None, split_shared: bool = True):
    assume(coverage(model, example(model)).having("convertible"))  # else it is refused
    return convert_(model, DropActivation(drop_prob), inputs=x, split_shared=split_shared)


@LAW
@given(trees(), st.booleans(), st.booleans())
def test_what_is_no_activation_stays_and_undo_restores_everything(model, with_inputs, split_shared):
    x = example(model)
    expected = run(model, x)
    before = list(model.named_modules(remove_duplicate=False))
    classes = {id(m): type(m) for _, m in before}
    flags = {id(m): m.training for _, m in before}
    tensors = [(key, id(t), t.dtype, t.requires_grad) for key, t in model.state_dict(keep_vars=True).items()]
    receipt = converted(model, 0.5, x if with_inputs else None, split_shared)
    now = dict(model.named_modules(remove_duplicate=False))
    changed = {id(change.before) for change in receipt}
    for name, module in before:  # at every place where it stands
        assert now[name] is module or (id(module) in changed and isinstance(now[name], DropActivation))
        assert now[name].training == flags[id(module)]
        assert isinstance(now[name], classes[id(module)] if now[name] is module else DropActivation)
    assert [(key, id(t), t.dtype, t.requires_grad) for key, t in model.state_dict(keep_vars=True).items()] == tensors
    receipt.undo()
    after = list(model.named_modules(remove_duplicate=False))
    assert [(name, id(m)) for name, m in after] == [(name, id(m)) for name, m in before]
    assert all(type(m) is classes[id(m)] for _, m in after)
    assert torch.equal(run(model, x), expected)


@LAW
@given(trees(), st.booleans())
def test_nothing_dropped_is_the_plain_model(model, with_inputs):
    x = example(model)
    plain = copy.deepcopy(model)
    converted(model, 0.0, x if with_inputs else None)
    # in training every mask costs a draw, which moves the dropout's; in evaluation nothing is drawn
    torch.testing.assert_close(run(model.eval(), x), run(plain.eval(), x), rtol=1e-5, atol=1e-6)
    plain.load_state_dict(model.state_dict(), strict=True)
    model.load_state_dict(plain.state_dict(), strict=True)


@LAW
@given(trees())
def test_coverage_is_complete_and_counts_the_same_calls(model):
    x = example(model)
    seen = {site.name: site.calls for site in coverage(model, x) if site.status == "convertible"}
    receipt = converted(model, 0.5, x)
    after = coverage(model, x)
    assert after.complete
    assert {site.name: site.calls for site in after if site.status == "converted"} == seen
    assert {change.name for change in receipt} == set(seen)


@LAW
@given(trees(), st.booleans())
def test_twice_is_once_and_copies_are_alike(model, split_shared):
    x = example(model)
    converted(model, 0.5, x, split_shared)
    modules, classes = list(model.modules()), [type(m) for m in model.modules()]
    assert len(convert_(model, DropActivation(0.5), inputs=x, split_shared=split_shared)) == 0
    assert all(a is b for a, b in zip(modules, model.modules(), strict=True))
    assert [type(m) for m in model.modules()] == classes
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(run(twin, x), run(model, x))
        assert [type(m) for m in twin.modules()] == classes


@LAW
@given(trees())
def test_folded_gives_the_eval_outputs(model):
    x = example(model)
    converted(model, 0.3, x)
    for part in model.modules():
        part.train(False)
    expected = run(model, x)
    receipt = fold_(model)
    assert not any(isinstance(m, DropActivation) for m in model.modules())
    torch.testing.assert_close(run(model, x), expected, rtol=1e-5, atol=1e-6)
    receipt.undo()
    assert torch.equal(run(model, x), expected)


@LAW
@given(trees(), st.randoms(use_true_random=False))
def test_hooks_fire_as_often_as_before(model, random):
    x, fired = example(model), []
    hooked = [m for m in model.modules() if m is not model and random.random() < 0.5]
    handles = []
    for number, module in enumerate(hooked):
        handles.append(module.register_forward_hook(lambda m, args, out, n=number: fired.append(n)))
        handles.append(module.register_forward_pre_hook(lambda m, args, n=number: fired.append(-n)))
    run(model, x)
    expected = fired.copy()
    receipt = converted(model, 0.5, x)
    fired.clear()
    run(model, x)
    assert fired == expected
    receipt.undo()
    fired.clear()
    run(model, x)
    assert fired == expected
    for handle in handles:
        handle.remove()
    fired.clear()
    run(model, x)
    assert fired == []


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_device_and_dtype_of_the_model_are_the_layers(device, dtype):
    model = nn.Sequential(nets.Functions(), nets.Reused()).to(device, dtype)
    receipt = convert_(model, DropActivation(0.1))
    model.to("cpu") if device == "cpu" else model.to_empty(device="cpu")
    assert {change.after.drop_prob for change in receipt} == {0.1}
    assert model(torch.randn(2, 4).to(dtype)).dtype == dtype
