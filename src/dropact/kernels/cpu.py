"""The C backend: hands dense CPU tensors to ``_cpu.c`` as pointers.

Every function writes into ``out``; all tensors of a call are dense and share one shape and one storage order.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch
from torch import Tensor

# Where the enumerations of _cpu.c are repeated.
_DROP, _DROP_BACK, _CHOOSE, _CHOOSE_BACK, _RRELU, _RRELU_BACK, _BITS = range(7)
_SLOPES = {"relu": 7, "tanh": 8, "sigmoid": 9}
_SIDE, _SILU, _SILU_BACK = range(10, 13)
_CODES = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.float64: 3}


def load() -> tuple[Any, str]:
    """The extension module and what it runs on, or ``None`` and why there is none."""
    try:
        module = importlib.import_module("dropact.kernels._cpu")
    except ImportError as error:
        return None, str(error)
    instructions = module.use_instructions("best")
    # torch's OpenMP pool as its main library sees it: see _cpu.c
    folder = os.path.join(os.path.dirname(torch.__file__), "lib")
    names = ("libtorch_cpu.so", "libtorch_cpu.dylib")
    threads = any(module.use_threads_of(os.path.join(folder, name)) for name in names)
    return module, f"C, {instructions}, {'the OpenMP threads of torch' if threads else 'one thread'}"


extension, description = load()


def serves(dtype: torch.dtype) -> bool:
    return extension is not None and dtype in _CODES


def drop_relu(x: Tensor, seed: Tensor, drop_prob: Tensor, out: Tensor) -> None:
    _run(_DROP, out, x, None, int(seed.item()), drop_prob.item())


def drop_relu_backward(grad: Tensor, y: Tensor, out: Tensor) -> None:
    _run(_DROP_BACK, out, grad, y)


def randomized_relu(x: Tensor, seed: Tensor, lower: float, upper: float, out: Tensor) -> None:
    _run(_RRELU, out, x, None, int(seed.item()), lower, upper)


def randomized_relu_backward(grad: Tensor, y: Tensor, seed: Tensor, lower: float, upper: float, out: Tensor) -> None:
    _run(_RRELU_BACK, out, grad, y, int(seed.item()), lower, upper)


def choose(a: Tensor, b: Tensor, seed: Tensor, prob: Tensor, out: Tensor) -> None:
    _run(_CHOOSE, out, a, b, int(seed.item()), prob.item())


def choose_backward(grad: Tensor, seed: Tensor, prob: Tensor, out_a: Tensor, out_b: Tensor) -> None:
    code = _CODES[grad.dtype]
    pointers = grad.data_ptr(), 0, out_a.data_ptr(), out_b.data_ptr()
    extension.run(_CHOOSE_BACK, code, grad.numel(), *pointers, seed.item(), prob.item(), 0.0, 0.0)


def one_sided(x: Tensor, seed: Tensor, prob: Tensor, out: Tensor) -> None:
    _run(_SIDE, out, x, None, int(seed.item()), prob.item())


def relu_or_silu(x: Tensor, seed: Tensor, prob: Tensor, out: Tensor) -> None:
    _run(_SILU, out, x, None, int(seed.item()), prob.item())


def relu_or_silu_backward(grad: Tensor, x: Tensor, seed: Tensor, prob: Tensor, out: Tensor) -> None:
    _run(_SILU_BACK, out, grad, x, int(seed.item()), prob.item())


def accelerated_backward(grad: Tensor, x: Tensor, activation: str, a: float, b: float, cap: float, out: Tensor) -> None:
    _run(_SLOPES[activation], out, grad, x, 0, a, b, cap)


def batch_norm_statistics(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    factor: float,
    eps: float,
) -> None:
    """Writes what batch normalisation takes of ``x``, and moves the running statistics by ``factor`` towards it."""
    outputs = mean.data_ptr(), invstd.data_ptr(), _pointer(running_mean), _pointer(running_var)
    extension.batch_norm_statistics(*_channels_innermost(x), x.data_ptr(), *outputs, factor, eps)


def batch_norm(
    x: Tensor,
    added: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    drop: tuple[Tensor, Tensor] | None,
    out: Tensor,
) -> None:
    """``drop`` holds seed and drop_prob of a ReLU behind; ``None``: there is no activation."""
    seed, drop_prob = (0, 0.0) if drop is None else (drop[0].item(), drop[1].item())
    statistics = mean.data_ptr(), invstd.data_ptr(), _pointer(weight), _pointer(bias)
    tensors = x.data_ptr(), _pointer(added), out.data_ptr()
    extension.batch_norm_forward(*_channels_innermost(x), *tensors, *statistics, drop is not None, seed, drop_prob)


def batch_norm_backward(
    grad: Tensor,
    y: Tensor | None,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    to_x: Tensor,
    to_added: Tensor | None,
    to_weight: Tensor,
    to_bias: Tensor,
) -> None:
    """``y`` is what came out of the activation; ``None``: there was none, and what was added has ``grad`` itself."""
    inputs = grad.data_ptr(), _pointer(y), x.data_ptr(), mean.data_ptr(), invstd.data_ptr(), _pointer(weight)
    outputs = to_x.data_ptr(), _pointer(to_added), to_weight.data_ptr(), to_bias.data_ptr()
    extension.batch_norm_backward(*_channels_innermost(x), *inputs, *outputs)


def has_weights_gradient() -> bool:
    """Whether `weights_gradient` is there and faster than torch's: AVX512_BF16, and no AMX."""
    return extension is not None and extension.has_weights_gradient() == 2


def weights_gradient(x: Tensor, grad: Tensor, stride: int, out: Tensor) -> None:
    """The gradient ``out`` (O, I, 3, 3), float32 in any layout, of the weights of a convolution with padding 1."""
    images, channels, height, width = x.shape
    shape = images, height, width, channels, grad.shape[1], stride
    extension.weights_gradient(x.data_ptr(), grad.data_ptr(), out.data_ptr(), *shape, *out.stride())


def _channels_innermost(x: Tensor) -> tuple[int, int, int]:
    return _CODES[x.dtype], x.numel(), x.shape[1]


def _pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def bits(seed: int, out: Tensor) -> None:
    """The 32-bit words of the elements of ``out``, an int32 tensor: for tests of their quality."""
    extension.run(_BITS, _CODES[torch.float32], out.numel(), 0, 0, out.data_ptr(), 0, seed, 0.0, 0.0, 0.0)


def _run(
    operation: int,
    out: Tensor,
    a: Tensor,
    b: Tensor | None,
    seed: int = 0,
    p: float = 0.0,
    q: float = 0.0,
    r: float = 0.0,
) -> None:
    extension.run(operation, _CODES[a.dtype], a.numel(), a.data_ptr(), _pointer(b), out.data_ptr(), 0, seed, p, q, r)
