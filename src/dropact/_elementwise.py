"""Activations by name, module or callable, in one form: an elementwise function to call and a name to show."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dropact._activations import BY_NAME, Activation, fused


def resolve(activation: Activation) -> Callable[[Tensor], Tensor]:
    """The function behind ``activation``.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
        TypeError: neither a name nor a callable.
    """
    if isinstance(activation, str):
        if activation not in BY_NAME:
            raise ValueError(f"unknown activation {activation!r}: choose from {', '.join(BY_NAME)}, or pass a callable")
        return BY_NAME[activation]
    if not callable(activation):
        raise TypeError(f"activation must be a name or an elementwise callable, got {activation!r}")
    return activation


def apply(activation: Activation, x: Tensor) -> Tensor:
    """``f(x)``, leaving ``x`` as it is even where ``activation`` works in place, which its attribute ``inplace`` says.

    Raises:
        ValueError: the result has not the shape and dtype of ``x``, or ``x`` was written into and no ``inplace`` says
            so.
    """
    counted = _counts_writes(x)
    # Where a write would not be seen, what may make one gets a copy; a compiler leaves out one that nobody writes into.
    copied = getattr(activation, "inplace", False) or not (counted or _says_where_it_writes(activation))
    before = x._version if counted else 0
    fx = resolve(activation)(x.clone() if copied else x)
    if counted and x._version != before:
        raise ValueError(
            f"activation {show(activation)} wrote into its input, which has to stay as it is: set the activation's "
            "attribute inplace to True, and it gets a copy"
        )
    if fx.dtype != x.dtype and fx.is_floating_point() and torch.is_autocast_enabled(x.device.type):
        fx = fx.to(x.dtype)  # PReLU and its like take the narrow dtype there
    if fx.shape != x.shape or fx.dtype != x.dtype:
        raise ValueError(
            f"activation {show(activation)} must be elementwise and keep the dtype: it turned {x.dtype} of shape "
            f"{tuple(x.shape)} into {fx.dtype} of shape {tuple(fx.shape)}"
        )
    return fx


def _counts_writes(x: Tensor) -> bool:
    """Whether ``x._version`` tells of every write: in traced code and in inference mode it is not there, under vmap it
    stays, and what is written into a subclass may go elsewhere."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or type(x) is not Tensor
        or x.is_inference()
    )


def _says_where_it_writes(activation: Activation) -> bool:
    """Whether it is one of torch's activation modules, or of the table, by name or function."""
    if isinstance(activation, nn.Module):
        return type(activation).__module__ == "torch.nn.modules.activation"
    return isinstance(activation, str) or fused(activation) is not None


def mix(f: Tensor, g: Tensor, prob: float | Tensor) -> Tensor:
    """``(1 - prob) * f + prob * g``, in the dtype of ``f``; at 0 and 1 one alone, as 0 times infinity is no number."""
    if isinstance(prob, Tensor):
        mixed = torch.where(prob == 0, f, torch.where(prob == 1, g, (1 - prob) * f + prob * g))
        return mixed.to(f.dtype)  # else a 0-d ``f`` would take that of ``prob``
    if prob in (0, 1):
        return (g if prob else f).clone()
    return (1 - prob) * f + prob * g


def show(activation: Activation) -> str:
    if isinstance(activation, str):
        return activation
    return getattr(activation, "__name__", None) or str(activation)
