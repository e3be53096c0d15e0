"""Every backend equals the torch definition bit by bit: C in each instruction set, Triton in its interpreter."""

import os
import subprocess
import sys

import pytest
import torch
from extension import instruction_sets
from inputs import DTYPES, PROBABILITIES, SIZES, awkward, same_bits

from dropact._activations import Fused
from dropact._random import _keys, random_bits_like
from dropact.kernels import cpu, reference

SEEDS = (0, -(2**62) - 12345)
AID = Fused("relu"), Fused("negative_part")


@pytest.fixture(params=[*instruction_sets(), "triton"])
def backend(request):
    if request.param == "triton":
        yield pytest.importorskip("dropact.kernels.cuda")
        return
    assert cpu.extension.use_instructions(request.param) == request.param
    yield cpu
    cpu.extension.use_instructions("best")


def sizes(backend):
    return SIZES if backend is cpu else (1, 4097, 9000)  # the interpreter takes its time


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_drop_relu(backend, dtype):
    for size in sizes(backend):
        for offset, seed, drop_prob in [(1, SEEDS[0], 0.05), *((0, SEEDS[1], p) for p in PROBABILITIES)]:
            x, p = awkward(size, dtype, offset), torch.tensor(drop_prob, dtype=torch.float64)
            out = torch.full_like(x, 7)
            backend.drop_relu(x, torch.tensor(seed), p, out)
            assert same_bits(out, reference.drop_relu(x, torch.tensor(seed), p)), (size, drop_prob)
            grad, to_x = awkward(size, dtype, offset).flip(0).contiguous(), torch.full_like(x, 7)
            backend.drop_relu_backward(grad, out, to_x)
            assert same_bits(to_x, reference.drop_relu_backward(grad, out)), (size, drop_prob)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_randomized_relu(backend, dtype):
    for size in sizes(backend):
        for seed, lower, upper in ((SEEDS[0], 1 / 8, 1 / 3), (SEEDS[1], 0.0, 0.1), (SEEDS[1], 0.3, 0.3)):
            x, key = awkward(size, dtype), torch.tensor(seed)
            out = torch.full_like(x, 7)
            backend.randomized_relu(x, key, lower, upper, out)
            assert same_bits(out, reference.randomized_relu(x, key, lower, upper)), (size, lower)
            grad, to_x = awkward(size, dtype).flip(0).contiguous(), torch.full_like(x, 7)
            backend.randomized_relu_backward(grad, out, key, lower, upper, to_x)
            assert same_bits(to_x, reference.randomized_relu_backward(grad, out, key, lower, upper)), (size, lower)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_choose(backend, dtype):
    for size in sizes(backend):
        for prob in PROBABILITIES:
            a, b, p = awkward(size, dtype), awkward(size, dtype).flip(0).contiguous(), torch.tensor(prob).double()
            key, out = torch.tensor(SEEDS[1]), torch.full_like(a, 7)
            backend.choose(a, b, key, p, out)
            assert same_bits(out, reference.choose(a, b, key, p)), (size, prob)
            to_a, to_b = torch.full_like(a, 7), torch.full_like(a, 7)
            backend.choose_backward(a, key, p, to_a, to_b)
            expected = reference.choose_backward(a, key, p)
            assert same_bits(to_a, expected[0]), (size, prob)
            assert same_bits(to_b, expected[1]), (size, prob)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_rate_outside_its_range(backend, dtype):
    """Arithmetic in a tensor rounds to just above 1; NaN drops nothing."""
    x, key, one = awkward(4097, torch.float32), torch.tensor(SEEDS[1]), torch.ones((), dtype=dtype)
    for rate, end in ((one.nextafter(2 * one), 1.0), (9 * one, 1.0), (-one / 9, 0.0), (one * float("nan"), 0.0)):
        out = torch.full_like(x, 7)
        backend.drop_relu(x, key, rate, out)
        assert same_bits(out, reference.drop_relu(x, key, rate)), rate
        assert same_bits(out, reference.drop_relu(x, key, end)), rate
        backend.pair(x, key, rate, *AID, False, out)
        assert same_bits(out, reference.pair(x, key, end, *AID)), rate


def test_in_place_is_the_same(backend):
    """Output over input: the loop must not assume that they are apart, nor fall back to something else."""
    x = awkward(9000, torch.float32)
    expected = reference.drop_relu(x, torch.tensor(5), 0.3)
    backend.drop_relu(x, torch.tensor(5), torch.tensor(0.3, dtype=torch.float64), x)
    assert same_bits(x, expected)


def test_threads_do_not_matter():
    x, p = awkward(300_001, torch.float32), torch.tensor(0.3, dtype=torch.float64)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        out = torch.empty_like(x)
        cpu.drop_relu(x, torch.tensor(5), p, out)
        results.append(out)
    torch.set_num_threads(before)
    assert same_bits(results[0], results[1])
    assert same_bits(results[0], results[2])
    assert same_bits(results[0], reference.drop_relu(x, torch.tensor(5), p))


def test_bits_are_those_of_the_definition():
    out = torch.empty(20_000, dtype=torch.int32)
    cpu.bits(77, out)
    assert torch.equal(out, random_bits_like(torch.tensor(77), out))


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1])
def test_keys_of_triton_are_those_of_the_definition(seed):
    cuda = pytest.importorskip("dropact.kernels.cuda")
    assert [key & 0xFFFFFFFF for key in cuda.keys(torch.tensor(seed)).tolist()] == list(_keys(seed, 0))


def test_c_extension_is_what_runs_here():
    """CI has a compiler: a fast path that silently is not taken fails here."""
    assert cpu.description.startswith("C, ")
    assert cpu.description.endswith("the OpenMP threads of torch")


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="Linux alone lists what is mapped")
def test_no_openmp_runtime_came_with_the_extension():
    """In a fresh process, where no other package may have brought one: torch's is the only one."""
    code = (
        "import torch, dropact; dropact.DropActivation()(torch.randn(100_000));"
        "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'omp' in line.rpartition('/')[2]}, sep='\\n')"
    )
    mapped = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    runtimes = [path for path in mapped.stdout.split() if ".so" in path]
    assert runtimes
    assert all(os.path.join("torch", "lib") in path for path in runtimes), runtimes
