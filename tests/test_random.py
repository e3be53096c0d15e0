import pytest
import torch

from dropact._random import (
    _keys_op,
    _limit_op,
    as_seed,
    chosen_on_host,
    draw_seed,
    is_chosen,
    random_bits,
    random_bits_like,
    threshold,
    unit_interval,
)
from dropact.functional import drop_activation

M32 = 0xFFFFFFFF


def mix(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & M32
    x = ((x ^ (x >> 15)) * 0x735A2D97) & M32
    return x ^ (x >> 15)


def word(seed: int, index: int) -> int:
    """The documented hash in Python's unbounded integers: an oracle without overflow, sign or vectors."""
    low, high = seed & M32, (seed >> 32) & M32
    page = index >> 32
    key1 = mix((mix(mix(low ^ 0x243F6A88) ^ high) + page) & M32)
    key2 = mix(mix(mix(high ^ 0x13198A2E) ^ low) ^ page)
    h = (index & M32) ^ key1
    h = ((h ^ (h >> 16)) * 0x21F0AAAD) & M32
    h = ((h ^ (h >> 15) ^ key2) * 0x735A2D97) & M32
    return ((h ^ (h >> 15)) * 0x31848BAB) & M32


SEEDS = (0, 1, -1, 2**63 - 1, -(2**63), 0x0123456789ABCDEF)


@pytest.mark.parametrize("seed", SEEDS)
def test_bits_are_the_documented_hash(seed):
    # around the borders of a C block, and beyond 2**31 and 2**32 elements, which nobody needs to allocate
    index = [0, 1, 4095, 4096, 4097, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 5, 2**43 + 12345]
    bits = random_bits(torch.tensor(seed), torch.tensor(index))
    assert [w & M32 for w in bits.tolist()] == [word(seed, i) for i in index]


@pytest.mark.parametrize("count", [0, 1, 5, 4095, 4096, 4097, 12345])
def test_bits_of_a_tensor_are_those_of_its_storage_indices(count):
    seed = torch.tensor(99)
    assert torch.equal(random_bits_like(seed, torch.empty(count)), random_bits(seed, torch.arange(count)))


@pytest.mark.parametrize("permutation", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 3, 2)])
def test_storage_index_of_any_dense_layout(permutation):
    x = torch.empty(3, 17, 9, 11).permute(permutation)
    positions = torch.arange(x.numel()).as_strided(x.shape, x.stride())  # another way to say "position in memory"
    assert torch.equal(random_bits_like(torch.tensor(5), x), random_bits(torch.tensor(5), positions))


def test_size_one_dimensions_do_not_matter():
    for shape in [(2, 1, 3, 4), (1, 3, 1, 5), (2, 3, 1, 1)]:
        x = torch.empty(shape)
        last = x.to(memory_format=torch.channels_last)
        positions = torch.arange(x.numel()).as_strided(last.shape, last.stride())
        assert torch.equal(random_bits_like(torch.tensor(5), last), random_bits(torch.tensor(5), positions))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_number_of_threads_does_not_matter(count):
    """Nor to the operation that draws: 300,000 elements are shared among threads by torch and by the kernels alike."""
    x, seed = -torch.ones(300_007), torch.tensor(3)
    index = [0, 1, 59_999, 100_002, 150_003, 200_004, 300_006]  # about where one thread's share may end
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        bits = random_bits_like(seed, x)
        dropped = drop_activation(x, 0.3, seed=3) != 0
    finally:
        torch.set_num_threads(threads)
    assert [w & M32 for w in bits[index].tolist()] == [word(3, i) for i in index]
    assert torch.equal(bits, random_bits(seed, torch.arange(len(x))))
    assert torch.equal(dropped, is_chosen(bits, 0.3))


