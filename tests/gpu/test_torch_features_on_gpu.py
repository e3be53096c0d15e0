"""The operations inside what torch has for GPUs: compiled, in CUDA graphs, checkpointed, under autocast, on streams."""

import pytest
import torch
from inputs import same_bits
from torch import nn
from torch.utils.checkpoint import checkpoint

from dropact import GAAF, DropActivation, RandomizedReLU, StochasticDepth
from dropact.functional import drop_activation, randomized_relu
from dropact.kernels import reference

MODES = ["default", "reduce-overhead", "max-autotune"]
LAYERS = {
    "relu": lambda: DropActivation(0.3),
    "gelu": lambda: DropActivation(0.3, "gelu"),
    "rrelu": lambda: RandomizedReLU(),
    "masked depth": lambda: StochasticDepth(nn.Tanh(), 0.3, mode="row", compute="masked"),
}


@pytest.fixture(params=MODES)
def mode(request, device):
    if device.type != "cuda" and request.param != "default":
        pytest.skip("needs CUDA")
    torch.compiler.reset()
    return request.param


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_compiled_code_has_the_masks_of_the_definition(device, mode, dtype):
    function = torch.compile(lambda x, seed: drop_activation(x, 0.3, seed=seed), fullgraph=True, mode=mode)
    x = torch.randn(3, 5, 64, 31).to(dtype)
    for number in range(4):  # the third call of a mode with CUDA graphs is the first that replays
        seed = torch.tensor(number)
        leaf = x.to(device).requires_grad_()
        y = function(leaf, seed.to(device))
        expected = reference.drop_relu(x, seed, 0.3)
        assert torch.equal(y.detach().cpu(), expected)
        (to_x,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
        assert torch.equal(to_x.cpu(), (expected != 0).to(dtype))


def test_compiled_slopes_are_those_of_the_definition(device, mode):
    function = torch.compile(lambda x, seed: randomized_relu(x, seed=seed), fullgraph=True, mode=mode)
    x, seed = torch.randn(10_000), torch.tensor(3)
    expected = reference.randomized_relu(x, seed, 1 / 8, 1 / 3)
    # a product fused into a sum is rounded once less
    torch.testing.assert_close(function(x.to(device), seed.to(device)).cpu(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_compiled_layers_draw_anew_in_every_call(device, mode, name):
    layer = LAYERS[name]().to(device)
    compiled = torch.compile(layer, fullgraph=True, mode=mode)
    x = -torch.rand(50_000, device=device)
    outputs = [compiled(x).clone() for _ in range(6)]
    assert all(not torch.equal(one, two) for i, one in enumerate(outputs) for two in outputs[:i])


def test_a_schedule_recompiles_nothing_and_is_obeyed(device, mode):
    layer = DropActivation(0.0).to(device)
    compiled = torch.compile(layer, fullgraph=True, mode=mode)
    x = -torch.ones(100_000, device=device)
    for number in range(6):
        layer.drop_prob = number / 5
        with torch.compiler.set_stance("fail_on_recompile" if number else "default"):
            rate = (compiled(x) != 0).double().mean().item()
        assert abs(rate - number / 5) < 5.5 * 0.5 / 100_000**0.5


@pytest.mark.parametrize("name", LAYERS)
def test_every_replay_of_a_cuda_graph_draws_anew(cuda, name):
    layer, x = LAYERS[name]().to(cuda), -torch.rand(50_000, device=cuda)
    leaf = x.clone().requires_grad_()

    def step():
        y = layer(leaf)
        (grad,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
        return y, grad

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y, grad = step()
    seen = []
    for _ in range(6):
        graph.replay()
        seen.append(y.detach().clone())
        if name == "relu":
            assert torch.equal(grad != 0, y != 0)  # forward and backward of one replay have one mask
    assert all(not torch.equal(one, two) for i, one in enumerate(seen) for two in seen[:i])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_recomputes_the_same_mask(device, name, reentrant):
    layer = LAYERS[name]().to(device)
    x = torch.randn(10_000, device=device, dtype=torch.float64)

    def squared(t):
        return layer(t).square()

    torch.manual_seed(1)
    plain = x.clone().requires_grad_()
    squared(plain).sum().backward()
    torch.manual_seed(1)
    saved = x.clone().requires_grad_()
    checkpoint(squared, saved, use_reentrant=reentrant).sum().backward()
    assert torch.equal(plain.grad, saved.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [*LAYERS.values(), lambda: GAAF()])
def test_autocast(device, dtype, make):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), make()).to(device, memory_format=torch.channels_last)
    x = torch.randn(4, 3, 9, 9, device=device).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype):
        y = network(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.float().square().mean().backward()
    for parameter in network.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_two_streams_do_not_disturb_each_other(cuda):
    x = [torch.randn(2**20 + 3) for _ in range(2)]
    expected = [reference.drop_relu(part, torch.tensor(seed), 0.3) for seed, part in enumerate(x)]
    parts = [part.to(cuda) for part in x]
    streams = [torch.cuda.Stream() for _ in x]
    torch.cuda.synchronize()
    got = [[], []]
    for _ in range(20):
        for seed, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                got[seed].append(drop_activation(parts[seed], 0.3, seed=seed))
    torch.cuda.synchronize()
    for seed in range(2):
        assert all(same_bits(y.cpu(), expected[seed]) for y in got[seed])


def test_seeds_drawn_on_two_streams_differ(cuda):
    x, outputs = -torch.ones(10_000, device=cuda), []
    torch.cuda.synchronize()
    for stream in (torch.cuda.Stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            outputs.append(drop_activation(x, 0.5))
    torch.cuda.synchronize()
    assert not torch.equal(*outputs)


def test_nothing_waits_for_the_device(cuda):
    layers = nn.Sequential(*(make() for make in LAYERS.values()), GAAF()).to(cuda)
    x = torch.randn(64, 64, device=cuda, requires_grad=True)
    layers(x).sum().backward()  # whatever is prepared once
    torch.cuda.set_sync_debug_mode("error")
    try:
        layers(x).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
