"""What every backend is compared on: awkward sizes and numbers, every dtype and layout, the ends of the probability."""

import torch
from torch import Tensor

from dropact._activations import FORMULAS, Fused

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SIZES = (0, 1, 15, 4095, 4096, 4097, 3 * 4096 + 5, 70_001)
PROBABILITIES = (0.0, 1e-9, 0.05, 0.5, 0.95, 1.0)
SPECIAL = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e-45, -1e-45, 6e-8, -6e-8, 5e-324, -5e-324, 1.0, -1.0)

SETTINGS = {"leaky_relu": (0.25,), "hardtanh": (-0.5, 2.0), "elu": (1.5, 1.25, 0.75), "softplus": (2.0, 20.0)}
ROWS = [Fused(name, SETTINGS.get(name, ())) for name in FORMULAS]  # of the table of activations

FORMATS = {  # of four dimensions
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "sliced": lambda x: torch.stack([x, x], -1)[..., 0],
    "expanded": lambda x: x[:1, :, :1].expand(x.shape),
}


def awkward(size: int, dtype: torch.dtype, offset: int = 0) -> Tensor:
    """Random numbers with every special value among them, in storage that starts ``offset`` elements in."""
    x = torch.randn(size + offset, dtype=torch.float64).to(dtype)[offset:]
    special = torch.tensor(SPECIAL, dtype=torch.float64).to(dtype)[:size]
    x[: len(special)] = special
    return x


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal words, but for NaN, whose payload no law fixes."""
    word = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    equal = (a.view(word) == b.view(word)) | (a.isnan() & b.isnan())
    return a.shape == b.shape and bool(equal.all())
