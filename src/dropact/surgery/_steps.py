"""The single changes that a surgery is made of. Each can be checked, made and taken back."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

# What travels with a site rather than with the layer that stands there. The dictionaries themselves move, so that a
# handle that somebody holds still removes its hook.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_is_full_backward_hook",
)


@dataclass(frozen=True)
class Child:
    """A child of the module named ``owner``, replaced, added (``before`` is None) or taken away (``after`` is None).

    ``like`` is the module whose hooks and train flag a new one takes over.
    """

    owner: str
    child: str
    before: nn.Module | None
    after: nn.Module | None
    like: nn.Module | None = None

    def stands(self, owner: nn.Module) -> bool:
        return owner._modules.get(self.child) is self.after

    def present(self, owner: nn.Module) -> str:
        return type(owner._modules.get(self.child)).__name__

    def make(self, owner: nn.Module, forward: bool) -> None:
        new = self.after if forward else self.before
        if new is None:
            del owner._modules[self.child]
        else:
            owner._modules[self.child] = new


@dataclass(frozen=True)
class Class:
    """The class of the module named ``owner``, which is another one with some calls edited."""

    owner: str
    before: type
    after: type

    def stands(self, owner: nn.Module) -> bool:
        return type(owner) is self.after

    def present(self, owner: nn.Module) -> str:
        return type(owner).__name__

    def make(self, owner: nn.Module, forward: bool) -> None:
        object.__setattr__(owner, "__class__", self.after if forward else self.before)


@dataclass(frozen=True)
class Attribute:
    """A plain attribute of the module named ``owner``."""

    owner: str
    attribute: str
    before: Any
    after: Any

    def stands(self, owner: nn.Module) -> bool:
        return vars(owner).get(self.attribute) == self.after

    def present(self, owner: nn.Module) -> str:
        return repr(vars(owner).get(self.attribute))

    def make(self, owner: nn.Module, forward: bool) -> None:
        vars(owner)[self.attribute] = self.after if forward else self.before


@dataclass(frozen=True)
class Item:
    """What the module named ``owner``, or a plain list or dictionary that it holds, has under ``key``."""

    owner: str
    holder: Any
    key: Any
    before: Any
    after: Any

    def stands(self, owner: nn.Module) -> bool:
        items: Mapping[Any, Any] = self.holder if isinstance(self.holder, dict) else dict(enumerate(self.holder))
        return items.get(self.key) is self.after

    def present(self, owner: nn.Module) -> str:
        return "something else"

    def make(self, owner: nn.Module, forward: bool) -> None:
        self.holder[self.key] = self.after if forward else self.before


Step = Child | Class | Attribute | Item

_OF_TORCH = frozenset(vars(nn.Module()))


def held_as_well(model: nn.Module, steps: Iterable[Step]) -> list[Step]:
    """The steps for plain lists, tuples, dictionaries and attributes that hold a child which is replaced.

    Code that goes through such a list would call what stood there before.
    """
    replaced: dict[int, nn.Module] = {}
    for step in steps:
        if isinstance(step, Child) and step.before is not None and step.after is not None:
            replaced.setdefault(id(step.before), step.after)
    found: list[Step] = []
    seen: set[int] = set()

    def exchanged(value: Any, name: str) -> Any:
        if id(value) in replaced:
            return replaced[id(value)]
        if type(value) is tuple:
            items = tuple(exchanged(item, name) for item in value)
            return value if all(map(operator.is_, items, value)) else items
        if type(value) in (list, dict) and id(value) not in seen:
            seen.add(id(value))
            look_into(value, name, ())
        return value

    def look_into(holder: Any, name: str, besides: Collection[str]) -> None:
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if key not in besides and (after := exchanged(value, name)) is not value:
                found.append(Item(name, holder, key, value, after))

    if replaced:
        for name, module in model.named_modules():
            look_into(vars(module), name, _OF_TORCH)
    return found


def make(model: nn.Module, steps: tuple[Step, ...], *, forward: bool) -> None:
    """Make all steps, or take them back."""
    owners = [model.get_submodule(step.owner) for step in steps]
    bearer: dict[int, nn.Module] = {}  # of the hooks that were a module's
    for owner, step in zip(owners, steps, strict=True):
        step.make(owner, forward)
        if not isinstance(step, Child):
            continue
        old, new = (step.like, step.after) if forward else (step.after, step.before)
        if old is not None and new is not None and old is not new:
            _take_over(bearer.get(id(old), old), new, old)
            bearer.setdefault(id(old), new)


def _take_over(bearer: nn.Module, new: nn.Module, old: nn.Module) -> None:
    kept = set(map(id, old.modules()))  # with flags of their own
    for module in new.modules():
        if module is new or id(module) not in kept:
            module.training = bearer.training
    inside = any(module is old for module in (*new.modules(), getattr(new, "activation", None)))
    for attribute in _HOOKS:
        if not hasattr(bearer, attribute):
            continue
        held = getattr(bearer, attribute)
        if bearer is old or held:  # a twin without hooks gets dictionaries of its own
            setattr(new, attribute, held)
        if inside:
            # The old module lives on inside the new one and must not fire them twice.
            setattr(old, attribute, getattr(nn.Module(), attribute))
