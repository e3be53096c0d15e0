"""Run a model and leave no trace: tensors, attributes, hooks, random states are afterwards what they were."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dropact.methods._shared import no_shared_seed_taken

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What to call a model with: one tensor, a tuple of positional or a mapping of keyword arguments.

    Raises:
        TypeError: anything else.
    """
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, tuple):
        return inputs, {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    raise TypeError(
        "inputs must be a tensor, a tuple of the model's positional arguments or a mapping of its keyword arguments, "
        f"got {type(inputs).__name__}"
    )


def run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int | None = None) -> Any:
    """What ``model`` returns, without gradients, for copies of these arguments; the model is left as it was."""
    with unchanged(model), torch.no_grad():
        if seed is not None:
            seed_generators(model, seed)
        return model(*_copied(args), **_copied(kwargs))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (tuple, list):
        return type(value)(map(_copied, value))
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return value


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """What happens to the model and to random states within is undone: values and shapes of its parameters and buffers,
    its modules, their hooks, attributes and the lists and dictionaries among these."""
    python = random.getstate()
    with ExitStack() as at_the_end:
        at_the_end.callback(random.setstate, python)
        tensors = {id(t): t for m in model.modules() for t in (*m._parameters.values(), *m._buffers.values())}
        for tensor in tensors.values():
            if tensor is not None:
                at_the_end.callback(_put_back, tensor, tensor.detach(), tensor.detach().clone(), tensor._version)
        for module in model.modules():
            at_the_end.callback(_restore, vars(module), dict(vars(module)))
            for held in vars(module).values():
                if isinstance(held, dict) or type(held) in (list, set):
                    at_the_end.callback(_restore, held, held.copy())
        with torch.random.fork_rng(devices=_cuda_devices(model)), no_shared_seed_taken(model):
            yield


def _restore(held: Any, before: Any) -> None:
    if len(held) == len(before) and (held is before or all(a is b for a, b in _pairs(held, before))):
        return
    held.clear()
    (held.extend if isinstance(held, list) else held.update)(before)


def _pairs(held: Any, before: Any) -> Iterator[tuple[Any, Any]]:
    one, other = ([*h, *(h.values() if isinstance(h, dict) else ())] for h in (held, before))
    return zip(one, other, strict=True)


@torch.no_grad()
def _put_back(tensor: Tensor, memory: Tensor, value: Tensor, version: int) -> None:
    if tensor.layout is not torch.strided:
        if tensor._version != version:
            tensor.copy_(value)
        return
    moved = tensor.device != memory.device or tensor.data_ptr() != memory.data_ptr()
    if moved or tensor.shape != memory.shape or tensor.stride() != memory.stride():
        tensor.data = memory
    if not torch.equal(tensor, value):  # an expanded one cannot be written to
        tensor.copy_(value)


def seed_generators(model: nn.Module, seed: int) -> None:
    """What ``torch.manual_seed`` does, for the CPU and the model's own devices alone: it seeds all that there are, and
    whoever puts states back puts back those of the model's."""
    torch.default_generator.manual_seed(seed)
    for device in _cuda_devices(model):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _cuda_devices(model: nn.Module) -> list[torch.device]:
    return [d for d in {t.device for t in (*model.parameters(), *model.buffers())} if d.type == "cuda"]


@contextmanager
def patched(forwards: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    # Through the instance's forward, not through hooks: some models call `module.forward`.
    before = [(vars(module), vars(module).get("forward"), forward) for module, forward in forwards]
    try:
        for held, _, forward in before:
            held["forward"] = forward
        yield
    finally:
        for held, old, _ in before:
            held.pop("forward", None)
            held.update({"forward": old} if old is not None else {})
