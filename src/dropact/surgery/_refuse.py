"""What is not a plain model, and is refused before anything is touched."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

# By the module that a class comes from, so that none of them is imported here.
_WRAPPERS = {
    "torch._dynamo": "compiled by torch.compile",
    "torch.nn.parallel": "wrapped for data-parallel training",
    "torch.distributed": "wrapped for distributed training",
    "deepspeed": "wrapped by DeepSpeed",
}


def refuse_wrapped(model: nn.Module, what: str) -> None:
    """Raise where the model, or a part of it, is scripted, compiled or wrapped.

    Raises:
        TypeError: with the part's name and the way out; or ``model`` is no module at all.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"{what} needs an nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        if (state := _state(module)) is not None:
            part = f"{name!r}, a {type(module).__name__}, is" if name else f"the {type(module).__name__} is"
            raise TypeError(
                f"{what} needs a plain model, but {part} {state}: {what} the plain model first, script, compile or "
                "wrap it afterwards. Nothing was changed"
            )


def refuse_shapeless(module: nn.Module) -> None:
    """Raise where parameters or buffers get their shape in the first run.

    Raises:
        ValueError: one is so.
    """
    if any(is_lazy(t) for t in (*module.parameters(), *module.buffers())):
        raise ValueError("the model has parameters without a shape yet: run it once before")


def _state(module: nn.Module) -> str | None:
    if isinstance(module, torch.jit.ScriptModule):
        return "a TorchScript module"
    if module._compiled_call_impl is not None:
        return "compiled by its compile()"
    for cls in type(module).__mro__:
        for origin, state in _WRAPPERS.items():
            if cls.__module__ == origin or cls.__module__.startswith(f"{origin}."):
                return state
    return None
