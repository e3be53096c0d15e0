"""Measure a model while it trains, without changing what comes out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from dropact.diagnostics._passes import check_every, inner, look_through, modes, set_mode, undisturbed
from dropact.diagnostics.probes import PROBES, Probe, number


@dataclass(frozen=True)
class Reading:
    """What one site showed at one step: ``values`` by name, NaN where nothing could be told."""

    step: int
    site: str
    values: Mapping[str, float]


@dataclass
class Recording:
    """The readings so far, and how many steps were seen."""

    steps: int = 0
    _kept: list[tuple[int, str, Mapping[str, Tensor]]] = field(default_factory=list, repr=False)

    @property
    def readings(self) -> list[Reading]:
        """All readings in order of step and site. The first look waits for the device."""
        return [
            Reading(step, site, {name: number(value) for name, value in values.items()})
            for step, site, values in self._kept
        ]

    def series(self, name: str, site: str) -> list[tuple[int, float]]:
        """The values of ``name`` at ``site`` as (step, value); "" is the model itself."""
        return [(r.step, r.values[name]) for r in self.readings if r.site == site and name in r.values]

    def means(self, name: str) -> dict[str, float]:
        """The mean of ``name`` over the steps at each site that has it; NaN where a reading is."""
        found: dict[str, list[float]] = {}
        for reading in self.readings:
            if name in reading.values:
                found.setdefault(reading.site, []).append(reading.values[name])
        return {site: sum(values) / len(values) for site, values in found.items()}


def measure(model: nn.Module, *args: Any, probes: Sequence[Probe] = PROBES, **kwargs: Any) -> list[Reading]:
    """Readings of a model on one batch: a pass in training and, where a probe wants it, one in evaluation mode.

    >>> import dropact, torch
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(8, 64), dropact.DropActivation(0.05), nn.Linear(64, 3))
    >>> for reading in measure(model, torch.randn(512, 8)):
    ...     print(reading.site or "output", {name: round(value, 2) for name, value in reading.values.items()})
    1 {'variance_shift': 0.93, 'drop_rate': 0.05, 'negative_share': 0.52, 'dead_units': 0.0, 'effective_slope': 0.05}
    output {'output_gap': 0.26}

    A site that only training calls, in an auxiliary head or once more than evaluation does, has NaN for what compares
    the two.

    The model is left as it was: parameters, buffers, train/eval flags, the state of the generators and the count of
    shared seeds. Forward hooks of others run in these passes too, and what they keep outside the model is theirs.

    Args:
        model: any module; wrappers of ``torch.compile`` and of data parallelism are looked through.
        args, kwargs: one batch, as the model takes it.
        probes: see :mod:`dropact.diagnostics`.

    Raises:
        ValueError: a probe's module is not in the model.
    """
    target = inner(model)
    with modes(target):
        if not target.training:
            set_mode(target, True)
        kept = _passes(target, args, kwargs, probes)
    return [Reading(0, site, {name: number(value) for name, value in values.items()}) for site, values in kept.items()]


@contextmanager
def record(model: nn.Module, probes: Sequence[Probe] = PROBES, every: int = 50) -> Iterator[Recording]:
    """Measure every ``every``-th training step of ``model`` while the context lasts.

    >>> import dropact, torch
    >>> model = nn.Sequential(nn.Linear(4, 32), dropact.DropActivation(0.05), nn.Linear(32, 2))
    >>> with record(model, [dropact.diagnostics.VarianceShift()], every=2) as recording:
    ...     for step in range(4):
    ...         loss = model(torch.randn(64, 4)).square().mean()
    >>> [(step, 0.7 < ratio < 1.1) for step, ratio in recording.series("variance_shift", "1")]
    [(0, True), (2, True)]

    A step is a call of the model in training mode. Before a step that is measured, the same batch goes through the
    model in training mode, with the masks that the step itself will draw, and in evaluation mode; both without
    gradient and as in :func:`measure`. Training goes on as if nothing had been: the weights stay the same to the last
    bit.

    Args:
        model: the module that the training loop calls. If that is compiled, pass what ``torch.compile`` returned.
        probes: what to measure; see :mod:`dropact.diagnostics`.
        every: steps from one measurement to the next, the first step included.

    Yields:
        A :class:`Recording`, filled as training goes on.

    Raises:
        ValueError: ``every`` below 1, a probe's module that is not in the model, or a model compiled in place, whose
            code would not see the recorder.

    Warns:
        UserWarning: no training step was seen.
    """
    check_every(every)
    if getattr(model, "_compiled_call_impl", None) is not None:
        raise ValueError(
            "model was compiled in place by model.compile(), which would not see the recorder: "
            "record what torch.compile(model) returns"
        )
    target = inner(model)
    for probe in probes:
        probe.sites(target)
    recording, busy = Recording(), False

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal busy
        if busy or not target.training:
            return
        step, recording.steps = recording.steps, recording.steps + 1
        if step % every:
            return
        busy = True
        try:
            kept = _passes(target, args, kwargs, probes)
        finally:
            busy = False
        recording._kept += [(step, site, values) for site, values in kept.items()]

    # First of all hooks, as those of others may change the arguments, and will do so again in the extra passes.
    with model.register_forward_pre_hook(before, prepend=True, with_kwargs=True):
        yield recording
    if not recording.steps:
        warnings.warn(
            "nothing was recorded: the model was not called in training mode. A compiled model is recorded by passing "
            "what torch.compile returned",
            stacklevel=3,
        )


def _passes(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], probes: Sequence[Probe]
) -> dict[str, dict[str, Tensor]]:
    """Values by site, the model itself last. The modules' flags say what training mode is."""
    watched = [(probe, probe.sites(model)) for probe in probes]
    with undisturbed(model):
        train = _observe(model, args, kwargs, watched)
    evaluation: dict[tuple[int, str], Any] = {}
    if any(probe.both_modes for probe in probes):
        with undisturbed(model):  # anew: the pass in training mode has moved the running statistics
            set_mode(model, False)
            evaluation = _observe(model, args, kwargs, [(p, sites if p.both_modes else {}) for p, sites in watched])
    kept: dict[str, dict[str, Tensor]] = {}
    for (place, site), seen in train.items():
        probe, there = probes[place], evaluation.get((place, site))
        if probe.both_modes and there is None:
            there = tree_map_only(Tensor, lambda t: t * math.nan, seen)  # only training calls it
        kept.setdefault(site, {}).update(probe.combine(seen, there))
    return kept


def _observe(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    watched: Sequence[tuple[Probe, Mapping[str, nn.Module]]],
) -> dict[tuple[int, str], Any]:
    """What each probe kept, by the probe's place and the site."""
    seen: dict[tuple[int, str], Any] = {}

    def look(name: str, call: int, x: Tensor | None, y: Tensor) -> None:
        site = name if call == 0 else f"{name}:{call + 1}"  # a module called more than once in the pass
        for place, (probe, sites) in enumerate(watched):
            if name in sites:
                seen[place, site] = probe.observe(sites[name], x, y)

    look_through(model, args, kwargs, {name: site for _, sites in watched for name, site in sites.items()}, look)
    return seen
