"""Every place in a model where an activation is called, as far as the modules and their source show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from dropact.surgery._methods import forget, methods
from dropact.surgery._recognise import ACTIVATION, Activation, behaves_as, kind_of, why_unfit
from dropact.surgery._scan import Call, scan
from dropact.surgery._signs import unreached
from dropact.surgery._source import names_in
from dropact.surgery._table import brief


@dataclass(eq=False)
class Site:
    """One place: a child of ``owner`` that is an activation, or a call in a method of ``owner``."""

    name: str
    owner: nn.Module
    child: str  # under which its layer stands in the owner, or would
    kind: str
    activation: Activation | None
    call: Call | None = None
    twin_of: str | None = None  # the child that this place calls as well as another one does
    problem: str | None = None  # why it cannot be converted, whatever of it is known
    of_weights: bool = False  # no activation of the network: what it is applied to are parameters
    calls: int = 0
    order: int = -1  # of its first call
    seen_at: str = ""  # where there is no call expression to name
    seen_as: str = ""

    @property
    def why_not(self) -> str | None:
        """Why it cannot be converted, if so."""
        if self.problem is None and self.activation is None and self.call is not None:
            return self.call.unknown
        return self.problem

    @property
    def module(self) -> nn.Module:
        """The activation where it is a module, else the module that calls it."""
        return self.activation if self.is_module and isinstance(self.activation, nn.Module) else self.owner

    @property
    def is_module(self) -> bool:
        return not self.seen_as and (self.call is None or self.call.child is not None)

    @property
    def location(self) -> str:
        return self.call.location if self.call is not None else self.seen_at

    @property
    def shown(self) -> str:
        if self.call is not None and not self.is_module:
            return f"{self.call.shown}()"
        return self.seen_as or brief(self.activation)


@dataclass(frozen=True)
class Unread:
    """A sign that a module calls activations in a way that its source does not tell.

    ``shown_by_run``: a run converts it or names it. ``missed``: somebody calls it.
    """

    name: str
    module: nn.Module
    reason: str
    shown_by_run: bool = True
    missed: bool = True


def find(model: nn.Module) -> tuple[list[Site], list[Unread]]:
    """The sites of a model in the order of its tree. A module that stands at several places is looked into once."""
    forget()
    sites: list[Site] = []
    unread: list[Unread] = []
    kinds: dict[int, str | None] = {}
    seen = {id(model)}
    registered = {id(module) for module in model.modules()}
    classes = {type(module) for module in model.modules()}
    mentioned = {name for cls in classes for method in methods(cls).values() for name in names_in(method.function)}
    silent = {cls: list(unreached(cls, mentioned)) for cls in classes}

    def visit(prefix: str, owner: nn.Module) -> None:
        children = {leaf: child for leaf, child in owner._modules.items() if child is not None}
        for child in children.values():
            if id(child) not in kinds:
                kinds[id(child)] = kind_of(child)
        activations = {leaf: child for leaf, child in children.items() if kinds[id(child)]}
        found = scan(owner, activations, registered, silent[type(owner)])
        own = prefix.rstrip(".") or "(model)"
        unread.extend(Unread(own, owner, sign) for sign in dict.fromkeys(found.signs))
        unread.extend(Unread(own, owner, said, n in mentioned, n in mentioned) for n, said in found.unreached.items())
        for leaf, child in children.items():
            if (kind := kinds[id(child)]) is not None:
                called = [call for call in found.calls if call.child == leaf]
                sites.extend(_of_child(prefix, owner, leaf, child, kind, called))
            elif isinstance(child, ParametrizationList):
                continue  # what is in there makes a weight
            elif id(child) not in seen:
                seen.add(id(child))
                visit(f"{prefix}{leaf}.", child)
        sites.extend(of_functions(prefix, owner, [call for call in found.calls if call.child is None]))

    visit("", model)
    return sites, unread


def _of_child(
    prefix: str, owner: nn.Module, leaf: str, child: nn.Module, kind: str, calls: list[Call]
) -> Iterator[Site]:
    calls = sorted(calls, key=lambda call: call.of_weights)  # stable: the first place is one of the network, if any is
    unfit = why_unfit(child)
    first = Site(prefix + leaf, owner, leaf, kind, child, calls[0] if calls else None, problem=unfit)
    first.of_weights = bool(calls) and calls[0].of_weights
    yield first
    if first.of_weights:
        return
    if any(True for _ in child.parameters()):
        if any(call.of_weights for call in calls):
            first.problem = "it has parameters and is applied to parameters as well, so that it has to stay one"
        return  # one parameter, one module
    names = free_names(owner, leaf, start=2)
    for call in calls[1:]:
        if call.problem is None:
            name = next(names)
            yield Site(prefix + name, owner, name, kind, child, call, leaf, unfit, of_weights=call.of_weights)
        elif call.of_weights:
            first.problem = f"it is applied to parameters as well, where {call.problem}"


def of_functions(prefix: str, owner: nn.Module, calls: list[Call], taken: tuple[str, ...] = ()) -> Iterator[Site]:
    calls = sorted(calls, key=lambda call: call.of_weights)  # stable: those count last
    names = {call.base: free_names(owner, call.base, 1, taken) for call in calls}
    for call in calls:
        name = next(names[call.base])
        does = call.activation
        kind = kind_of(does) if isinstance(does, nn.Module) else does and behaves_as(does)
        problem = call.problem or (why_unfit(does) if kind and does is not None else None)
        yield Site(
            prefix + name, owner, name, kind or ACTIVATION, does, call, problem=problem, of_weights=call.of_weights
        )


def free_names(owner: nn.Module, base: str, start: int, taken: tuple[str, ...] = ()) -> Iterator[str]:
    number = start
    while True:
        name = f"{base}_call{number}"
        if not hasattr(owner, name) and name not in taken:
            yield name
        number += 1
