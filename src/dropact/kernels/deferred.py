"""The output of a BatchNorm that waits for what is done with it, so that a sum and an activation join its pass.

`batch_norm` takes the statistics and returns a `Deferred`: a tensor with the shape, dtype and gradient of the output,
but without its values. `+ tensor` gives another one; `F.relu` and `drop_relu` compute all of it in one pass. Whatever
else is done computes the values first. Nobody has to know: for autograd it is the output of an ordinary function, and
an operator that reaches it by any way below autograd finds values.

A call that writes into it (`out += shortcut`, `F.relu(out, inplace=True)`) leaves the old object behind: it stands for
the new one from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from dropact.kernels._dispatch import ordinary, plain
from dropact.kernels.batch_norm import BatchNorm, Drop, Moments, forward, moments
from dropact.kernels.drop_relu import drop_relu

_WRITTEN_OVER = (
    "a fused BatchNorm's output was changed in place, and then the old name of it used where gradients cannot be sent "
    "to the new one; use what the call returned, or undo() what dropact.fuse_ gave"
)
# What reads memory without an operator.
_MEMORY = (
    *("numpy", "tolist", "data_ptr", "untyped_storage", "storage", "share_memory_"),
    *("__array__", "__repr__", "__deepcopy__", "__reduce_ex__"),
)


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    factor: float,
    eps: float,
) -> Tensor:
    """``F.batch_norm`` by the statistics of ``x``, its values still to come; for what `batch_norm.serves`."""
    return Deferred.of(x, weight, bias, None, moments(x, running_mean, running_var, factor, eps))


class Deferred(Tensor):
    """See above. Made by `batch_norm`."""

    _inputs: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]  # x, weight, bias, what is added
    _versions: tuple[int, ...]
    _found: Moments
    _value: Tensor | None
    _node: Any  # the grad_fn it was made with; another one is that of a function that passed it on as its own output
    _successor: Tensor | None  # what stands for this one since somebody wrote into it

    @classmethod
    def of(
        cls, x: Tensor, weight: Tensor | None, bias: Tensor | None, added: Tensor | None, found: Moments
    ) -> Deferred:
        inputs = x, weight, bias, added

        def make() -> Deferred:
            made = Tensor._make_wrapper_subclass(cls, x.shape, strides=x.stride(), dtype=x.dtype, device=x.device)
            made._inputs, made._found = inputs, found
            made._versions = _versions(inputs)
            made._value = made._successor = None
            return made

        made: Deferred = BatchNorm.apply(*inputs, found, None, make)
        made._node = made.grad_fn
        return made

    @property
    def pending(self) -> bool:
        """Whether its values are still those of its inputs, and nobody has seen them, nor asked for its gradient.

        Who has seen the values may write to them by another name, and what joins would compute them anew without that.
        """
        return (
            self._successor is None
            and self._value is None
            and not self._backward_hooks
            and not self.retains_grad
            and self.grad_fn is self._node
            and self._versions == _versions(self._inputs)
        )

    def computed(self, drop: Drop | None) -> Tensor:
        """ReLU of it, the nonlinearity dropped at random, in one pass; with ``None``, itself as an ordinary tensor."""
        return BatchNorm.apply(*self._inputs, self._found, drop, None)

    def plus(self, other: Tensor) -> Deferred:
        """Its sum with a tensor of its kind, to which nothing was added so far."""
        return Deferred.of(*self._inputs[:3], other, self._found)

    def value(self) -> Tensor:
        """Its values, below autograd."""
        if self._successor is not None:
            raise RuntimeError(_WRITTEN_OVER)
        if self._value is None:
            if self._versions != _versions(self._inputs):
                raise RuntimeError(
                    "an input of a fused BatchNorm was changed in place before its output was used: it is computed "
                    "where it is used; change a copy, or undo() what dropact.fuse_ gave"
                )
            with torch.no_grad():
                x, weight, bias, added = (None if t is None else t.detach() for t in self._inputs)
                assert x is not None
                self._value = forward(x, weight, bias, added, self._found, None)
        return self._value

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():  # the rules, too, look at shapes without coming by here again
            args = tuple(map(_renewed, args))
            kwargs = {name: _renewed(value) for name, value in kwargs.items()} if kwargs else {}
            rule = _RULES.get(func)
            if rule is not None:
                result = rule(*args, **kwargs)
                if result is not NotImplemented:
                    return result
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        plain_args, plain_kwargs = tree_map_only(Deferred, Deferred.value, (args, kwargs or {}))
        result = func(*plain_args, **plain_kwargs)
        return args[0] if func._schema.is_mutable and isinstance(args[0], Deferred) else result


def _versions(inputs: tuple[Tensor | None, ...]) -> tuple[int, ...]:
    return tuple(t._version for t in inputs if t is not None)


def _latest(x: Deferred) -> Tensor:
    if x._successor is None:
        return x
    if x._successor.requires_grad and not torch.is_grad_enabled():
        # The forward of an autograd function, perhaps, whose gradient would go to the old object.
        raise RuntimeError(_WRITTEN_OVER)
    return x._successor


def _renewed(argument: Any) -> Any:
    """The argument with the latest of each `Deferred` in it; nearly all are flat, and walking a tree is slow."""
    if isinstance(argument, Deferred):
        return _latest(argument)
    return tree_map_only(Deferred, _latest, argument) if isinstance(argument, (list, tuple, dict)) else argument


def _succeed(x: Deferred, successor: Tensor) -> Tensor:
    x._successor = successor
    return successor


# ---- what joins: each returns NotImplemented where it does not ----


def _add(input: Any = None, other: Any = None, *more: Any, alpha: float = 1, **options: Any) -> Any:
    if more or options or alpha != 1:  # such as out=
        return NotImplemented
    x = input
    if not (isinstance(x, Deferred) and x.pending and x._inputs[3] is None):
        x, other = other, input
    if not (isinstance(x, Deferred) and x.pending and x._inputs[3] is None):
        return NotImplemented
    if not isinstance(other, Tensor) or (other.shape, other.dtype, other.device) != (x.shape, x.dtype, x.device):
        return NotImplemented
    if isinstance(other, Deferred):
        other = other.clone()
    return x.plus(other) if plain(other) else NotImplemented


def _add_(input: Any, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(input, Deferred):
        return NotImplemented
    result = _add(input, *args, **kwargs)
    return result if result is NotImplemented else _succeed(input, result)


def _drop_relu(x: Any, seed: Tensor, drop_prob: float | Tensor, inplace: bool = False) -> Any:
    if not (isinstance(x, Deferred) and x.pending):
        return NotImplemented
    if not isinstance(drop_prob, Tensor):
        drop_prob = torch.full((), drop_prob, dtype=torch.float64)
    y = x.computed((seed, drop_prob))
    return _succeed(x, y) if inplace else y


def _relu(input: Any, inplace: bool = False) -> Any:
    return _drop_relu(input, _NO_SEED, _NEVER, inplace)


def _relu_(input: Any) -> Any:
    return _relu(input, inplace=True)


def _ordinary(x: Any) -> Any:
    return x.computed(None) if isinstance(x, Deferred) and x.pending else NotImplemented


_NO_SEED, _NEVER = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.float64)
_RULES: dict[Any, Callable[..., Any]] = {
    drop_relu: _drop_relu,
    ordinary: _ordinary,
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__), _add),
    **dict.fromkeys((Tensor.add_, Tensor.__iadd__), _add_),
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), _relu),
    **dict.fromkeys((F.relu_, torch.relu_, Tensor.relu_), _relu_),
}


def _through_a_copy(func: Any) -> Callable[..., Any]:
    return lambda x, *args, **kwargs: func(x.clone(), *args, **kwargs) if isinstance(x, Deferred) else NotImplemented


_RULES.update({func: _through_a_copy(func) for func in (getattr(Tensor, name) for name in _MEMORY)})
