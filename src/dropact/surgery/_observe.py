"""Run a model once and see which activations it calls, from where and how often."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import TorchFunctionMode

import dropact.methods
from dropact._activations import ELEMENTWISE_MODULES
from dropact.surgery._frames import At, call_at, callee, caller, is_of_torch, line_of, locate, methods_by_code
from dropact.surgery._recognise import (
    ACTIVATION,
    FUNCTIONS,
    GATE,
    GATES,
    REFUSED,
    CannotConvertError,
    stock_module,
)
from dropact.surgery._refuse import refuse_shapeless
from dropact.surgery._scan import base_name, why_not_there
from dropact.surgery._sites import Site, free_names, of_functions
from dropact.surgery._table import one_line
from dropact.surgery._trial import patched, run

_OURS = PurePath(dropact.methods.__file__).parent.as_posix()


def observe(model: nn.Module, sites: list[Site], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Run ``model`` once, count the calls of ``sites`` and append those that only a run shows.

    The model, the inputs and the random states are afterwards what they were. No gradients are computed.

    Raises:
        ValueError: the model has parameters that get their shape in the first run.
    """
    refuse_shapeless(model)
    observer = _Observer(model, sites)
    with observer.watching():
        run(model, args, kwargs)


def not_called(
    model: nn.Module, layers: list[tuple[Site, nn.Module]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> set[int]:
    """The ``id`` of the layers that a converted model calls less often than it called what stood there before.

    In this run they do what stood there, so that the model goes the way it went.
    """
    calls = {id(layer): 0 for _, layer in layers}
    expected = Counter[int]()

    def counted(layer: nn.Module, site: Site) -> Callable[..., Any]:
        plain = site.activation.forward if isinstance(site.activation, nn.Module) else site.activation

        def forward(*args: Any, **kwargs: Any) -> Any:
            calls[id(layer)] += 1
            return plain(*args, **kwargs)  # type: ignore[misc]

        return forward

    for site, layer in layers:
        expected[id(layer)] += site.calls
    patches = {id(layer): (layer, counted(layer, site)) for site, layer in layers}
    with patched(patches.values()):
        run(model, args, kwargs)
    return {one for one, count in calls.items() if count < expected[one]}


class _Functions(TorchFunctionMode):
    def __init__(self, notice: Callable[[Any, tuple[Any, ...], dict[str, Any], FrameType], None]) -> None:
        super().__init__()
        self._notice = notice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FUNCTIONS or func in REFUSED:
            self._notice(func, args, kwargs, sys._getframe(1))
        return func(*args, **kwargs)


class _Observer:
    def __init__(self, model: nn.Module, sites: list[Site]) -> None:
        self._model, self._sites = model, sites
        self._names = {id(module): name for name, module in model.named_modules()}
        self._methods = methods_by_code({type(module) for module in model.modules()})
        self._by_key: dict[object, Site] = {(id(s.owner), *s.call.key): s for s in sites if s.call is not None}
        self._by_module: dict[int, list[Site]] = {}
        for site in sites:
            if site.is_module and site.twin_of is None:
                self._by_module.setdefault(id(site.activation), []).append(site)
        self._last: dict[Site, FrameType] = {}
        self._inside = 0  # of an activation module: what it calls itself is not looked at
        self._count = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        modules = {id(s.activation): s.activation for s in self._sites if s.is_module}
        makers = {id(m): m for m in self._model.modules() if isinstance(m, ParametrizationList)}
        patches = [(m, self._noticed(m, m.forward)) for m in (modules | makers).values()]  # type: ignore[arg-type, union-attr]
        with patched(patches), _Functions(self._function):  # type: ignore[arg-type]
            yield

    def _noticed(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def noticed(*args: Any, **kwargs: Any) -> Any:
            if not self._inside and id(module) in self._by_module:
                self._called(self._site_of(module, locate(sys._getframe(1), self._methods, self._names)))
            self._inside += 1
            try:
                return forward(*args, **kwargs)
            finally:
                self._inside -= 1

        return noticed

    def _called(self, site: Site) -> None:
        site.calls += 1
        if site.order < 0:
            site.order = self._count
        self._count += 1

    def _site_of(self, module: nn.Module, at: At | None) -> Site:
        site = self._by_key.get(at.key) if at is not None else None
        if site is not None and site.activation is module:
            return site
        candidates = self._by_module[id(module)]
        own = [site for site in candidates if at is not None and site.owner is at.owner] or candidates
        return min(own, key=lambda site: site.calls)  # a container that holds it twice calls it in turn

    def _function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType) -> None:
        words = dict(kwargs)
        applied, rest = (args[0], args[1:]) if args else (words.pop("input", None), ())
        if self._inside or isinstance(applied, nn.Parameter):
            return
        at = locate(frame, self._methods, self._names)
        inner = callee(frame, at.frame) if at is not None else None
        if _is_ours(inner):
            return
        key = at.key if at is not None else line_of(caller(frame))
        site = self._by_key.get(key)
        if site is None:
            site = self._by_key[key] = self._new_site(at, func, rest, words, frame)
            self._sites.append(site)
        elif site.of_weights:
            return
        elif site.call is not None and func in FUNCTIONS:
            _complete(site, func, rest, words)
        if isinstance(applied, Tensor) and not applied.is_floating_point():
            site.problem = f"it is applied to a tensor of {applied.dtype}"
        if inner is None or is_of_torch(inner):
            self._called(site)
        elif self._last.get(site) is not inner:  # a function of somebody's own that calls several of torch's is one
            self._last[site] = inner
            self._called(site)

    def _new_site(
        self, at: At | None, func: Any, rest: tuple[Any, ...], words: dict[str, Any], frame: FrameType
    ) -> Site:
        owner = at.owner if at is not None else self._model
        prefix = self._names[id(owner)] and self._names[id(owner)] + "."
        taken = tuple(site.child for site in self._sites if site.owner is owner)
        try:
            if at is None:
                raise CannotConvertError("it is called outside the methods of the model's modules")
            if func in REFUSED:
                raise CannotConvertError(REFUSED[func])
            return next(of_functions(prefix, owner, [call_at(at, func, rest, words, caller(frame))], taken))
        except CannotConvertError as error:
            base = base_name(func)
            child = next(free_names(owner, base, 1, taken))
            kind = GATE if FUNCTIONS.get(func, (None,))[0] in GATES else ACTIVATION
            where = line_of(at.frame if at is not None else caller(frame))
            return Site(
                prefix + child, owner, child, kind, None, problem=str(error), seen_at=where, seen_as=f"{base}()"
            )


def _complete(site: Site, func: Any, rest: tuple[Any, ...], words: dict[str, Any]) -> None:
    """What the source left open; or that the same expression is not always the same activation."""
    if site.call is None or not (site.activation is None or isinstance(site.activation, ELEMENTWISE_MODULES)):
        return
    try:
        does = stock_module(func, rest, words)
    except CannotConvertError as error:
        site.problem = str(error)
        return
    if site.activation is None:
        site.activation = site.call.activation = does
        site.problem = site.problem or why_not_there(site.call)
    elif one_line(does) != one_line(site.activation):
        site.problem = f"the same expression is {one_line(site.activation)} and {one_line(does)}"


def _is_ours(frame: FrameType | None) -> bool:
    """Whether a method of this package was called as a function, which then calls torch's."""
    return frame is not None and PurePath(frame.f_code.co_filename).as_posix().startswith(_OURS)
