"""Are the masks what they claim to be: right rate, nothing in common with their shifts or with those of other seeds.

z-tests on fixed seeds at |z| < 5.5: a false alarm in 4e-8 of them, so in fewer than 1e-4 of all runs with other seeds.
The battery of `benchmarks/battery.py` looks at the same words; its record is in `docs/randomness.md`.
"""

import pytest
import torch

from dropact._random import random_bits, threshold
from dropact.functional import drop_activation
from dropact.kernels import cpu

Z = 5.5
N = 1 << 20
LAGS = (1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 33, 63, 64, 128, 256, 1024, 4095, 4096, 4097, 65536)
RATES = (0.001, 0.01, 0.05, 0.3, 0.5, 0.95)


def words(seed: int, n: int = N) -> torch.Tensor:
    out = torch.empty(n, dtype=torch.int32)
    cpu.bits(seed, out)
    return out


def signal(seed: int, rate: float, n: int = N) -> torch.Tensor:
    """The mask, centred and scaled to unit variance."""
    return ((words(seed, n) < threshold(rate)).double() - rate) / (rate * (1 - rate)) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rate", RATES)
def test_realised_rate(rate, dtype):
    """Through the public function, over neighbouring seeds: each count, and the sum of squares of all of them."""
    x = torch.full((N,), -1.0, dtype=dtype)
    z = []
    for seed in range(16):
        dropped = (drop_activation(x, rate, seed=seed) != 0).sum().item()
        z.append((dropped - N * rate) / (N * rate * (1 - rate)) ** 0.5)
    assert max(map(abs, z)) < Z
    assert abs(sum(v * v for v in z) - 16) < Z * (2 * 16) ** 0.5 + Z  # chi-squared(16); its tail is longer than normal


@pytest.mark.parametrize("rate", [0.05, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2**40 + 7])  # the last one caught a hash of two multiplications
def test_no_correlation_with_shifts_of_itself(rate, seed):
    s = signal(seed, rate)
    for lag in LAGS:
        z = (s[lag:] * s[:-lag]).sum().item() / (N - lag) ** 0.5
        assert abs(z) < Z, (lag, z)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_no_correlation_between_seeds(rate):
    base = signal(5, rate)
    others = [6, 4, -5, 5 + 2**31, 5 + 2**32, 5 + 2**62, *(5 ^ (1 << bit) for bit in range(0, 63, 3))]
    for other in others:
        z = (base * signal(other, rate)).sum().item() / N**0.5
        assert abs(z) < Z, (other, z)


def test_flipping_a_bit_of_the_seed_or_of_the_index_flips_half_of_the_bits():
    generator = torch.Generator().manual_seed(1)
    index = torch.randint(0, 2**40, (20_000,), generator=generator)
    ones = torch.tensor([[1 << b for b in range(32)]]).to(torch.int32)
    bound = Z * (0.25 / len(index)) ** 0.5

    def flips(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (((a ^ b).unsqueeze(1) & ones) != 0).double().mean(0)

    seed = torch.tensor(123456789)
    here = random_bits(seed, index)
    for bit in range(63):
        assert (flips(here, random_bits(seed ^ (1 << bit), index)) - 0.5).abs().max() < bound, bit


def test_every_bit_is_one_half_of_the_time():
    w = words(3)
    for bit in range(32):
        z = (((w >> bit) & 1).double().mean().item() - 0.5) * 2 * N**0.5
        assert abs(z) < Z, bit


@pytest.mark.slow
def test_no_correlation_with_shifts_over_many_seeds():
    """Every lag up to 64 and every power of two and its multiples by 3 and 5, under 200 seeds: 20,200 z-scores."""
    lags = sorted({*range(1, 65), *(m << k for m in (1, 3, 5) for k in range(5, 18))})
    z = []
    for seed in range(200):
        s = signal(seed * 0x9E3779B97F4A7C1 % 2**63, 0.05).float()
        z += [torch.dot(s[lag:], s[:-lag]).item() / (N - lag) ** 0.5 for lag in lags]
    scores = torch.tensor(z, dtype=torch.float64)
    assert len(scores) == 20_200
    assert scores.abs().max() < Z
    # Their squares average 1; the mask's kurtosis enters the variance of a square, 2 + 16 / N, not visibly.
    assert abs(scores.square().mean().item() - 1) < Z * (2 / len(scores)) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES)
def test_rate_over_many_seeds(rate):
    """2**32 draws: an error of the rate of 1e-6 in units of its own standard deviation would show."""
    counts = [(words(seed, 1 << 24) < threshold(rate)).sum().item() for seed in range(256)]
    total = 256 * (1 << 24)
    assert abs(sum(counts) - total * rate) < Z * (total * rate * (1 - rate)) ** 0.5
