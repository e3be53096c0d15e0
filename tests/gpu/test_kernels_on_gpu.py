"""Every kernel on the device, against the definition computed on the CPU: bit by bit where no exponential is in it."""

import pytest
import torch
from inputs import DTYPES, FORMATS, PROBABILITIES, ROWS, SIZES, awkward, same_bits

from dropact import DropActivation, RandomizedReLU, kernels
from dropact._activations import IDENTITY
from dropact._random import _keys, random_bits
from dropact.functional import drop_activation, randomized_relu
from dropact.kernels import reference

triton = pytest.importorskip("dropact.kernels.cuda")
SEEDS = (0, -(2**62) - 12345)
LARGER = (1_000_003, 2**22)  # many programs; the first ends within 16 bytes


def sizes(device):
    return (*SIZES, *LARGER) if device.type == "cuda" else (1, 4097)


def test_triton_serves(cuda):
    assert kernels.backend(cuda) == "Triton"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_drop_relu(device, dtype):
    for size in sizes(device):
        for offset, seed, drop_prob in [(1, SEEDS[0], 0.05), *((0, SEEDS[1], p) for p in PROBABILITIES)]:
            x, p = awkward(size, dtype, offset), torch.tensor(drop_prob, dtype=torch.float64)
            expected = reference.drop_relu(x, torch.tensor(seed), p)
            # moved with its storage, so that the offset stays
            on_device = torch.empty(size + offset, dtype=dtype, device=device)[offset:].copy_(x)
            out = torch.full_like(on_device, 7)
            triton.drop_relu(on_device, torch.tensor(seed, device=device), p.to(device), out)
            assert same_bits(out.cpu(), expected), (size, drop_prob)
            grad, to_x = awkward(size, dtype).flip(0).contiguous(), torch.full_like(on_device, 7)
            triton.drop_relu_backward(grad.to(device), out, to_x)
            assert same_bits(to_x.cpu(), reference.drop_relu_backward(grad, expected)), (size, drop_prob)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_randomized_relu(device, dtype):
    for size in sizes(device):
        for seed, lower, upper in ((SEEDS[0], 1 / 8, 1 / 3), (SEEDS[1], 0.0, 0.1), (SEEDS[1], 0.3, 0.3)):
            x, key = awkward(size, dtype), torch.tensor(seed)
            expected, out = reference.randomized_relu(x, key, lower, upper), torch.full_like(x, 7).to(device)
            triton.randomized_relu(x.to(device), key.to(device), lower, upper, out)
            assert same_bits(out.cpu(), expected), (size, lower)
            grad, to_x = awkward(size, dtype).flip(0).contiguous(), torch.full_like(out, 7)
            triton.randomized_relu_backward(grad.to(device), out, key.to(device), lower, upper, to_x)
            wanted = reference.randomized_relu_backward(grad, expected, key, lower, upper)
            assert same_bits(to_x.cpu(), wanted), (size, lower)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_choose(device, dtype):
    for size in sizes(device):
        for prob in PROBABILITIES:
            a, b, p = awkward(size, dtype), awkward(size, dtype).flip(0).contiguous(), torch.tensor(prob).double()
            key, out = torch.tensor(SEEDS[1]), torch.full_like(a, 7).to(device)
            triton.choose(a.to(device), b.to(device), key.to(device), p.to(device), out)
            assert same_bits(out.cpu(), reference.choose(a, b, key, p)), (size, prob)
            to_a, to_b = torch.full_like(out, 7), torch.full_like(out, 7)
            triton.choose_backward(a.to(device), key.to(device), p.to(device), to_a, to_b)
            for got, expected in zip((to_a, to_b), reference.choose_backward(a, key, p), strict=True):
                assert same_bits(got.cpu(), expected), (size, prob)


@pytest.mark.parametrize("f", ROWS, ids=lambda f: f.name)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pair(device, dtype, f):
    # the device's exponential is its own, and torch's GELU has no digits left in its tail
    close = {"rtol": max(1e-5, torch.finfo(dtype).eps), "atol": 4e-7, "equal_nan": True}
    for size in sizes(device):
        for prob in (0.05, 1.0):
            x, key, p = awkward(size, dtype), torch.tensor(SEEDS[1]), torch.tensor(prob).double()
            grad, fixed = torch.randn(size).to(dtype), (key.to(device), p.to(device), f, IDENTITY)
            fine = x.isfinite() & (x.abs() > 0)
            for mean in (False, True):
                out, to_x = torch.full_like(x, 7).to(device), torch.full_like(x, 7).to(device)
                triton.pair(x.to(device), *fixed, mean, out)
                expected = reference.pair(x, key, p, f, IDENTITY, mean)
                torch.testing.assert_close(out.cpu()[fine], expected[fine], **close)
                triton.pair_backward(grad.to(device), x.to(device), *fixed, mean, to_x)
                with torch.no_grad():
                    expected = reference.pair_backward(grad.double(), x.double(), key, p, f, IDENTITY, mean)
                torch.testing.assert_close(to_x.cpu()[fine], expected.to(dtype)[fine], **close)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "a", "b"), [("relu", 5.0, -0.5), ("tanh", 2.0, 1.0), ("sigmoid", 4.0, 0.25)])
