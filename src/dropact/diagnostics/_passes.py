"""Extra forward passes that leave no trace, and what stands in a model to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from dropact._activations import ELEMENTWISE_MODULES
from dropact.methods._activation import is_method
from dropact.methods._rate import RATE
from dropact.methods._shared import no_shared_seed_taken

Look = Callable[[str, int, Tensor | None, Tensor], None]


def method_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The activations of dropact in ``model`` by name; one that stands at several places once."""
    return {name: module for name, module in model.named_modules() if is_method(module)}


def require_method_layers(model: nn.Module, purpose: str) -> dict[str, nn.Module]:
    """Those layers, of which there must be one.

    Raises:
        ValueError: there is none.
    """
    layers = method_layers(model)
    if not layers:
        raise ValueError(
            f"the model has no activation of dropact {purpose}: convert it with dropact.convert_ first "
            f"(residual branches under stochastic depth do not count here)"
        )
    return layers


def activation_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of dropact and the stock activation modules by name; what stands inside a layer of dropact not."""
    found: dict[str, nn.Module] = {}
    layers = method_layers(model)
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in layers)
        if name in layers or (isinstance(module, ELEMENTWISE_MODULES) and not inside):
            found[name] = module
    return found


def named_modules(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Those modules of the model.

    Raises:
        ValueError: one is not there.
    """
    known = dict(model.named_modules())
    for name in names:
        if name not in known:
            raise ValueError(f"the model has no module {name!r}, accepted: {', '.join(filter(None, known))}")
    return {name: known[name] for name in names}


def inner(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of ``torch.compile`` and of data parallelism."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(found := model._modules.get("_orig_mod"), nn.Module):
            model = found
        else:
            return model


def first_tensor(value: object) -> Tensor | None:
    """The first floating tensor in a model's output or arguments, however nested."""
    return next((t for t in tree_leaves(value) if isinstance(t, Tensor) and t.is_floating_point()), None)


@contextmanager
def modes(model: nn.Module) -> Iterator[None]:
    """Puts every module's train/eval flag back on leaving."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def set_mode(model: nn.Module, training: bool) -> None:
    # Not model.train(): a model may have given that a meaning of its own, and the flag alone can be put back.
    for module in model.modules():
        module.training = training


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, for as long as it lasts."""
    with modes(model):
        set_mode(model, False)
        yield


def only_argument(batch: Any) -> Any:
    """What a model is called with: the batch, or the first of a tuple or list such as images and labels."""
    return batch[0] if isinstance(batch, tuple | list) else batch


def check_every(every: object) -> None:
    """Raises: ValueError: it is no number of steps."""
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a whole number of at least 1, got {every!r}")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Forward passes in here change neither buffers, nor flags, nor generators, nor the count of shared seeds.

    The buffers' tensors are swapped for copies rather than written back, as a graph built before may hold them. Rates
    stay: no pass writes them, and to a layer another buffer is another rate, of which it has no number.
    """
    held = [(m, {n: b for n, b in m._buffers.items() if n != RATE}) for m in model.modules()]
    copies = {id(b): b.clone() for _, buffers in held for b in buffers.values() if b is not None}
    rng = torch.random.fork_rng(_cuda_devices(model))
    with torch.no_grad(), rng, no_shared_seed_taken(model), _eager(), modes(model):
        try:
            for module, buffers in held:
                module._buffers.update({n: b if b is None else copies[id(b)] for n, b in buffers.items()})
            yield
        finally:
            for module, buffers in held:
                module._buffers.update(buffers)


def _cuda_devices(model: nn.Module) -> list[int]:
    tensors = [*model.parameters(), *model.buffers()]
    return sorted({t.device.index for t in tensors if t.device.type == "cuda" and t.device.index is not None})


@contextmanager
def _eager() -> Iterator[None]:
    """Compiled parts of the model run as written, with the hooks that compiled code would not see."""
    if torch.compiler.is_compiling():
        yield
    else:
        with torch.compiler.set_stance("force_eager"):
            yield


def look_through(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], sites: Mapping[str, nn.Module], look: Look
) -> None:
    """One forward pass on a copy of the arguments; ``look(name, call, input, output)`` at every call of a site, from 0.

    The input is as it was before the call; the first floating tensor of each is taken, and a call that returns none is
    passed over.
    """
    inputs: dict[str, Tensor | None] = {}
    calls: dict[str, int] = {}

    def before(name: str, args: tuple[Any, ...]) -> None:
        x = first_tensor(args)
        overwritten = getattr(sites[name], "inplace", False)
        inputs[name] = x.clone() if x is not None and overwritten else x

    def after(name: str, output: object) -> None:
        call = calls[name] = calls.get(name, -1) + 1
        y, x = first_tensor(output), inputs.pop(name, None)
        if y is not None:
            look(name, call, x, y)

    with ExitStack() as hooks:
        for name, site in sites.items():
            hooks.enter_context(site.register_forward_pre_hook(lambda _, args, name=name: before(name, args)))
            hooks.enter_context(site.register_forward_hook(lambda _, args, output, name=name: after(name, output)))
        copied_args, copied_kwargs = tree_map_only(Tensor, Tensor.clone, (tuple(args), dict(kwargs)))
        model(*copied_args, **copied_kwargs)
