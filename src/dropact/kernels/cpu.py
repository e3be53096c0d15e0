"""The C backend: hands dense CPU tensors to ``_cpu.c`` as pointers.

Every function writes into ``out``; all tensors of a call are dense and share one shape and one storage order.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dropact._activations import Fused


# Where the enumerations of _cpu.c are repeated.
_DROP, _DROP_BACK, _CHOOSE, _CHOOSE_BACK, _RRELU, _RRELU_BACK, _BITS = range(7)
_ACTIVATIONS = (
    *("identity", "relu", "negative_part", "leaky_relu", "hardtanh", "elu", "gelu", "gelu_tanh", "silu"),
    *("silu_below_zero", "mish", "tanh", "sigmoid", "softplus", "logsigmoid", "softsign", "hardswish", "hardsigmoid"),
    *("accelerated_relu", "accelerated_tanh", "accelerated_sigmoid"),
)
CODES = {name: code for code, name in enumerate(_ACTIVATIONS)}
_NONE = (0.0, 0.0, 0.0)
_OPENMP = ("omp_get_max_threads", "omp_get_thread_num", "omp_get_num_threads", "omp_in_parallel", "GOMP_parallel")
_CODES = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.float64: 3}


def load() -> tuple[Any, str]:
    """The extension module and what it runs on, or ``None`` and why there is none."""
    try:
        module = importlib.import_module("dropact.kernels._cpu")
    except ImportError as error:
        return None, str(error)
    instructions = module.use_instructions("best")
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):  # torch's OpenMP pool as this library sees it: see _cpu.c
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(os.path.join(os.path.dirname(torch.__file__), "lib", name))
            module.use_threads(*(ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value for symbol in _OPENMP))
            return module, f"C, {instructions}, the OpenMP threads of torch"
    return module, f"C, {instructions}, one thread"


extension, description = load()


def serves(dtype: torch.dtype) -> bool:
    return extension is not None and dtype in _CODES


def drop_relu(x: Tensor, seed: Tensor, drop_prob: float | Tensor, out: Tensor) -> None:
    p = drop_prob if isinstance(drop_prob, float) else drop_prob.item()
    extension.run(_DROP, _CODES[x.dtype], x.numel(), x.data_ptr(), 0, out.data_ptr(), 0, seed.item(), p, 0.0)


def drop_relu_backward(grad: Tensor, y: Tensor, out: Tensor) -> None:
    pointers = grad.data_ptr(), y.data_ptr(), out.data_ptr()
    extension.run(_DROP_BACK, _CODES[y.dtype], y.numel(), *pointers, 0, 0, 0.0, 0.0)


def randomized_relu(x: Tensor, seed: Tensor, lower: float, upper: float, out: Tensor) -> None:
    _run(_RRELU, out, x, None, int(seed.item()), lower, upper)


def randomized_relu_backward(grad: Tensor, y: Tensor, seed: Tensor, lower: float, upper: float, out: Tensor) -> None:
    _run(_RRELU_BACK, out, grad, y, int(seed.item()), lower, upper)


def choose(a: Tensor, b: Tensor, seed: Tensor, prob: Tensor, out: Tensor) -> None:
    _run(_CHOOSE, out, a, b, int(seed.item()), prob.item())


def choose_backward(grad: Tensor, seed: Tensor, prob: Tensor, out_a: Tensor, out_b: Tensor) -> None:
    code = _CODES[grad.dtype]
    pointers = grad.data_ptr(), 0, out_a.data_ptr(), out_b.data_ptr()
    extension.run(_CHOOSE_BACK, code, grad.numel(), *pointers, seed.item(), prob.item(), 0.0)


def pair(x: Tensor, seed: Any, prob: Any, f: Fused, g: Fused, mean: bool, out: Tensor) -> None:
    _pair(x, None, seed, prob, f, g, mean, out)


def pair_backward(grad: Tensor, x: Tensor, seed: Any, prob: Any, f: Fused, g: Fused, mean: bool, out: Tensor) -> None:
    _pair(grad, x, seed, prob, f, g, mean, out)


def _pair(a: Tensor, b: Tensor | None, seed: Any, prob: Any, f: Fused, g: Fused, mean: bool, out: Tensor) -> None:
    key, p = 0 if seed is None else seed.item(), prob if isinstance(prob, float) else prob.item()
    extension.pair(
        _CODES[a.dtype], a.numel(), a.data_ptr(), _pointer(b), out.data_ptr(), key, p, mean, *_coded(f), *_coded(g)
    )


def _coded(of: Fused) -> tuple[float, ...]:
    return CODES[of.name], *of.settings, *_NONE[len(of.settings) :]


def accelerated_backward(grad: Tensor, x: Tensor, activation: str, a: float, b: float, cap: float, out: Tensor) -> None:
    code, pointers = CODES[f"accelerated_{activation}"], (grad.data_ptr(), x.data_ptr(), out.data_ptr())
    extension.pair(_CODES[grad.dtype], grad.numel(), *pointers, 0, 0.0, True, code, a, b, cap, 0, *_NONE)


def _pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def bits(seed: int, out: Tensor) -> None:
    """The 32-bit words of the elements of ``out``, an int32 tensor: for tests of their quality."""
    extension.run(_BITS, _CODES[torch.float32], out.numel(), 0, 0, out.data_ptr(), 0, seed, 0.0, 0.0)


def _run(
    operation: int,
    out: Tensor,
    a: Tensor,
    b: Tensor | None,
    seed: int = 0,
    p: float = 0.0,
    q: float = 0.0,
) -> None:
    extension.run(operation, _CODES[a.dtype], a.numel(), a.data_ptr(), _pointer(b), out.data_ptr(), 0, seed, p, q)
