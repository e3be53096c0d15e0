"""How much gradient reaches the units of each layer: the mean size of the loss's derivative by the net inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from dropact.diagnostics._passes import activation_layers, check_every, first_tensor, inner, named_modules
from dropact.diagnostics.recording import Recording


@contextmanager
def record_gradients(model: nn.Module, modules: Sequence[str] | None = None, every: int = 1) -> Iterator[Recording]:
    """Record the gradient information of each activation layer in the training steps made while the context lasts.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    >>> with record_gradients(model) as recording:
    ...     for step in range(3):
    ...         model(torch.ones(5, 4)).sum().backward()
    >>> [step for step, size in recording.series("gradient_information", "1") if size > 0]
    [0, 1, 2]
    >>> recording.means("gradient_information").keys()
    dict_keys(['1'])

    ``gradient_information`` at a layer is ``mean |dL / dx|`` over the samples and units of its input x, the net input,
    in the backward pass of the step itself: dropout, GAAF and all are at work, and no pass is added. ``L`` is what
    ``backward`` is called on: of a mean over N samples, each sample's gradient has the factor 1 / N.

    Args:
        model: the module that the training loop calls, not compiled.
        modules: names of the modules whose inputs are the net inputs; every activation layer if ``None``.
        every: steps from one that is recorded to the next, the first included. A step is a call of the model in
            training mode; its readings come with its backward pass.

    Yields:
        A :class:`Recording`, filled as training goes on.

    Raises:
        ValueError: ``every`` below 1, a name that is not in the model, no activation layer, or a compiled model, whose
            code has no gradient in between.

    Warns:
        UserWarning: no gradient arrived.

    Source: "gradient information" of arXiv:1806.09783, which averages it over the iterations as well.
    """
    check_every(every)
    target = inner(model)
    if hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None:
        raise ValueError("model is compiled, and has no gradient in between: record the plain model")
    sites = activation_layers(target) if modules is None else named_modules(target, modules)
    if not sites:
        raise ValueError("the model has no activation layer: name the modules whose inputs are to be looked at")
    recording = Recording()
    calls: dict[str, int] = {}
    wanted = False

    def begin(_: nn.Module, args: tuple[Any, ...]) -> None:
        nonlocal wanted
        wanted = target.training and recording.steps % every == 0
        recording.steps += target.training
        calls.clear()

    def watch(name: str, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        x = first_tensor((args, kwargs))
        if not wanted or x is None or not x.requires_grad:
            return
        call = calls[name] = calls.get(name, 0) + 1
        step, site = recording.steps - 1, name if call == 1 else f"{name}:{call}"

        def keep(grad: Tensor) -> None:
            recording._kept.append((step, site, {"gradient_information": grad.detach().float().abs().mean()}))

        x.register_hook(keep)

    with ExitStack() as hooks:
        hooks.enter_context(model.register_forward_pre_hook(begin, prepend=True))
        for name, site in sites.items():
            hook = partial(watch, name)
            hooks.enter_context(site.register_forward_pre_hook(hook, with_kwargs=True))
        yield recording
    if not recording._kept:
        warnings.warn(
            "no gradient was recorded: the model was not called in training mode and differentiated", stacklevel=3
        )
