"""The calls of activations that a module's source shows, without running it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import torch.fx
from torch import Tensor, nn

from dropact._activations import ELEMENTWISE_MODULES, STOCK_MODULES
from dropact.surgery._edit import Edit, replacing, span
from dropact.surgery._methods import methods, runs_through_children
from dropact.surgery._recognise import (
    GATES,
    Activation,
    CannotConvertError,
    is_function,
    kind_of,
    stock_module,
    why_refused,
)
from dropact.surgery._resolve import UNKNOWN, Resolver
from dropact.surgery._signs import signs, signs_of_hooks, speaks_of
from dropact.surgery._source import (
    SCOPES,
    Place,
    Source,
    UnreadableError,
    bound_in,
    end_of,
    names_in,
    read,
    start_of,
    unwrapped,
)

STARRED = "it is called with *args or **kwargs"


@dataclass(eq=False)
class Call:
    """One call expression in a method of a module: of a child that is an activation, or of a function."""

    method: str  # its key
    source: Source
    node: ast.Call
    child: str | None  # the child that is called
    argument: ast.expr | None = None  # what the function is applied to
    activation: Activation | None = None  # what does the same; None: only a run can tell
    of_weights: bool = False  # applied to parameters and buffers alone, such as a variance kept as softplus(rho)
    unknown: str = ""  # what of it only a run can tell
    problem: str | None = None  # why it cannot be edited
    base: str = ""  # what to name a child after that is to be called instead

    @property
    def key(self) -> tuple[CodeType, Place]:
        return self.source.function.__code__, end_of(self.node)

    @property
    def shown(self) -> str:
        func = self.node.func
        computed = isinstance(func, ast.Attribute) and any(isinstance(n, ast.Call) for n in ast.walk(func))
        return f".{func.attr}" if computed and isinstance(func, ast.Attribute) else ast.unparse(func)

    @property
    def location(self) -> str:
        return self.source.location(self.node)

    @property
    def discarded(self) -> bool:
        """Whether it stands as a statement, ``x.relu_()``: its work is done in place."""
        return any(isinstance(node, ast.Expr) and node.value is self.node for node in ast.walk(self.source.node))

    @property
    def scopes(self) -> list[ast.AST]:
        """The method and the functions in it that the call stands in, outer ones first."""

        def within(node: ast.AST) -> list[ast.AST] | None:
            own = [node] if isinstance(node, SCOPES) else []
            if node is self.node:
                return []
            inner = next((f for child in ast.iter_child_nodes(node) if (f := within(child)) is not None), None)
            return None if inner is None else [*own, *inner]

        return within(self.source.node) or []

    def edits(self, target: str) -> list[Edit]:
        """What makes it a call of the child ``target`` of the same module."""
        callee = f"{self.source.self_name}.{target}"
        if self.argument is None:
            func = self.node.func
            if self.child is not None and isinstance(func, ast.Attribute) and func.attr == "forward":
                func = func.value  # self.act.forward(x)
            return [replacing(self.source, func, callee)]
        keep, source = self.argument, self.source
        assignment = f"{ast.unparse(keep)} = " if self.discarded else ""
        return [
            span(source, start_of(self.node), start_of(keep), f"{assignment}{callee}("),
            span(source, end_of(keep), end_of(self.node), ")", breaks_first=True),
        ]


@dataclass
class Found:
    """The calls of activations in a module's methods, inner ones first, and signs of more that only a run can tell."""

    calls: list[Call] = field(default_factory=list)
    signs: list[str] = field(default_factory=list)
    unreached: dict[str, str] = field(default_factory=dict)  # what methods call that forward does not reach, by name


