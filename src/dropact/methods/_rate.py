"""A layer's ``drop_prob``: a number to its user, a buffer to compiled code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dropact._arguments import check_probability

RATE = "_rate"  # the buffer's name


class LayerWithRate(nn.Module):
    """Base of the layers that have a ``drop_prob``, which may be set at any time.

    Compiled code reads it from a 0-d buffer, so that a schedule recompiles nothing; ``state_dict`` does not hold it.
    What others write into the buffer is the rate then, as ``torch.optim.swa_utils.AveragedModel`` does in its copy.
    """

    _rate: Tensor
    _written: tuple[Tensor, int]  # the buffer, and its version when the number was last the same

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.register_buffer(RATE, torch.zeros(()), persistent=False)
        self.drop_prob = drop_prob

    @property
    def drop_prob(self) -> float:
        if torch.compiler.is_compiling():
            return self._drop_prob
        if self._is_replaced() and not self._rate.is_meta and not _is_wrapped(self._rate):
            return float(self._rate)  # lent: the layer's own is not forgotten over it
        self._adopt_rate()
        return self._drop_prob

    @drop_prob.setter
    def drop_prob(self, value: float) -> None:
        if isinstance(value, Tensor):
            value = value.item()
        self._drop_prob = self._checked(value)
        self._write_rate()

    def _checked(self, value: float) -> float:
        return float(check_probability(value, "drop_prob"))

    def rate(self) -> float | Tensor:
        """What to compute with: the number, but the buffer in compiled code, which would be guarded on the number, and
        where another stands in for the layer's own (``torch.func.functional_call``, of many models at once under vmap).
        """
        if torch.compiler.is_compiling() or self._is_replaced():
            return self.training_rate()
        self._adopt_rate()
        return self._drop_prob

    def training_rate(self) -> float | Tensor:
        """The buffer; the number, where the model was made on the meta device and given its weights, but no buffer."""
        return self._drop_prob if self._rate.is_meta else self._rate

    def _is_replaced(self) -> bool:
        return type(self._rate) is Tensor and self._rate is not self._written[0]

    def bring_rate(self, device: torch.device) -> None:
        """Make the buffer anew on a device to which it may not be copied: it may lack float64."""
        self._adopt_rate()
        self._write_rate(device)

    def _write_rate(self, device: torch.device | None = None) -> None:
        device = self._rate.device if device is None else device
        # float64 whatever the model's dtype (a bfloat16 0.05 is 0.0500488), where the device has it.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        fits = (self._rate.dtype, self._rate.device) == (dtype, device)
        if not fits or self._rate.is_inference():  # one made in inference mode is written to only there
            self._rate = torch.empty((), dtype=dtype, device=device)
        self._rate.fill_(self._drop_prob)
        self._note_version()

    def _note_version(self) -> None:
        self._written = self._rate, -1 if self._rate.is_inference() else self._rate._version  # those have none

    def _adopt_rate(self) -> None:
        """Reads the buffer where others have written to it, which waits for the device."""
        rate = self._rate
        if rate.is_meta or rate.is_inference() or (rate is self._written[0] and rate._version == self._written[1]):
            return
        if type(rate) is not Tensor or _is_wrapped(rate):
            return  # it has no number of its own
        self._note_version()
        found = rate.item()
        if torch.tensor(self._drop_prob, dtype=rate.dtype).item() != found:  # not only rounded
            self._drop_prob = self._checked(found)

    def __setstate__(self, state):  # type: ignore[no-untyped-def]
        super().__setstate__(state)
        self._written = self._rate, -1  # others may have written to what was copied: the first to ask reads it

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        # A float32 tensor, which every device takes, finds out where to.
        self.bring_rate(fn(torch.empty((), dtype=torch.float32, device=self._rate.device)).device)
        super()._apply(fn, recurse)
        self._write_rate()  # .half() has rounded it, .to_empty() has lost it
        return self


def _is_wrapped(rate: Tensor) -> bool:
    """Whether it is of torch.func's making, and no number to be read."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(rate))