def test_threshold_is_exact_at_the_ends_and_unbiased_between():
    assert threshold(0.0) == -(2**31)
    assert threshold(1.0) == 2**31
    for p in (0.05, 0.01, 0.001, 1e-9, 0.95):
        assert abs((threshold(p) + 2**31) / 2**32 - p) <= 2**-33
        assert threshold(torch.tensor(p, dtype=torch.float64)).item() == threshold(p)
    extremes = torch.tensor([-(2**31), -1, 0, 2**31 - 1], dtype=torch.int32)
    for p, chosen in ((0.0, 0), (2**-32, 1), (0.5, 2), (1 - 2**-32, 3), (1.0, 4)):
        for value in (p, torch.tensor(p, dtype=torch.float64)):
            assert is_chosen(extremes, value).sum() == chosen


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_rate_outside_its_range_counts_as_the_nearer_end(dtype):
    """Arithmetic in a tensor rounds to just above 1. NaN drops nothing."""
    one = torch.ones((), dtype=dtype)
    rates = (one.nextafter(2 * one), True), (9 * one, True), (-one / 9, False), (one * float("nan"), False)
    bits = random_bits(torch.tensor(3), torch.arange(200))
    for rate, everything in rates:
        assert threshold(rate).item() == threshold(rate.item()) == threshold(float(everything))
        assert torch.equal(torch.ops.dropact.limit(rate), torch.ops.dropact.limit(torch.tensor(float(everything))))
        for value in (rate, rate.item()):
            assert is_chosen(bits, value).all() == is_chosen(bits, value).any() == everything
        for count in (100, 200):
            assert chosen_on_host(3, count, rate.item()) == list(range(count)) * everything


def test_the_default_device_is_not_that_of_an_operators_result():
    seed, rate = torch.tensor(3), torch.tensor(0.3)
    expected = torch.ops.dropact.keys(seed, 4), torch.ops.dropact.limit(rate), chosen_on_host(3, 200, 0.3)
    with torch.device("meta"):
        # As called from C++: calls from Python set the mode aside.
        found = _keys_op(seed, 4), _limit_op(rate), chosen_on_host(3, 200, 0.3)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert found[2] == expected[2]


def test_unit_interval_stays_below_one():
    top = torch.tensor([0, -1], dtype=torch.int32)
    for dtype in (torch.float32, torch.float64):
        assert unit_interval(top, dtype).tolist() == [0.0, 1 - 2**-24]


def test_draw_consumes_the_default_generator_alike_in_eager_and_compiled_code():
    x = torch.empty(1)
    torch.manual_seed(4)
    eager = [draw_seed(x).item() for _ in range(3)]
    torch.manual_seed(4)
    assert eager[0] == torch.randint(0, 2**63 - 1, ()).item()
    compiled = torch.compile(lambda t: torch.stack([draw_seed(t), draw_seed(t), draw_seed(t)]), fullgraph=True)
    torch.manual_seed(4)
    assert compiled(x).tolist() == eager  # three draws, not one shared by common-subexpression elimination


def test_seed_arguments():
    x = torch.empty(1)
    assert as_seed(-5, x).item() == -5
    assert as_seed(torch.tensor(7), x).item() == 7
    for bad in (1.0, "1", True, torch.tensor(1.0), torch.tensor([1]), torch.tensor(1, dtype=torch.int32)):
        with pytest.raises(TypeError, match="seed must be an int or a 0-d int64 tensor"):
            as_seed(bad, x)
    with pytest.raises(ValueError, match=r"2\*\*63"):
        as_seed(2**63, x)


@pytest.mark.parametrize("count", [1, 128, 129, 300])
def test_the_host_chooses_what_tensors_choose(count):
    for seed in (0, -1, 2**62 + 12345, -(2**63)):
        bits = random_bits(torch.tensor(seed), torch.arange(count))
        for drop_prob in (0.0, 0.3, 1.0):
            expected = is_chosen(bits, drop_prob).nonzero().flatten().tolist()
            assert chosen_on_host(seed, count, drop_prob) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_rate_is_that_of_its_tensor_in_any_dtype(dtype):
    bits = random_bits(torch.tensor(3), torch.arange(2**16))
    for value in (0.0, 0.05, 0.5, 1.0):
        rate = torch.tensor(value, dtype=dtype)
        assert torch.equal(is_chosen(bits, rate), is_chosen(bits, rate.item()))  # a float is exact


@pytest.mark.parametrize("count", [128, 129])
def test_the_host_hashes_the_same_words(count):
    # A probability a hair above a word chooses it, a hair below does not: any other word would be found out.
    for seed in (0, -1, 2**62 + 12345):
        words = random_bits(torch.tensor(seed), torch.arange(count)).tolist()
        for index in (0, 1, 63, count - 1):
            below = (words[index] + 2**31) / 2**32  # exact in a double
            assert index not in chosen_on_host(seed, count, below)
            assert index in chosen_on_host(seed, count, below + 2.0**-32)