def scan(
    owner: nn.Module, children: Collection[str], registered: Collection[int], silent: Iterable[tuple[str, FunctionType]]
) -> Found:
    """The calls of activation functions in the methods of ``owner``, and those of its children of these names.

    Args:
        registered: the modules of the model, by ``id``.
        silent: methods that forward does not reach.
    """
    found = Found(signs=[f"{sign}; give inputs" for sign in signs_of_hooks(owner)])
    reached = methods(type(owner))
    if "forward" in vars(owner):  # patched on the instance: the class's is not what runs
        patch = unwrapped(getattr(vars(owner)["forward"], "__func__", vars(owner)["forward"]))
        if any(speaks_of(owner, f, registered) for f in (patch, *(m.function for m in reached.values())) if f):
            found.signs.append(f"{why_not_editable(owner)}; give inputs")
        return found
    for method in reached.values():
        spoken = speaks_of(owner, method.function, registered) - set(children)
        if not spoken and not names_in(method.function) & set(children) and not method.function.__closure__:
            continue
        try:
            source = read(method.function)
        except UnreadableError as error:
            found.signs += [f"{error}; give inputs"] if spoken - set(dir(type(owner))) else []
            continue
        scanner = _Scanner(owner, method.key, source, children, registered)
        calls = scanner.calls()
        found.calls += calls
        known = {call.node for call in calls}
        found.signs += [f"{s}; give inputs" for s in signs(source, scanner.resolver, known, registered)]
    for name, function in silent:
        if said := _unreached(owner, name, function, registered):
            found.unreached[name] = said
    problem = why_not_editable(owner)
    for call in found.calls:
        call.problem = call.problem or problem
    return found


def _unreached(owner: nn.Module, name: str, function: FunctionType, registered: Collection[int]) -> str:
    try:
        calls = _Scanner(owner, name, read(function), (), registered).calls()
    except UnreadableError:
        return ""
    for call in calls:
        if not call.of_weights and not isinstance(call.activation, GATES):
            return f"{name}() calls {call.shown}() at {call.location}, and forward does not reach it: make it a module"
    return ""


def why_not_editable(owner: nn.Module) -> str | None:
    """Why no call in this module's methods can be edited, if so."""
    if isinstance(owner, torch.fx.GraphModule):
        return "it stands in a torch.fx.GraphModule, which writes its own source: convert before tracing"
    if "forward" in vars(owner):
        return f"the forward of this {type(owner).__name__} was patched on the instance"
    if runs_through_children(type(owner)):
        return f"{type(owner).__name__} runs through its own children, of which there would be one more"
    return None


def calls_in(source: Source) -> Iterator[ast.Call]:
    return (node for node in ast.walk(source.node) if isinstance(node, ast.Call))


