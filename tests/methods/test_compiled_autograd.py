"""Compiled autograd with a compiled, checkpointed forward: torch then wraps what draws in an operator of its own."""

import pytest
import torch
import torch._dynamo.compiled_autograd
from torch import nn
from torch.utils.checkpoint import checkpoint

import dropact

LAYERS = {
    "activation": lambda: nn.Sequential(nn.Linear(8, 8), dropact.DropActivation(0.3)),
    "subset": lambda: dropact.StochasticDepth(nn.Linear(8, 8), 0.4, "subset"),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's own look
@pytest.mark.parametrize("name", LAYERS)
def test_recomputed_within_a_compiled_backward_pass(name):
    layer, x = LAYERS[name](), torch.randn(10, 8, requires_grad=True)

    def run(x):
        return checkpoint(layer, x, use_reentrant=False)

    torch.manual_seed(3)
    run(x).square().sum().backward()
    expected, x.grad = x.grad, None
    torch._dynamo.reset()
    torch.manual_seed(3)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="inductor")):
        torch.compile(run)(x).square().sum().backward()
    torch.testing.assert_close(x.grad, expected)  # a product of 8 terms: torch's own bound for float32
