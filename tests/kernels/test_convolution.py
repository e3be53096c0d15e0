"""The gradient of convolution weights against torch's in float64: equal where the numbers are small integers, as every
sum of their products is exact in float32, and elsewhere within the rounding of each addition."""

import pytest
import torch

from dropact.kernels import convolution, cpu

pytestmark = pytest.mark.skipif(
    cpu.extension is None or not cpu.extension.has_weights_gradient(), reason="needs a processor with AVX512_BF16"
)
# images, channels in and out, height, width, stride: from one pair of pixels to rows longer than a band, images of
# several bands and of a part of one, more images than parts and fewer, each grouping of the channels
SHAPES = (
    (1, 16, 16, 1, 2, 1),
    (1, 16, 16, 2, 4, 2),
    (3, 16, 32, 5, 6, 1),
    (9, 32, 16, 4, 8, 2),
    (19, 48, 64, 8, 8, 1),
    (37, 64, 48, 2, 2, 1),
    (2, 16, 16, 3, 34, 1),
    (1, 16, 32, 4, 300, 1),
    (2, 16, 16, 32, 32, 1),
    (17, 32, 64, 16, 16, 2),
    (3, 16, 32, 34, 36, 2),
    (130, 128, 64, 4, 4, 1),
)


def drawn(kind, *shape):
    x = torch.randint(-3, 4, shape).double() if kind == "integers" else torch.randn(shape, dtype=torch.float64)
    return x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)


def pair_of(kind, images, channels, out_channels, height, width, stride):
    x = drawn(kind, images, channels, height, width)
    return x, drawn(kind, images, out_channels, height // stride, width // stride)


def found(x, grad, stride, memory_format=torch.contiguous_format):
    out = torch.full((grad.shape[1], x.shape[1], 3, 3), torch.nan).contiguous(memory_format=memory_format)
    cpu.weights_gradient(x, grad, stride, out)
    return out


def exact(x, grad, stride):
    size = grad.shape[1], x.shape[1], 3, 3
    return torch.nn.grad.conv2d_weight(x.double(), size, grad.double(), stride=stride, padding=1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_of_integers_are_exact(shape, memory_format):
    x, grad = pair_of("integers", *shape)
    assert torch.equal(found(x, grad, shape[-1], memory_format).double(), exact(x, grad, shape[-1]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_other_sums_round_once_for_each_addition(shape):
    x, grad = pair_of("normal", *shape)
    additions = grad[:, 0].numel() + 16  # products of a weight, and parts
    bound = additions * 2.0**-24 * exact(x.abs(), grad.abs(), shape[-1])
    assert ((found(x, grad, shape[-1]) - exact(x, grad, shape[-1])).abs() <= bound).all()


def test_the_bits_are_those_of_any_number_of_threads():
    x, grad = pair_of("normal", 40, 32, 64, 16, 16, 1)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(found(x, grad, 1))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    "shape",
    [(0, 16, 16, 4, 4, 1), (1, 8, 16, 4, 4, 1), (1, 16, 24, 4, 4, 1), (1, 16, 16, 4, 5, 1), (1, 16, 16, 4, 6, 2)],
)
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="no gradient of convolution weights"):
        found(*pair_of("integers", *shape), shape[-1])


def test_other_instructions_are_refused_and_torch_serves():
    x, grad = pair_of("integers", 1, 16, 16, 4, 4, 1)
    weight = torch.randn(16, 16, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    try:
        cpu.extension.use_instructions("avx2")
        assert not convolution.serves(x, weight, (1, 1))
        with pytest.raises(ValueError, match="no gradient of convolution weights"):
            found(x, grad, 1)
    finally:
        cpu.extension.use_instructions("best")
    assert convolution.serves(x, weight, (1, 1)) == cpu.has_weights_gradient()
