"""Every method of the library: what a GPU makes of it is what the CPU makes of it, seed by seed."""

import pytest
import torch
from rows import ROWS
from torch.nn import functional as F

import dropact
from dropact.experiments import build_network


def derivatives(row, x, grad):
    leaf = x.clone().requires_grad_()
    y = row.call(leaf, training=True, seed=7)
    (to_x,) = torch.autograd.grad(y, leaf, grad)
    return y.detach().cpu(), to_x.cpu()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_with_a_seed_is_that_of_the_cpu(device, row, dtype):
    x, grad = torch.randn(16, 6, 5, 4, dtype=dtype), torch.randn(16, 6, 5, 4, dtype=dtype)
    expected, got = derivatives(row, x, grad), derivatives(row, x.to(device), grad.to(device))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-6)  # a mask that differs is off by far more


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_evaluation_is_that_of_the_cpu(device, row):
    layer, x = row.layer().eval(), torch.randn(16, 6, 5, 4)
    expected = layer(x)
    torch.testing.assert_close(layer.to(device)(x.to(device)).cpu(), expected, rtol=2e-5, atol=1e-6)


def test_surrogate_gradients_and_gaaf_train(device):
    for layer in (dropact.GAAF(), dropact.SurrogateGradient()):
        network = build_network("simple-small", in_channels=1, image_size=8)
        dropact.convert_(network, layer)
        network = network.to(device)
        F.cross_entropy(network(torch.randn(8, 1, 8, 8, device=device)), torch.arange(8, device=device)).backward()
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_stochastic_depth_trains(device, mode):
    network = build_network("resnet-20")
    dropact.add_stochastic_depth_(network, 0.5, mode=mode)
    network = network.to(device, memory_format=torch.channels_last)
    x = torch.randn(8, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16):
        loss = F.cross_entropy(network(x), torch.arange(8, device=device))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
