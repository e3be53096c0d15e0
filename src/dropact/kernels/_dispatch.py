"""Which backend serves a tensor, and the layout it is handed in."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from dropact import _random
from dropact._random import is_chosen
from dropact._sharding import bits_of_part, is_sharded, of_parts, part_of, whole_values
from dropact.kernels import cpu

# Anything a backend lacks is served by kernels/reference.py.
library = torch.library.Library("dropact", "FRAGMENT")
_warned: set[str] = set()
_is_legacy_batchedtensor = torch._C._functorch.is_legacy_batchedtensor


def backend(device: torch.device | str = "cpu") -> str:
    """What serves the eager tensors of a device, in words.

    >>> backend("meta")
    'torch'
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return cpu.description if cpu.extension is not None else f"torch ({cpu.description})"
    return "Triton" if kind == "cuda" and _triton() is not None else "torch"


@functools.cache
def _triton() -> ModuleType | None:
    try:
        from dropact.kernels import cuda  # Triton is not loaded before a CUDA tensor arrives
    except ImportError:
        return None
    return cuda


def _keys_on_cuda(seed: Tensor, row: int) -> Tensor:
    triton = _triton()
    # Without Triton there is no compiler for CUDA either; the definition waits for the device, and is right.
    return triton.keys(seed) if triton is not None and row == 0 else _random._keys_op(seed, row)


library.impl("keys", _keys_on_cuda, "CUDA")


def backend_for(x: Tensor) -> ModuleType | None:
    """The module of kernels that serves ``x``; ``None``, after one warning, where the torch definition has to."""
    if x.is_cpu and cpu.serves(x.dtype):
        return cpu
    kind = x.device.type
    if kind == "cuda" and (triton := _triton()) is not None:
        return triton
    if kind in ("cpu", "cuda") and kind not in _warned:
        _warned.add(kind)
        if kind == "cuda":
            why = "Triton cannot be imported"
        elif cpu.extension is None:
            # pip keeps the wheel that it built without a compiler, and would take it again
            again = "pip install --force-reinstall --no-deps --no-cache-dir dropact"
            why = f"the C extension was not built: {cpu.description}; with a C compiler at hand: {again}"
        else:
            why = f"there is none for {x.dtype}"
        warnings.warn(
            f"dropact's fused {kind} operations are not available ({why}). The torch definition serves: the same "
            "results, several times slower",
            stacklevel=2,
        )
    return None


def forward_mode() -> bool:
    """Whether derivatives are carried forward, by tangents: a kernel would lose them without a word."""
    return forward_ad._current_level >= 0


def transformed() -> bool:
    """Whether a transform of torch.func, or differentiation in forward mode, is at work: they need to see plain torch
    operations."""
    return torch._C._are_functorch_transforms_active() or forward_mode()


def plain(x: Tensor) -> bool:
    """An ordinary tensor that no mode watches: the dispatcher would only lead to our own functions, 5 us later."""
    return type(x) is Tensor and torch._C._len_torch_dispatch_stack() == 0 and not _without_values(x)


def _without_values(x: Tensor) -> bool:
    """Whether the values are not what its memory holds, if it has any: to be negated, zeros that were never written, or
    many gradients at once under ``is_grads_batched``. Autograd hands over all of these."""
    return x.is_neg() or x._is_zerotensor() or _is_legacy_batchedtensor(x)


def has_activations(served: ModuleType, x: Tensor) -> bool:
    """Whether a backend computes activations in the precision of ``x``: C does in float32 and below alone."""
    return served is not cpu or x.dtype != torch.float64


def backend_of_backward(grad: Tensor, x: Tensor) -> ModuleType | None:
    """The kernels for a gradient that takes an exponential and is no operator of torch; ``None`` where the torch
    definition has to serve, also to be differentiated again, compiled or transformed."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or transformed() or not (plain(x) and plain(grad)):
        return None
    served = backend_for(x)
    return served if served is not None and has_activations(served, x) else None


def in_place_serves(x: Tensor) -> bool:
    """Whether a kernel may write into ``x``: not into a leaf whose gradient is asked for, which torch then refuses."""
    return (
        not torch.compiler.is_compiling()
        and not (x.is_leaf and x.requires_grad and torch.is_grad_enabled())
        and plain(x)
        and backend_for(x) is not None
        and x.stride() == torch.empty_like(x).stride()
    )


def laid_out(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """``x`` with these strides, copied if it has others. Differentiable."""
    return x if x.stride() == strides else x.new_empty_strided(x.shape, strides).copy_(x)


def on_device(value: float | Tensor, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(like.device)
    dtype = torch.float32 if like.device.type == "mps" else torch.float64  # which that one does not have
    return torch.full((), value, dtype=dtype, device=like.device)


class Operator:
    """An operator of torch: its schema, its torch definition, its kernel, its autograd function and its shapes; and
    what compilers trace where that is not the definition; and what a part of a sharded tensor becomes, given a function
    from a seed to its bits, where that is not one of what everything becomes at a probability of 0 and of 1.

    Called, it is differentiable; ``compute`` is for the inside of autograd functions. A compiler or exporter is given
    the autograd function around the torch definition, to trace and fuse.
    """

    def __init__(
        self,
        schema: str,
        reference: Callable[..., Any],
        kernel: Callable[..., Any],
        differentiable: type[Function],
        fake: Callable[..., Any],
        traced: Callable[..., Any] | None = None,
        of_part: Callable[..., Any] | None = None,
    ) -> None:
        name = schema.partition("(")[0]
        library.define(schema)
        library.impl(name, self.eager, "CompositeExplicitAutograd")
        library.impl(name, differentiable.apply, "Autograd")
        torch.library.register_fake(f"dropact::{name}", fake, lib=library)
        self._op = getattr(torch.ops.dropact, name).default
        self._reference, self._kernel, self._traced = reference, kernel, traced or reference
        self._function = differentiable
        self._of_part: Callable[..., Any] = of_part or self._either

    def __call__(self, *args: Any) -> Any:
        if is_sharded(args[0]):
            return self._of_parts(*args)
        if torch.compiler.is_compiling():
            return self._function.apply(*args)
        if not plain(args[0]):
            return self._op(*args)
        return self._function.apply(*args) if torch.is_grad_enabled() else self.eager(*args)

    def eager(self, *args: Any) -> Any:
        """Of an ordinary tensor that no mode watches, without a gradient."""
        served = backend_for(args[0])
        return self._reference(*args) if served is None else self._kernel(served, *args)

    def _of_parts(self, x: Any, *args: Any) -> Any:
        placements = whole_values(x)
        rest = [part_of(arg, placements) if isinstance(arg, Tensor) else arg for arg in args]
        return of_parts(x, lambda part: self._of_part(part, *rest, partial(bits_of_part, x=x)))

    def _either(self, x: Tensor, seed: Tensor, prob: Tensor, bits: Callable[[Tensor], Tensor]) -> Tensor:
        """What there is at a probability of 1 where a bit of the whole says so, else what there is at 0."""
        never, always = (self(x, seed, torch.full_like(prob, value)) for value in (0, 1))
        return torch.where(is_chosen(bits(seed), prob), always, never)

    def compute(self, *args: Any) -> Any:
        if torch.compiler.is_compiling():
            return self._traced(*args)
        return self.eager(*args) if plain(args[0]) else compute_below_autograd(self._op, *args)


def compute_below_autograd(operator: Any, *args: Any) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*args)
