"""Which activations a model calls, and which of them are converted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from dropact.surgery import _sites
from dropact.surgery._observe import observe
from dropact.surgery._recognise import CONVERTED, GATE
from dropact.surgery._refuse import refuse_wrapped
from dropact.surgery._table import table

CONVERTIBLE, MISSED = "convertible", "missed"


@dataclass(frozen=True)
class CallSite:
    """One place where an activation is called.

    Attributes:
        name: dotted, as ``convert_`` and its ``where`` know it.
        activation: what is called there, as text.
        location: file and line of the call, where the source shows it.
        calls: how often it was called in the run; 0 if not at all.
        status: "converted", "convertible", "gate" (an activation with values in [0, 1], left unless ``gates=True``) or
            "missed".
        reason: why it is missed.
    """

    name: str
    activation: str
    location: str
    calls: int
    status: str
    reason: str = ""


@dataclass(frozen=True)
class Coverage:
    """The call sites of a model in the order of their first call; ``print`` it for a table.

    >>> import dropact, torch
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Sigmoid())
    >>> print(dropact.coverage(model, torch.ones(1, 2)))
    0 of 1 call sites converted, 1 convertible, 1 gate
      site  activation  calls  status
      1     ReLU()      1      convertible
      3     Sigmoid()   1      gate
    """

    sites: tuple[CallSite, ...]

    def __len__(self) -> int:
        return len(self.sites)

    def __iter__(self) -> Iterator[CallSite]:
        return iter(self.sites)

    def having(self, status: str) -> tuple[CallSite, ...]:
        """The sites of one status that were called."""
        return tuple(site for site in self.sites if site.status == status and site.calls)

    def without(self, *names: str) -> Coverage:
        """The same but for sites whose names match one of ``names``, such as "layers.*.silu_call1": misses that are
        accepted, so that ``complete`` of the rest can be asserted.

        >>> import torch
        >>> coverage(nn.Sequential(nn.ReLU()), torch.ones(1)).without("0").complete
        True

        Raises:
            ValueError: a name matches no site.
        """
        for name in names:
            if not any(fnmatchcase(site.name, name) for site in self.sites):
                there = ", ".join(site.name for site in self.sites) or "none"
                raise ValueError(f"{name!r} matches no site; there are {there}")
        return Coverage(tuple(s for s in self.sites if not any(fnmatchcase(s.name, name) for name in names)))

    @property
    def complete(self) -> bool:
        """Whether every activation that was called, gates aside, is converted."""
        return not self.having(CONVERTIBLE) and not self.having(MISSED)

    def __str__(self) -> str:
        counts = {status: len(self.having(status)) for status in (CONVERTED, CONVERTIBLE, MISSED, GATE)}
        of = sum(counts.values()) - counts[GATE]
        words = [f"{counts[CONVERTED]} of {of} call sites converted"]
        words += [f"{counts[status]} {status}" for status in (CONVERTIBLE, MISSED) if counts[status]]
        words += [f"{counts[GATE]} gate{'s' * (counts[GATE] != 1)}"] if counts[GATE] else []
        silent = sum(not site.calls for site in self.sites)
        words += [f"{silent} not called"] if silent else []
        rows = [[s.name, s.activation, s.location, str(s.calls), s.status, s.reason] for s in self.sites]
        header = ["site", "activation", "called at", "calls", "status", "why"]
        return "\n".join([", ".join(words), *(table(header, rows) if rows else [])])


def coverage(model: nn.Module, *inputs: Any, **kwargs: Any) -> Coverage:
    """Run ``model`` once on these inputs and list every place where it calls an activation.

    >>> import torch
    >>> from torch.nn import functional as F
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.one, self.two, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
    ...
    ...     def forward(self, x):
    ...         return self.act(self.two(self.act(self.one(F.gelu(x)))))
    >>> seen = coverage(Net(), torch.ones(1, 4))
    >>> [(site.name, site.activation, site.calls) for site in seen]
    [('gelu_call1', 'F.gelu()', 1), ('act', 'ReLU()', 1), ('act_call2', 'ReLU()', 1)]
    >>> seen.complete
    False

    A module called from two places is two sites; a place passed twice, in a loop or in a block that is used twice, is
    one site called twice. The model runs in the mode it is in (an auxiliary head may be called in training only), and
    is afterwards what it was: buffers, inputs and torch's random state are put back.

    Args:
        model: a plain module, converted or not.
        inputs, kwargs: what ``model`` is called with.

    Returns:
        A :class:`Coverage`: a table when printed, a sequence of :class:`CallSite` otherwise.

    Raises:
        TypeError: a scripted, compiled or wrapped model.
        ValueError: a model with lazy parameters that has not run yet.
    """
    refuse_wrapped(model, "coverage")
    sites, _ = _sites.find(model)
    observe(model, sites, inputs, kwargs)
    sites = [site for site in sites if not site.of_weights]
    called = sorted((s for s in sites if s.calls), key=lambda s: s.order)
    return Coverage(tuple(_report(site) for site in [*called, *(s for s in sites if not s.calls)]))


def _report(site: _sites.Site) -> CallSite:
    status = site.kind if site.kind in (CONVERTED, GATE) else MISSED if site.why_not else CONVERTIBLE
    reason = site.why_not if status == MISSED else None
    return CallSite(site.name, site.shown, site.location, site.calls, status, reason or "")