def test_accelerated_slopes(device, dtype, name, a, b):
    for size in sizes(device):
        x, grad = awkward(size, dtype) * 4, torch.randn(size).to(dtype)
        out = torch.full_like(x, 7).to(device)
        triton.accelerated_backward(grad.to(device), x.to(device), name, a, b, 0.7, out)
        expected = reference.accelerated_backward(grad, x, name, a, b, 0.7)
        # exponentials are the device's own: a few units of float32, which a 16-bit result may round the other way
        torch.testing.assert_close(
            out.cpu(), expected, rtol=max(1e-5, torch.finfo(dtype).eps), atol=1e-7, equal_nan=True
        )


def test_in_place(device):
    x = awkward(9000, torch.float32)
    expected, on_device = reference.drop_relu(x, torch.tensor(5), 0.3), x.to(device)
    p = torch.tensor(0.3, dtype=torch.float64, device=device)
    triton.drop_relu(on_device, torch.tensor(5, device=device), p, on_device)
    assert same_bits(on_device.cpu(), expected)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1])
def test_keys(device, seed):
    keys = triton.keys(torch.tensor(seed, device=device)).tolist()
    assert [key & 0xFFFFFFFF for key in keys] == list(_keys(seed, 0))


def test_elements_beyond_the_first_page(cuda):
    """More than 2**32 of them: the second page has keys of its own, and places that 32 bits do not hold."""
    count = 2**32 + 70_001
    if torch.cuda.mem_get_info()[0] < 5 * count:
        pytest.skip("too little memory")
    x = torch.full((count,), -1.0, dtype=torch.float16, device=cuda)
    triton.drop_relu(x, torch.tensor(7, device=cuda), torch.tensor(0.3, dtype=torch.float64, device=cuda), x)
    places = torch.tensor([0, 1, 2**31 - 1, 2**31, 2**32 - 1, *range(2**32, count, 7)])
    dropped = random_bits(torch.tensor(7), places) < round(0.3 * 2**32) - 2**31
    assert torch.equal(x[places.to(cuda)].cpu() != 0, dropped)


@pytest.mark.parametrize("forward", FORMATS)
@pytest.mark.parametrize("backward", FORMATS)
@pytest.mark.parametrize("activation", ["relu", "tanh", "rrelu"])
def test_layouts(device, forward, backward, activation):
    """Same mask, values and gradients as the definition on the CPU, and the layout of the input."""
    x = torch.randn(6, 5, 4, 3, dtype=torch.float64)
    grad = torch.randn(6, 5, 4, 3, dtype=torch.float64)
    plain, leaf = FORMATS[forward](x).requires_grad_(), FORMATS[forward](x.to(device)).detach().requires_grad_()
    if activation == "rrelu":
        expected = reference.randomized_relu(plain, torch.tensor(7), 1 / 8, 1 / 3)
        y = randomized_relu(leaf, seed=7)
    elif activation == "relu":
        expected, y = reference.drop_relu(plain, torch.tensor(7), 0.4), drop_activation(leaf, 0.4, seed=7)
    else:
        expected = reference.choose(plain, plain.tanh(), torch.tensor(7), 0.4)
        y = drop_activation(leaf, 0.4, "tanh", seed=7)
    (to_plain,) = torch.autograd.grad(expected, plain, FORMATS[backward](grad))
    (to_leaf,) = torch.autograd.grad(y, leaf, FORMATS[backward](grad.to(device)))
    torch.testing.assert_close(y.detach().cpu(), expected.detach(), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(to_leaf.cpu(), to_plain, rtol=1e-14, atol=1e-15)
    assert y.stride() == torch.empty_like(leaf).stride()


@pytest.mark.parametrize("layer", [DropActivation(0.05), RandomizedReLU(), DropActivation(0.05, "gelu")], ids=repr)
def test_fresh_masks_at_the_stated_rate(device, layer):
    x = -torch.ones(200_000, device=device)
    layer = layer.to(device)
    one, two = layer(x), layer(x)
    assert not torch.equal(one, two)
    if isinstance(layer, DropActivation):
        rate = (one == -1).double().mean().item()
        assert abs(rate - 0.05) < 5.5 * (0.05 * 0.95 / x.numel()) ** 0.5  # a false alarm in 26 million
