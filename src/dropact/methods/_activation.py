"""What an activation is as a module: its stock class, its plainest name, whether it is ReLU."""

from __future__ import annotations

import contextlib
import copy
import operator
from typing import Any, Protocol, runtime_checkable

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from dropact._activations import ELEMENTWISE_MODULES, STOCK_MODULES, Activation, fused, is_relu
from dropact._elementwise import apply


@runtime_checkable
class Method(Protocol):
    """A layer that takes the place of an activation, ours or anybody's: conversion knows no method by name.

    Beside these it has an ``activation``, what it stands for. (A protocol does not see one that is a module's child.)
    If its output in training is that in evaluation plus noise of mean 0, ``noise(x)`` returns the noise's
    :class:`dropact.theory.UnitNoise`, by which ``dropact.diagnostics`` predicts what it does.
    """

    def replacement_for(self, activation: Activation) -> nn.Module | None:
        """What this layer would be in place of ``activation``; ``None``: it cannot replace that one."""

    def folded(self) -> nn.Module:
        """A stock layer with this layer's evaluation output, in either mode."""


def is_method(value: object) -> bool:
    """Whether ``value`` is such a layer, rather than its class."""
    return isinstance(value, Method) and not isinstance(value, type)


def evaluate(activation: Activation, x: Tensor, inplace: bool) -> Tensor:
    """``f(x)``, written into ``x`` if ``inplace``."""
    if is_relu(activation):
        return F.relu(x, inplace=inplace)
    y = apply(activation, x.clone() if inplace else x)
    return x.copy_(y) if inplace else y


def same(one: Activation | None, other: Activation | None) -> bool:
    """Whether two activations are one and the same, however they are given.

    >>> same("gelu", F.gelu), same(nn.GELU(), torch.nn.functional.gelu), same(nn.ELU(0.3), nn.ELU(0.3, inplace=True))
    (True, True, True)
    >>> same("gelu", nn.GELU("tanh")), same(nn.ELU(0.3), nn.ELU(0.2)), same(nn.PReLU(), nn.PReLU())
    (False, False, False)
    """
    return _identity(one) == _identity(other)


def _identity(activation: Activation | None) -> object:
    """Equal for activations that are the same: a kernel's or a stock class with its settings, or the thing itself."""
    known = None if activation is None else fused(activation) or simplest(activation)
    if isinstance(known, nn.Module) and type(known) in ELEMENTWISE_MODULES and not known.state_dict():
        return type(known), tuple(_settings(known).items())
    return known


def underlying(activation: Activation) -> Activation:
    """What a layer that replaces ``activation`` acts on: the activation of another method's layer, else itself."""
    return activation.activation if isinstance(activation, Method) else simplest(activation)


def simplest(module: Activation) -> Activation:
    """The name of a stock module whose settings are the function's own, else the module itself, parameters and all."""
    for name, cls in STOCK_MODULES.items():
        if isinstance(module, nn.Module) and type(module) is cls and _settings(module) == _settings(cls()):
            return name
    return module


def stock(activation: Activation, inplace: bool = False) -> nn.Module:
    """``activation`` as a module that needs nothing of dropact, and writes into its input if ``inplace``.

    ReLU comes as ``nn.ReLU`` however it is given.
    """
    if is_relu(activation):
        return nn.ReLU(inplace)
    module = _module(activation)
    own = bool(getattr(activation, "inplace", False))
    if inplace and not own and isinstance(activation, str) and hasattr(module, "inplace"):
        return STOCK_MODULES[activation](inplace=True)
    return module if own == inplace else mixed("FoldedActivation", 0.0, {"activation": (activation, 1.0)}, inplace)


def _module(activation: Activation) -> nn.Module:
    if isinstance(activation, str):
        return STOCK_MODULES[activation]()
    if isinstance(activation, nn.Module):
        return activation
    home = getattr(activation, "__module__", None) or ""  # None: the apply of an autograd function
    if home.startswith("dropact."):
        traced = torch.fx.symbolic_trace(activation)
        for node in traced.graph.nodes:
            node.type = None  # the annotation's text, which TorchScript cannot read, nor torch 2.11 pickle
        traced.recompile()
        return traced
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    if hasattr(activation, "__name__") and home:
        graph.output(graph.call_function(activation, (x,)))
        return torch.fx.GraphModule({}, graph, "FoldedActivation")
    # A partial or an object that can be called: a graph's code calls functions by their name, and objects it holds.
    graph.output(graph.call_method("__call__", (graph.get_attr("function"), x)))
    return torch.fx.GraphModule({"function": activation}, graph, "FoldedActivation")


