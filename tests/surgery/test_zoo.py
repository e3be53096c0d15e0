"""Every activation of the networks that people use is converted. The calls are counted below, in torch's dispatcher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import ZOO

import dropact
from dropact import _random

ACTIVATIONS = {"relu", "threshold", "gelu", "silu", "hardswish", "hardtanh", "tanh", "leaky_relu", "elu", "mish"}
FAST = [
    *("resnet18", "resnet50", "densenet121", "googlenet", "mobilenet_v3_small", "efficientnet_b0"),
    *("timm densenet121", "timm convnext_tiny", "transformers BERT", "transformers GPT-2"),
]
GATES = {"sigmoid", "hardsigmoid"}


class Count(TorchDispatchMode):
    """How many activations and gates are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.activations = self.gates = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2].rstrip("_")
        self.activations += name in ACTIVATIONS
        self.gates += name in GATES
        return func(*args, **(kwargs or {}))


@contextmanager
def draws(monkeypatch) -> Iterator[list[None]]:
    """One entry for every mask that is drawn."""
    drawn: list[None] = []
    draw = _random._draw
    with monkeypatch.context() as patch:
        patch.setattr(_random, "_draw", lambda **kwargs: (drawn.append(None), draw(**kwargs))[1])
        yield drawn


def tensors(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if hasattr(output, "values") else output if isinstance(output, tuple | list) else ()
    return [t for value in values for t in tensors(value)]


def run(model: nn.Module, args, kwargs) -> list[Tensor]:
    torch.manual_seed(3)
    with torch.no_grad():
        return tensors(model(*args, **kwargs))


def same(one: list[Tensor], other: list[Tensor], rtol: float = 1e-3, atol: float = 1e-5) -> bool:
    """To the rounding of activations, which deep networks carry on."""
    close = {"rtol": rtol, "atol": atol}
    return len(one) == len(other) and all(torch.allclose(a, b, **close) for a, b in zip(one, other, strict=True))


def step(model: nn.Module, args, kwargs, **compiling) -> set[str]:
    """One step of training; the names of the parameters that got a gradient."""
    forward = torch.compile(model, **compiling) if compiling else model
    sum(t.float().square().mean() for t in tensors(forward(*args, **kwargs))).backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    torch.optim.SGD(model.parameters(), lr=1e-4).step()
    model.zero_grad()
    return names


def hold(name: str, full: bool, monkeypatch) -> tuple[nn.Module, tuple, dict]:
    entry = ZOO[name]
    torch.manual_seed(0)
    model, args, kwargs = entry.build(full)
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():  # a head of zeros would hide everything
            nn.init.normal_(parameter, std=0.02)
    keys, learned = list(model.state_dict()), step(model, args, kwargs)
    state = {key: value.clone() for key, value in model.state_dict().items()}

    evaluated = run(model.eval(), args, kwargs)
    with Count() as count:
        plain = run(model.train(), args, kwargs)
    assert (count.activations, count.gates) == (entry.calls, entry.gates)
    model.load_state_dict(state)

    for inputs in (None, kwargs or args):
        receipt = dropact.convert_(model, dropact.DropActivation(0.1), inputs=inputs)
        seen = dropact.coverage(model, *args, **kwargs)
        assert seen.complete
        assert sum(site.calls for site in seen.having("converted")) == entry.calls
        assert sum(site.calls for site in seen.having("gate")) == entry.gates
        assert len(receipt) == entry.calls  # no site is called twice in these networks
        assert not any(skip.missed for skip in receipt.skipped)
        with draws(monkeypatch) as drawn:
            run(model, args, kwargs)
        assert len(drawn) == entry.calls
        assert list(model.state_dict()) == keys
        model.load_state_dict(state, strict=True)
        receipt.undo()
        assert same(run(model, args, kwargs), plain)
        model.load_state_dict(state)

    receipt = dropact.convert_(model, dropact.DropActivation(0.1))
    assert step(model, args, kwargs) == learned
    model.load_state_dict(state)
    expected = run(model.eval(), args, kwargs)
    assert not same(expected, evaluated, rtol=0, atol=0)
    folding = dropact.fold_(model)
    assert not any(type(m).__module__.startswith("dropact") for m in model.modules())
    assert same(run(model, args, kwargs), expected)
    folding.undo()
    return model.train(), args, kwargs


@pytest.mark.parametrize("name", FAST)
def test_every_call_is_converted(name, monkeypatch):
    hold(name, False, monkeypatch)


def test_trains_compiled(monkeypatch):
    torch._dynamo.reset()
    model, args, kwargs = hold("resnet18", False, monkeypatch)
    step(model, args, kwargs, fullgraph=True, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_as_published_and_compiled(name, monkeypatch):
    torch._dynamo.reset()
    model, args, kwargs = hold(name, True, monkeypatch)
    step(model, args, kwargs, fullgraph=True)
