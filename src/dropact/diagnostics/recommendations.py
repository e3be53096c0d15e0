"""What to do about what an inspection found. The thresholds are ours: beyond them a second look is worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dropact.surgery import Coverage
from dropact.surgery.coverage import CONVERTIBLE, MISSED

WIDE_SHIFT = 0.1  # of a variance ratio from 1
MANY_DEAD = 0.1  # share of the channels of a layer
FEW_NEGATIVE = 0.05  # share of the inputs of a layer


@dataclass(frozen=True)
class LayerReport:
    """One layer of dropact. Shifts are Var(evaluation) / Var(training); NaN where nothing could be told.

    Attributes:
        name, method: where it stands and what it is.
        predicted: the shift for independent N(0, 1) inputs, equation 15 of arXiv:1811.05850.
        alone: the shift that the layer makes of the inputs that it has here.
        measured: the shift between the two modes of the whole model, as in Figure 6.
        recalibrated: the same after BatchNorm was recalibrated, None where that was not tried.
        values: the other readings of :data:`dropact.diagnostics.PROBES`.
    """

    name: str
    method: str
    predicted: float
    alone: float
    measured: float
    recalibrated: float | None
    values: Mapping[str, float]


def recommendations(
    reports: Sequence[LayerReport],
    coverage: Coverage,
    past: Sequence[str],
    said: tuple[str, str] | None = None,
) -> list[str]:
    """Sentences, the most pressing first; one that says so where there is nothing to do.

    Args:
        reports: the layers of dropact.
        coverage: every call of an activation.
        past: names of layers whose drop_prob lies beyond that of the worst variance shift.
        said: an error before and after BatchNorm was recalibrated, as it is to be shown.
    """
    advice = []
    if left := [site.name for site in coverage.having(CONVERTIBLE)]:
        many = f"{len(left)} activations are as they were" if len(left) > 1 else "1 activation is as it was"
        advice.append(f"Convert the rest, in one call of dropact.convert_: {many} ({_listed(left)}).")
    if missed := [f"{site.name}: {site.reason}" for site in coverage.having(MISSED)]:
        advice.append(f"Out of convert_'s reach, to be changed by hand: {_listed(missed, 3)}.")
    if dead := [r.name for r in reports if r.values["dead_units"] > MANY_DEAD]:
        advice.append(
            f"More than {MANY_DEAD:.0%} of the channels never rise above 0 on this batch in {_listed(dead)}: they "
            "learn only where they are dropped. A lower learning rate keeps more of them alive."
        )
    if idle := [r.name for r in reports if r.values["negative_share"] < FEW_NEGATIVE]:
        advice.append(f"Under {FEW_NEGATIVE:.0%} of the inputs lie below 0 in {_listed(idle)}: little happens there.")
    if past:
        advice.append(
            f"drop_prob lies beyond the worst variance shift in {_listed(past)}: there the network is nearer to a "
            "linear one than to its own activation."
        )
    advice += _on_shifts(reports, said)
    return advice or ["Nothing to change."]


def _on_shifts(reports: Sequence[LayerReport], said: tuple[str, str] | None) -> list[str]:
    wide = [r for r in reports if abs(r.measured - 1) > WIDE_SHIFT]
    tried = [r for r in wide if r.recalibrated is not None]
    recalibrate = "BatchNorm (dropact.diagnostics.recalibrate_batchnorm_)"
    if said:
        return [
            f"Recalibrating {recalibrate} here: {said[0]} before, {said[1]} after, in this one training; "
            "`dropact compare --recalibrated` says over seeds whether it helps."
        ]
    if tried:
        widest = max(tried, key=lambda r: abs(r.measured - 1))
        return [
            f"Recalibrate {recalibrate} before evaluation: the widest shift, in {widest.name}, goes from "
            f"{widest.measured:.3f} to {widest.recalibrated:.3f}."
        ]
    if wide:
        names = _listed([r.name for r in wide])
        return [f"The variance shifts by more than {WIDE_SHIFT:.0%} in {names}: a smaller drop_prob shifts it less."]
    return []


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
