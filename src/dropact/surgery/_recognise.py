"""What counts as an activation, a gate or neither: modules by class or behaviour, functions by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropact._activations import ELEMENTWISE_MODULES, GATES, TABLE
from dropact.methods._activation import is_method
from dropact.surgery._refuse import refuse_shapeless

Activation = nn.Module | Callable[[Tensor], Tensor]

CONVERTED, ACTIVATION, GATE = "converted", "activation", "gate"
_UNSAID = "it writes into its input and does not say so: set its attribute inplace to True"

# In torch, in torch.nn.functional and as methods of a tensor; with an underscore at the end they work in place.
_SPELLINGS = {
    row.name + end: (row.module, bool(end)) for row in TABLE if row.module is not nn.PReLU for end in ("", "_")
}
_PLACES: tuple[object, ...] = (F, torch, Tensor, torch._C._nn)

FUNCTIONS: dict[object, tuple[type[nn.Module], bool]] = {
    getattr(place, name): found for name, found in _SPELLINGS.items() for place in _PLACES if hasattr(place, name)
}
# What an exported program calls.
FUNCTIONS |= {
    getattr(torch.ops.aten, name).default: found
    for name, found in (_SPELLINGS | {"log_sigmoid": (nn.LogSigmoid, False)}).items()
    if hasattr(torch.ops.aten, name) and hasattr(getattr(torch.ops.aten, name), "default")
}
# Seen, and named as missed.
_TENSOR, _RANDOM = "its slope is a tensor: use nn.PReLU", "it is random itself: use dropact.RandomizedReLU"
_REFUSED = {"prelu": _TENSOR, "rrelu": _RANDOM, "rrelu_": _RANDOM}
REFUSED: dict[object, str] = {
    getattr(place, name): reason for name, reason in _REFUSED.items() for place in _PLACES if hasattr(place, name)
}
FUNCTION_NAMES = frozenset(_SPELLINGS) | frozenset(_REFUSED)
METHOD_NAMES = frozenset(name for name in _SPELLINGS if hasattr(Tensor, name))


class CannotConvertError(Exception):
    """Why a call stays as it is, in a sentence."""


def kind_of(module: nn.Module) -> str | None:
    """Whether a module is an activation, a gate, one of our own layers, or none of them (``None``).

    >>> from dropact import DropActivation
    >>> kind_of(nn.GELU()), kind_of(nn.Sigmoid()), kind_of(nn.Linear(2, 2)), kind_of(DropActivation())
    ('activation', 'gate', None, 'converted')

    Classes of torch by name. Any other class by what it does: see :func:`behaves_as`.

    Raises:
        ValueError: a module of another class that gets its shape in the first run.
    """
    if is_method(module):
        return CONVERTED
    if isinstance(module, GATES):
        return GATE
    if isinstance(module, ELEMENTWISE_MODULES):
        return ACTIVATION
    if type(module).__module__.startswith("torch.") or module._modules:
        return None
    refuse_shapeless(module)
    if any(t is not None and t.numel() > 1 for t in (*module._parameters.values(), *module._buffers.values())):
        return None
    try:
        return behaves_as(*_to_try(module))
    except Exception:  # whatever a module does that cannot be copied
        return None


def _to_try(module: nn.Module) -> tuple[Callable[[Tensor], Tensor], Tensor | None]:
    twin = copy.deepcopy(module)  # so that nothing it counts or keeps changes, and no hook of it is called
    like = next(twin.parameters(), None)
    if like is not None and like.dtype in (torch.float16, torch.bfloat16):  # whose rounding bends a line
        like = next(twin.float().parameters())
    return twin.forward, like


def why_unfit(activation: Activation) -> str | None:
    """Why what behaves as an activation cannot stand in a layer, if so, by trying it.

    >>> why_unfit(lambda x: x.relu_())
    'it writes into its input and does not say so: set its attribute inplace to True'
    >>> why_unfit(nn.ReLU(inplace=True)), why_unfit(lambda x: x.relu())
    (None, None)
    """
    if is_method(activation) or isinstance(activation, ELEMENTWISE_MODULES) or getattr(activation, "inplace", False):
        return None
    function, like = _to_try(activation) if isinstance(activation, nn.Module) else (activation, None)
    with torch.device("cpu"), torch.no_grad(), torch.random.fork_rng(devices=[]):
        given = torch.linspace(-4, 4, 120).view(2, 3, 4, 5).to(torch.empty(0) if like is None else like)
        before = given.clone()
        function(given)
    return None if torch.equal(given, before) else _UNSAID


def behaves_as(function: Callable[[Tensor], Tensor], like: Tensor | None = None) -> str | None:
    """Whether a function is an elementwise nonlinearity, by trying it.

    >>> behaves_as(lambda x: x * torch.sigmoid(1.702 * x)), behaves_as(torch.sigmoid), behaves_as(F.softplus)
    ('activation', 'gate', 'gate')
    >>> behaves_as(lambda x: 2 * x), behaves_as(lambda x: torch.softmax(x, -1)), behaves_as(F.dropout)
    (None, None, None)

    Elementwise: shuffled inputs give the outputs shuffled, of the same shape and dtype; twice the same. Nonlinear: not
    ``a x + b``. A gate: all values lie in [0, 1], or above 0. What raises on a (2, 3, 4, 5) tensor is none of them.
    """
    with torch.device("cpu"):  # whatever the default is: on "meta" there are no values to look at
        return _behaves_as(function, torch.empty(0) if like is None else like)


def _behaves_as(function: Callable[[Tensor], Tensor], like: Tensor) -> str | None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.cat([torch.linspace(-50, 50, 21), torch.linspace(-4, 4, 99)])  # 120 values, about the origin evenly
    shuffle = torch.randperm(120, generator=generator)

    def values(x: Tensor) -> Tensor:
        given = x.view(2, 3, 4, 5).to(like.device, like.dtype)
        y = function(given.clone())
        if not isinstance(y, Tensor) or y.shape != given.shape or y.dtype != given.dtype:
            raise CannotConvertError("another shape or dtype")
        return y.flatten().to("cpu", torch.float64)

    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            plain, again, shuffled = values(wide), values(wide), values(wide[shuffle])
    except Exception:  # whatever a function does that is no activation
        return None
    if not torch.equal(plain, again) or not torch.allclose(shuffled, plain[shuffle], rtol=1e-4, atol=1e-6):
        return None
    curve = plain[21:].diff().diff()  # of an even grid: zero for a x + b
    rounding = 4 * torch.finfo(torch.float32).eps * plain[21:].abs().max()
    if not bool(curve.abs().max() > max(1e-4, float(rounding))):
        return None
    in_range = ((plain >= 0) & (plain <= 1)).all() or ((plain >= 0).all() and (plain[21:] > 0).all())
    return GATE if bool(in_range) else ACTIVATION


def is_function(value: object) -> bool:
    """Whether ``value`` is one of torch's activations, by itself or in a ``functools.partial``.

    >>> is_function(F.relu), is_function(partial(F.elu, alpha=0.5)), is_function(torch.exp), is_function([])
    (True, True, False, False)
    >>> is_function(partial(F.elu, torch.ones(3)))  # of its input
    False
    """
    if isinstance(value, partial) and not value.args:
        value = value.func
    return callable(value) and _hashable(value) and value in FUNCTIONS


def why_refused(value: object) -> str | None:
    """Why a function of torch that is an activation cannot be converted, if it is one of those."""
    return REFUSED.get(value) if callable(value) and _hashable(value) else None


def same_function(one: object, other: object) -> bool:
    """Whether two functions are the same activation, as ``F.relu``, ``torch.relu_`` and a partial of them are."""
    one, other = (f.func if isinstance(f, partial) else f for f in (one, other))
    return FUNCTIONS[one][0] is FUNCTIONS[other][0]


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def stock_module(function: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
    """The module that does what the call ``function(x, *args, **kwargs)`` does to ``x``.

    >>> stock_module(F.leaky_relu, (0.2,), {"inplace": True})
    LeakyReLU(negative_slope=0.2, inplace=True)
    >>> stock_module(torch.relu_, (), {})
    ReLU(inplace=True)

    Raises:
        CannotConvertError: an argument that no module takes, such as a tensor.
    """
    if isinstance(function, partial):
        kwargs = {**function.keywords, **kwargs}
        function = function.func
    cls, inplace = FUNCTIONS[function]
    for value in (*args, *kwargs.values()):
        if not isinstance(value, bool | int | float | str):
            raise CannotConvertError(f"its argument {type(value).__name__} is no number")
    try:
        module = cls(*args, **kwargs)
    except TypeError as error:
        raise CannotConvertError(f"{cls.__name__} does not take its arguments: {error}") from error
    if inplace:
        vars(module)["inplace"] = True  # also those that have no such argument: the method's layer then writes in place
    return module
