"""Memory held for backward, against cases known by hand."""

import pytest
import torch
from torch.nn import functional as F

from dropact.bench import Kept
from dropact.bench.calls import kept_for_backward
from dropact.bench.candidates import CANDIDATES

SHAPE = (4, 8, 16, 16)
SEED_AND_RATE = 16 / (4 * 8 * 16 * 16)  # two numbers for the whole tensor


def kept(name, dtype, layout=torch.contiguous_format):
    x = torch.randn(SHAPE).to(dtype).contiguous(memory_format=layout).requires_grad_()
    return kept_for_backward(CANDIDATES[name].operation, x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_known_cases(dtype, layout):
    size = dtype.itemsize
    for name in ("relu", "drop_activation"):
        assert kept(name, dtype, layout) == Kept(input=0, output=size, more=0), name
    for name in ("leaky_relu", "gelu", "gaaf"):
        assert kept(name, dtype, layout) == Kept(input=size, output=0, more=0), name
    drop_gelu = kept("drop_activation_gelu", dtype, layout)
    assert (drop_gelu.input, drop_gelu.output) == (size, 0)
    assert drop_gelu.more <= SEED_AND_RATE
    ours = kept("randomized_relu", dtype, layout)
    assert (ours.input, ours.output) == (0, size)
    assert ours.more <= SEED_AND_RATE
    assert kept("rrelu", dtype, layout) == Kept(input=size, output=0, more=size)
    assert kept("mask_arithmetic", dtype, layout).more > size


def test_a_storage_counts_once_and_whole():
    x = torch.randn(100, requires_grad=True)

    def squares_of_a_part(x):
        doubled = 2 * x
        return doubled[:10] * doubled[:10]

    assert kept_for_backward(squares_of_a_part, x) == Kept(input=0, output=0, more=4)


def test_nothing_is_kept_where_nothing_is_needed():
    x = torch.randn(100, requires_grad=True)
    assert kept_for_backward(lambda x: 2 * x, x) == Kept(0, 0, 0)
    with torch.no_grad():
        assert kept_for_backward(F.relu, x) == Kept(0, 0, 0)
