"""A layer's ``drop_prob``: a number, and beside it a tensor for code that must not depend on which.

The number is the layer's own and the truth. Compiled code would be guarded on it and compiled anew at each value, a
CUDA graph would keep the one it was captured with: both read a 0-d tensor instead. That is a plain attribute, neither
parameter nor buffer, written by the layer alone and made anew from the number wherever the layer goes: whoever
initialises, averages, broadcasts, casts, shards or saves the tensors of a model does not see it.
"""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from dropact._arguments import check_probability

RATE = "_rate"  # the attribute's name, which torch.func.functional_call takes another tensor under
_BESIDE = (RATE, "_own_rate", "_copies")  # what no copy and no file of the layer has


class LayerWithRate(nn.Module):
    """Base of the layers that have a ``drop_prob``, which may be set at any time.

    A copy has the rate of its original and then one of its own; but where a schedule moves the original's
    (:func:`dropact.schedules.anneal`), it moves that of copies nobody has set along: an average of weights is evaluated
    at the rate of the model that it averages.
    """

    _rate: Tensor
    _own_rate: Tensor  # the same tensor, unless another stands in for it
    _copies: WeakSet[LayerWithRate]

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self._drop_prob = self._checked(drop_prob)
        self._follows = False  # the original that it is a copy of
        self._begin(torch.get_default_device())

    def _begin(self, device: torch.device) -> None:
        self._copies = WeakSet()
        self.bring_rate(torch.device("cpu") if device.type == "meta" else device)

    def bring_rate(self, device: torch.device) -> None:
        """Make the tensor anew on a device; not on the meta device, where it would have no value."""
        if device.type == "meta":
            return
        # float64 whatever the model's dtype (a bfloat16 0.05 is 0.0500488), where the device has it.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._rate = self._own_rate = torch.full((), self._drop_prob, dtype=dtype, device=device)

    @property
    def drop_prob(self) -> float:
        if not torch.compiler.is_compiling() and self._is_lent() and not _is_wrapped(self._rate):
            return float(self._rate)
        return self._drop_prob

    @drop_prob.setter
    def drop_prob(self, value: float) -> None:
        self._follows = False
        self._write(self._checked(value.item() if isinstance(value, Tensor) else value))

    def move_rate(self, value: float) -> None:
        """Set ``drop_prob``, and that of copies which nobody has set since they were made."""
        value = self._checked(value)
        self._write(value)
        for twin in self._copies:
            if twin._follows:
                twin.move_rate(value)

    def _checked(self, value: float) -> float:
        return float(check_probability(value, "drop_prob"))

    def _write(self, value: float) -> None:
        self._drop_prob = value
        if self._own_rate.is_inference():  # made in inference mode, which alone may write to it
            self.bring_rate(self._own_rate.device)
        else:
            self._own_rate.fill_(value)  # in place: a CUDA graph reads this memory

    def _is_lent(self) -> bool:
        return self._rate is not self._own_rate

    def rate(self) -> float | Tensor:
        """What to compute with: the number, but the tensor in compiled code, and where another stands in for the
        layer's own (:func:`torch.func.functional_call`, of many models at once under vmap)."""
        return self._rate if torch.compiler.is_compiling() or self._is_lent() else self._drop_prob

    def rate_on(self, device: torch.device) -> float | Tensor:
        """The tensor, on a device; the number where a kernel of the CPU takes it, which is cheaper, and on the meta
        device, where there are no values."""
        if torch.compiler.is_compiling() or self._is_lent():
            return self._rate
        if device.type in ("cpu", "meta"):
            return self._drop_prob
        if self._rate.device != device:
            self.bring_rate(device)
        return self._rate

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        super()._apply(fn, recurse)
        # A float32 tensor, which every device takes, finds out where to.
        device = fn(torch.empty((), dtype=torch.float32, device=self._own_rate.device)).device
        if device != self._own_rate.device:
            self.bring_rate(device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _BESIDE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_follows": False})
        self._begin(torch.device("cpu"))

    def __deepcopy__(self, memo: dict[int, Any]) -> LayerWithRate:
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        nn.Module.__setstate__(twin, copy.deepcopy(self.__getstate__(), memo))
        twin._follows = True
        twin._begin(self._own_rate.device)
        self._copies.add(twin)
        return twin


def _is_wrapped(rate: Tensor) -> bool:
    """Whether it is of torch.func's making, and no number to be read."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(rate))
