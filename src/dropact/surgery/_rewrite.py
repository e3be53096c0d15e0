"""A class of one's own for a module whose ``forward`` calls activations: the same source with those calls edited.

Nothing is decided at run time: the edited method calls a child module where the plain one called ``F.relu``. So
compilers, exporters, threads and recomputation under checkpointing see an ordinary module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from dropact.surgery._edit import Edit, edited, redecorated, replacing
from dropact.surgery._methods import forget, methods
from dropact.surgery._source import UnreadableError, read


@dataclass(frozen=True)
class MethodEdits:
    """What to edit in one method, and of which text."""

    method: str
    digest: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Rewriting:
    """The edits of one class, the children that the edited code calls, and of which child each is a twin, if of one."""

    methods: tuple[MethodEdits, ...]
    children: tuple[tuple[str, str | None], ...]


def with_edits(
    base: type[Any], edits: dict[str, list[Edit]], children: tuple[tuple[str, str | None], ...]
) -> type[nn.Module]:
    """The subclass of ``base`` with these edits of its methods, by their key, and calls of ``super()`` led to them.

    Raises:
        UnreadableError: as in ``rewritten``.
    """
    if _is_of_parametrization(base):
        # What takes a parametrization away deletes from the class itself and goes back to the one below it.
        edited = with_edits(base.__bases__[0], edits, children)
        return type(base.__name__, (edited,), {k: v for k, v in vars(base).items() if k not in _OF_EVERY_CLASS})
    known = methods(base)
    waiting = list(edits)
    while waiting:
        key = waiting.pop()
        for caller, source, func in known[key].callers:
            if (edit := replacing(source, func, f"{source.self_name}.{key}")) not in edits.get(caller, []):
                edits.setdefault(caller, []).append(edit)
                waiting.append(caller)
    changes = tuple(MethodEdits(key, read(known[key].function).digest, tuple(found)) for key, found in edits.items())
    return rewritten(base, Rewriting(changes, children))


_OF_EVERY_CLASS = ("__dict__", "__weakref__")


def _is_of_parametrization(cls: type) -> bool:
    return getattr(vars(cls).get("__getstate__"), "__module__", "") == parametrize.__name__


def rewritten(base: type[Any], rewriting: Rewriting) -> type[nn.Module]:
    """The subclass of ``base`` with these edits; the same one for equal arguments, so that it is compiled once.

    Raises:
        UnreadableError: a source is not at hand, or is not the one that was edited.
    """
    return _rewritten(base, rewriting)  # type: ignore[arg-type]  # a class is hashable


@lru_cache(maxsize=1024)
def _rewritten(base: type[Any], rewriting: Rewriting) -> type[Any]:
    forget()
    members: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__init__": _plainly(base),
        "__reduce_ex__": _reduce,
        "_dropact_base": base,
        "_dropact_rewriting": rewriting,
    }
    for change in rewriting.methods:
        method = methods(base).get(change.method)
        if method is None:
            raise UnreadableError(f"{base.__name__} has no {change.method} any more")
        outer, function = method.outer, method.function
        source = read(function)
        if source.digest != change.digest:
            raise UnreadableError(
                f"{base.__name__}.{change.method} is not what it was when the model was converted: build the model, "
                "convert it and load the state_dict instead"
            )
        members[change.method] = redecorated(outer, function, edited(source, change.edits))
    hidden = _hidden(base) | {child for child, _ in rewriting.children}
    for container, overrides in _CONTAINERS.items():
        if issubclass(base, container):
            members |= overrides(hidden) | {"__prepare_scriptable__": _refuse_scripting}
    metaclass: Any = type(base)
    try:
        return metaclass(base.__name__, (base,), members)
    except TypeError as error:
        raise UnreadableError(f"{base.__name__} does not let itself be subclassed: {error}") from error


def _plainly(base: type[Any]) -> Callable[..., None]:
    """What makes a module of the edited class: a plain one, which has not the children that the edits call."""
    plain = base
    while "_dropact_base" in vars(plain):
        plain = vars(plain)["_dropact_base"]

    @wraps(base.__init__)
    def made(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        base.__init__(self, *args, **kwargs)
        if vars(type(self)).get("_dropact_base") is base:
            self.__class__ = plain

    return made


def _reduce(self: nn.Module, protocol: int) -> tuple[Any, ...]:
    """Pickles as a module of the base class and the edits: a class made on the fly has no name to be found by."""
    cls = next(c for c in type(self).__mro__ if vars(c).get("__reduce_ex__") is _reduce)
    return _reduce_from(self, cls, max(protocol, 2))


def _reduce_from(self: nn.Module, cls: Any, protocol: int) -> tuple[Any, ...]:
    base = cls._dropact_base
    if vars(base).get("__reduce_ex__") is _reduce:  # rewritten twice
        function, args, *rest = _reduce_from(self, base, protocol)
    else:
        function, args, *rest = super(cls, self).__reduce_ex__(protocol)
        args = tuple(base if arg is type(self) else arg for arg in args)
    return (_rebuild, (cls._dropact_rewriting, function, args), *rest)


def _rebuild(rewriting: Rewriting, function: Callable[..., nn.Module], args: tuple[Any, ...]) -> nn.Module:
    module = function(*args)
    module.__class__ = rewritten(type(module), rewriting)
    return module


def rewriting_of(cls: type[nn.Module]) -> tuple[type[nn.Module], Rewriting] | None:
    """The class that one was before its calls were edited, and the edits; ``None`` if they were not."""
    own = vars(cls)
    return (own["_dropact_base"], own["_dropact_rewriting"]) if "_dropact_rewriting" in own else None


def _hidden(cls: type) -> frozenset[str]:
    return frozenset(
        child
        for c in cls.__mro__
        if "_dropact_rewriting" in vars(c)
        for child, _ in vars(c)["_dropact_rewriting"].children
    )


def _refuse_scripting(self: nn.Module) -> nn.Module:
    raise RuntimeError(
        f"TorchScript runs through all children of a {type(self).__name__}, those that conversion added as well: use "
        "torch.export, or undo the conversion first"
    )


# A container runs through its children; those that the edited code calls are not among them.
def _of_sequence(hidden: frozenset[str]) -> dict[str, Any]:
    def shown(self: nn.Module) -> list[Any]:
        return [child for name, child in self._modules.items() if name not in hidden]

    return {"__iter__": lambda self: iter(shown(self)), "__len__": lambda self: len(shown(self))}


def _of_mapping(hidden: frozenset[str]) -> dict[str, Any]:
    def shown(self: nn.Module) -> dict[str, Any]:
        return {name: child for name, child in self._modules.items() if name not in hidden}

    return {
        "__iter__": lambda self: iter(shown(self)),
        "__len__": lambda self: len(shown(self)),
        "keys": lambda self: shown(self).keys(),
        "values": lambda self: shown(self).values(),
        "items": lambda self: shown(self).items(),
    }


_CONTAINERS: dict[type[nn.Module], Callable[[frozenset[str]], dict[str, Any]]] = {
    nn.Sequential: _of_sequence,
    nn.ModuleList: _of_sequence,
    nn.ModuleDict: _of_mapping,
}