def mixed(
    name: str, of_input: float, parts: dict[str, tuple[Activation, float]], inplace: bool
) -> torch.fx.GraphModule:
    """The module ``of_input * x + share * f(x) + ...`` of stock operations, written into ``x`` if ``inplace``.

    It holds each function under its name; but ``activation``, if it has a state, in the module itself, so that the keys
    of the ``state_dict`` are that activation's own.
    """
    graph = torch.fx.Graph()
    root: dict[str, Any] = {}
    x = graph.placeholder("x")
    # What they keep for backward must not be overwritten.
    read = graph.call_method("clone", (x,)) if inplace else x
    shares = [graph.call_function(operator.mul, (read, of_input))] if of_input else []
    for child, (function, share) in parts.items():
        module = _module(function)
        source = graph.call_method("clone", (read,)) if getattr(function, "inplace", False) else read
        traced = _traced(module) if child == "activation" and module.state_dict() else None
        if traced is None:
            root[child] = module
            y = graph.call_module(child, (source,))
        else:
            root |= _held(module, traced)
            (given,) = (node for node in traced.graph.nodes if node.op == "placeholder")
            y = graph.graph_copy(traced.graph, {given: source})  # type: ignore[assignment]
        shares.append(y if share == 1 else graph.call_function(operator.mul, (y, share)))
    total = shares[0]
    for more in shares[1:]:
        total = graph.call_function(operator.add, (total, more))
    graph.output(graph.call_method("copy_", (x, total)) if inplace else total)
    return torch.fx.GraphModule(root, graph, name)


def _traced(module: nn.Module) -> torch.fx.GraphModule | None:
    """Its operations in evaluation; ``None`` where they cannot be followed or are no function of the input alone."""
    try:
        twin = copy.deepcopy(module).eval()
        traced = torch.fx.symbolic_trace(twin)
    except Exception:  # whatever a module does with what is no tensor
        return None
    kept = all(torch.equal(t, twin.state_dict()[key]) for key, t in module.state_dict().items())
    return traced if kept and sum(node.op == "placeholder" for node in traced.graph.nodes) == 1 else None


def _held(module: nn.Module, traced: torch.fx.GraphModule) -> dict[str, object]:
    """What the traced operations use, of ``module`` itself where it is not a constant of theirs."""
    used = dict.fromkeys(node.target for node in traced.graph.nodes if node.op in ("get_attr", "call_module"))
    found: dict[str, object] = {}
    for target in map(str, used):
        for holder in (module, traced):
            with contextlib.suppress(AttributeError):
                found.setdefault(target, operator.attrgetter(target)(holder))
    return found


_SHARED = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


class AroundActivation(nn.Module):
    """Base of the layers around an ``activation``, which may be a module with parameters.

    These are the layer's own: both hold them in the same dictionaries. So names and keys are those of the plain
    activation, for whoever counts, loads, shards or swaps them.

    >>> layer = AroundActivation()
    >>> layer.activation = nn.PReLU(2)
    >>> list(layer.state_dict()), [name for name, _ in layer.named_parameters()]
    (['weight'], ['weight'])
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "activation":  # a module would become a child, with a prefix of its own
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def activation(self) -> Activation:
        inner: Activation = self.__dict__["_activation"]
        if not any(name in self.__dict__ for name in self.__dict__["_tensors"]):
            return inner
        # nn.DataParallel and FSDP1 put tensors into attributes of the layer.
        twin: nn.Module = inner._replicate_for_data_parallel()  # type: ignore[union-attr]
        twin.__dict__.update((name, getattr(self, name)) for name in self.__dict__["_tensors"])
        return twin

    @activation.setter
    def activation(self, value: Activation) -> None:
        module = value if isinstance(value, nn.Module) else nn.Module()
        self.__dict__.update((of, module.__dict__[of]) for of in _SHARED)
        self.__dict__.update(_activation=value, _tensors=(*module._parameters, *module._buffers))

    def reset_parameters(self) -> None:
        """The activation's, which FSDP asks of every layer that has parameters."""
        reset = getattr(self.activation, "reset_parameters", None)
        if reset is not None:
            reset()


def _settings(module: nn.Module) -> dict[str, object]:
    return {name: getattr(module, name) for name in getattr(module, "__constants__", ()) if name != "inplace"}