class _Scanner:
    """The calls of one method."""

    def __init__(
        self, owner: nn.Module, key: str, source: Source, children: Collection[str], registered: Collection[int]
    ) -> None:
        self._key, self._source, self._children, self._registered = key, source, children, registered
        self.resolver = Resolver(owner, source)

    def calls(self) -> list[Call]:
        found = (self._classified(node) for node in calls_in(self._source))
        return sorted((call for call in found if call is not None), key=lambda call: end_of(call.node))

    def _classified(self, node: ast.Call) -> Call | None:
        func, resolver = node.func, self.resolver
        child = func.value if isinstance(func, ast.Attribute) and func.attr == "forward" else func
        if isinstance(child, ast.Attribute) and resolver.is_self(child.value) and child.attr in self._children:
            call = Call(self._key, self._source, node, child=child.attr, base=child.attr)
            if why_not_there(call) is not None:
                return None  # of another module
            given = [*node.args, *(word.value for word in node.keywords)]
            call.of_weights = len(given) == 1 and resolver.is_of_weights(given[0])
            return call
        function = resolver.value(func)
        if is_function(function):
            words = {word.arg: word.value for word in node.keywords}
            argument = node.args[0] if node.args else words.pop("input", None)
            return self._call(node, function, argument, node.args[1:], words)
        if (reason := why_refused(function)) is not None:
            return Call(self._key, self._source, node, None, node, base=base_name(function), problem=reason)
        if isinstance(func, ast.Attribute) and function is UNKNOWN and resolver.may_be_tensor_method(node):
            return self._call(node, getattr(Tensor, func.attr), func.value, node.args, {})
        module = self._made(func) if isinstance(func, ast.Call) else function
        if isinstance(module, nn.Module) and id(module) not in self._registered and not module.state_dict():
            return self._of_module(node, module) if kind_of(module) else None
        return None

    def _made(self, call: ast.Call) -> nn.Module | None:
        """The activation of torch's that is made where it is called, as in ``nn.ReLU()(x)``."""
        cls = self.resolver.value(call.func)
        if not isinstance(cls, type) or cls not in ELEMENTWISE_MODULES:
            return None
        args = [self.resolver.constant(arg) for arg in call.args]
        words = {str(word.arg): self.resolver.constant(word.value) for word in call.keywords}
        if any(value is UNKNOWN for value in (*args, *words.values())):
            return None
        try:
            made: nn.Module = cls(*args, **words)
        except TypeError:
            return None
        return made

    def _of_module(self, node: ast.Call, module: nn.Module) -> Call:
        """A call of a module that is no child: a global one, an attribute of the class, or one made on the spot."""
        given = [*node.args, *(word.value for word in node.keywords)]
        call = Call(self._key, self._source, node, None, given[0] if given else None, copy.deepcopy(module))
        call.base = base_name(module)
        if len(given) != 1 or isinstance(given[0], ast.Starred) or any(word.arg is None for word in node.keywords):
            call.problem = STARRED
        else:
            call.of_weights = self.resolver.is_of_weights(given[0])
            call.problem = why_not_there(call)
        return call

    def _call(
        self,
        node: ast.Call,
        function: Any,
        argument: ast.expr | None,
        rest: list[ast.expr],
        words: dict[str | None, ast.expr],
    ) -> Call | None:
        call = Call(self._key, self._source, node, None, argument, base=base_name(function))
        if argument is None or None in words or any(isinstance(arg, ast.Starred) for arg in (argument, *rest)):
            call.problem = STARRED
            return call
        if self.resolver.is_of_weights(argument):
            call.of_weights = True
            return call
        values = [self.resolver.constant(expr) for expr in rest]
        named = {str(word): self.resolver.constant(expr) for word, expr in words.items()}
        for expr, value in zip((*rest, *words.values()), (*values, *named.values()), strict=True):
            if value is UNKNOWN:
                call.unknown = f"its argument {ast.unparse(expr)} is known only when it runs: give inputs"
                return call
        try:
            call.activation = stock_module(function, tuple(values), named)
        except CannotConvertError as error:
            call.problem = str(error)
        call.problem = call.problem or why_not_there(call)
        return call


def base_name(function: Any) -> str:
    """What to name a layer after that is called instead: ``relu`` for ``torch.relu_`` and for ``nn.ReLU()``."""
    function = function.func if isinstance(function, partial) else function
    if isinstance(function, nn.Module):
        cls = type(function)
        return next((name for name, stock in STOCK_MODULES.items() if stock is cls), cls.__name__.lower())
    name = getattr(function, "__name__", "").partition(".")[0].strip("_")
    return name if name.isidentifier() else "function"


def why_not_there(call: Call) -> str | None:
    """Why a call of a child cannot stand where this call does, if so."""
    scopes, own = call.scopes, call.source.self_name
    if any(own in bound_in(scope) for scope in scopes[1:]):
        return f"it stands in a function inside the method in which {own} is something else"
    if not call.discarded or call.argument is None:
        return None
    if not isinstance(call.argument, ast.Name) or not getattr(call.activation, "inplace", False):
        return "its result is not used"
    name = call.argument.id
    if name not in bound_in(scopes[-1]):  # the edit assigns to it
        return f"its result is not used, and {name} is not a variable of the function that it stands in"
    return None
