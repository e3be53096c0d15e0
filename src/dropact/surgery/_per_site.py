"""Which layer a site gets: from one method, from a mapping of names to methods, or from a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from dropact.methods._activation import Method, is_method
from dropact.surgery._recognise import Activation

PerSite = Method | Mapping[str, Method | None] | Callable[[str, Activation], nn.Module | None]


def _decides(method: object) -> bool:
    """Whether it can be asked for each site: no layer, and nothing that makes one, as classes and ``AID`` do."""
    if isinstance(method, nn.Module | type) or not callable(method):
        return False
    return not str(getattr(method, "__module__", "")).startswith("dropact.methods.")


class Chooser:
    """Called with a site's name and activation, it gives the layer to put there, or the reason for none."""

    def __init__(self, method: PerSite) -> None:
        if isinstance(method, Mapping):
            for key, value in method.items():
                if not isinstance(key, str) or not (value is None or is_method(value)):
                    raise TypeError(
                        "a mapping must lead from names or patterns of sites, such as 'layer1.*', to layers such as "
                        f"dropact.DropActivation(0.05) or to None, got {key!r}: {value!r}"
                    )
        elif not is_method(method) and not _decides(method):
            kind = "class" if isinstance(method, type) else "function"
            what = f"the {kind} {method.__name__}" if hasattr(method, "__name__") else repr(method)
            raise TypeError(
                "method must be a layer such as dropact.DropActivation(drop_prob=0.05) or dropact.RandomizedReLU(), a "
                "mapping from names of sites to such layers, or a function from a site's name and activation to a "
                f"layer, got {what}"
            )
        self._method = method
        self._used: set[str] = set()

    def __call__(self, name: str, activation: Activation) -> nn.Module | str:
        method: object = self._method
        if isinstance(method, Mapping):
            key = name if name in method else next((k for k in method if fnmatchcase(name, k)), None)
            if key is None:
                return "no name or pattern of the mapping is its own"
            self._used.add(key)
            method = method[key]
        elif not is_method(method):
            method = method(name, activation)  # type: ignore[operator]
        if method is None:
            return "the method leaves it"
        after = method.replacement_for(activation) if is_method(method) else method  # type: ignore[attr-defined]
        if after is None:
            return "the method does not replace this activation"
        if not isinstance(after, nn.Module):
            raise TypeError(f"{name}: a layer or None was expected of the method, got {type(after).__name__}")
        return after

    def refuse_unused(self) -> None:
        """Raise where a key of the mapping is nobody's, so that a typing error does not pass in silence."""
        if isinstance(self._method, Mapping) and (unused := [key for key in self._method if key not in self._used]):
            raise ValueError(
                f"{', '.join(map(repr, unused))} of the mapping match{'es' * (len(unused) == 1)} no site (a name goes "
                "before a pattern, a pattern before those after it); dropact.coverage lists the names. Nothing was "
                "changed"
            )
