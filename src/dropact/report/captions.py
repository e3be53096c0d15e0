"""Numbers as a reader wants them, the same in every form of the report."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from dropact.experiments.config import RunConfig, schedule_mark
from dropact.experiments.methods import METHODS, label, parts_of
from dropact.experiments.recipes import Printed
from dropact.experiments.statistics import ALPHA, Summary
from dropact.report.tables import MethodResult, Table, seed_ranges

DETECTABLE = (
    "The minimum detectable effect is the true difference that this many seeds, with the spread seen, would have shown "
    "(p below 0.05, uncorrected) with a power of 0.8."
)
FAMILY = "corrected by Holm for all comparisons of the table, of a paper's table or figure for those of all its tables"
LEGEND = (
    "Mean over n seeds ± half of the 95 % t-interval. The result is the test error of the last epoch; the best epoch "
    "is shown only because others report it. Differences are to the baseline, or of a combination to itself without "
    "its last part. They are paired: same seed, hence same initial weights and same batches. p is two-sided, by the "
    f"paired t-test; beside it, {FAMILY}. {DETECTABLE} The spread is that of "
    "training on one fixed split. Train error is that of the final weights in eval mode."
)


def mean_and_interval(summary: Summary | None, digits: int = 2) -> str:
    """`2.61 ± 0.12`, or the mean alone where there is no interval; a dash where there is nothing."""
    if summary is None:
        return "–"
    half = summary.half_width
    return f"{summary.mean:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def mean_beside(summary: Summary, n: int) -> str:
    """As `mean_and_interval`, with the number of seeds where it is not the `n` that stands beside it."""
    text = mean_and_interval(summary)
    return text if summary.n == n else f"{text} (n = {summary.n})"


def signed(value: float | None, digits: int = 2) -> str:
    """With a true minus sign; nothing is called minus zero. A dash where there is nothing."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def with_interval(summary: Summary, shown: Callable[[float], str]) -> str:
    """The mean and in brackets its interval, if there is one, each as it is to be `shown`."""
    ends = "" if summary.low is None or summary.high is None else f" [{shown(summary.low)}, {shown(summary.high)}]"
    return shown(summary.mean) + ends


def signed_interval(summary: Summary, digits: int = 2) -> str:
    """`−0.15 [−0.30, −0.01]`, or the mean alone where there is no interval."""
    return with_interval(summary, partial(signed, digits=digits))


def paired(found: Summary, n: int) -> str:
    """As `signed_interval`, with the number of pairs where it is not the `n` that stands beside it."""
    text = signed_interval(found)
    return text if found.n == n else f"{text} (n = {found.n})"


def difference(row: MethodResult) -> str:
    """As `paired`, beside the row's own n; a dash for the baseline."""
    return "–" if row.difference is None else paired(row.difference, row.test.n)


def recalibrated(row: MethodResult) -> str:
    """`15.76 ± 0.12 (−0.11 [−0.15, −0.07])`; a dash where it was not measured."""
    if row.recalibrated is None or row.recalibrated_difference is None:
        return "–"
    return f"{mean_and_interval(row.recalibrated)} ({signed_interval(row.recalibrated_difference)})"


def printed(value: Printed | None) -> str:
    """`22.46 ± 0.13` as the paper has it; a dash where it has nothing."""
    if value is None:
        return "–"
    if value.spread is None:
        return f"{value.error:.2f}"
    spread = f"{value.spread:.2f}" if round(value.spread, 2) == value.spread else f"{value.spread:g}"
    return f"{value.error:.2f} ± {spread}"


def count(number: int, what: str) -> str:
    """`1 epoch`, `8 epochs`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def probability(value: float | None) -> str:
    """Two significant digits; a dash where there is no test."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def equals(value: float | None) -> str:
    """`= 0.04`, `< 0.001`: a probability behind its letter."""
    text = probability(value)
    return text if text.startswith("<") else f"= {text}"


def detectable(row: MethodResult) -> str:
    """The minimum detectable effect of the row's seeds; a dash where there is no test."""
    value = row.difference.detectable if row.difference else None
    return "–" if value is None else f"{value:.2f}"


def reading(table: Table) -> list[str]:
    """One sentence per method: what its difference shows, and what it does not."""
    sentences = []
    for row in table.rows:
        found = row.difference
        if found is None:
            continue
        paper = "" if row.printed_difference is None else f"; the paper: {signed(row.printed_difference)}"
        if found.p_value is None or row.corrected is None:
            sentences.append(f"{row.label}: {signed(found.mean)} points{paper}; {found.note}.")
            continue
        verdict = shows(found, row.corrected, f"{row.reference}")
        chances = f"p {equals(found.p_value)}, corrected {equals(row.corrected)}"
        least = f"minimum detectable effect {detectable(row)}"
        sentences.append(f"{row.label}: {verdict} ({difference(row)} points, {chances}; {least}{paper}).")
    return sentences


def shows(found: Summary, corrected: float, other: str) -> str:
    """What a tested difference to `other` shows, by itself and among all comparisons."""
    if corrected < ALPHA:
        return f"{'better' if found.mean < 0 else 'worse'} than {other}"
    if found.p_value is not None and found.p_value < ALPHA:
        return f"inconclusive against {other}: not significant after Holm correction"
    return f"inconclusive against {other}: not significant"


def _microbatches(setting: Mapping[str, Any]) -> list[str]:
    if setting.get("microbatches", 1) == 1:
        return []
    masks = "the same masks in all" if setting["shared_masks"] else "masks of its own in each"
    norm = "all of them" if setting["sync_batchnorm"] else "each"
    return [f"in {setting['microbatches']} microbatches with {masks} and BatchNorm's statistics over {norm}"]


def _trained_on(setting: Mapping[str, Any]) -> str:
    part, images = f"the {setting['train_on']} part", setting.get("train_images")
    return part if images is None else f"{images:,} images of {part}, drawn by each seed"


def setting_sentence(setting: Mapping[str, Any], seeds: Sequence[int]) -> str:
    """The optimiser and the rest of a setting in one line; what is switched off is left out."""
    rate = {"constant": "constant", "one-cycle": "one cycle"}.get(setting["schedule"])
    if rate is None:
        rate = f"times {setting['lr_factor']:g} at epochs {', '.join(map(str, setting['milestones']))}"
    epochs, mark = setting["epochs"], schedule_mark(setting)
    parts = [
        f"{mark.capitalize() or count(epochs, 'epoch')} of SGD on {_trained_on(setting)}",
        f"batch {setting['batch_size']}",
        *_microbatches(setting),
        f"learning rate {setting['lr']:g} ({rate})",
        f"{'Nesterov ' if setting['nesterov'] else ''}momentum {setting['momentum']:g}",
        f"weight decay {setting['weight_decay']:g}",
        "no augmentation" if setting["augmentation"] == "none" else f"augmentation {setting['augmentation']}",
        "pixels from 0 to 1" if setting["normalisation"] == "scale" else "",
        *(
            f"{name.replace('_', ' ')} {setting[name]:g}" if setting[name] else ""
            for name in ("dropout", "label_smoothing", "clip_norm", "ema_decay")
        ),
        f"{setting['precision']}{', compiled' if setting['compiled'] else ''}"
        f"{' into CUDA graphs' if isinstance(setting['compiled'], str) else ''}"
        f"{', with fused BatchNorm' if setting.get('fused') else ''}",
    ]
    return f"{', '.join(filter(None, parts))}; seeds {seed_ranges(seeds)}."


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that are not the same in all settings."""
    first = settings[0]
    return [field for field, value in first.items() if any(setting[field] != value for setting in settings)]


def told_apart(setting: Mapping[str, Any], fields: Sequence[str]) -> str:
    """What a setting has in the fields that tell it from others.

    >>> told_apart({"lr": 0.05, "batch_size": 32, "full_epochs": None}, ["lr", "batch_size", "full_epochs"])
    'lr 0.05, batch size 32'
    """
    values = {field.replace("_", " "): setting[field] for field in fields if setting[field] is not None}
    return ", ".join(f"{name} {f'{value:g}' if isinstance(value, float) else value}" for name, value in values.items())


def row_label(config: RunConfig, beside: str = "") -> str:
    """What a table calls the runs of a config: the method, and those of its options that are not said `beside` it."""
    known = {name: option for part in parts_of(config.method) for name, option in METHODS[part].options.items()}
    numbers = [f"{known[name].shown or name} {value:.3g}" for name, value in config.options.items()]
    numbers = [number for number in numbers if number not in beside]
    return label(config.method, config.network) + (f" ({', '.join(numbers)})" if numbers else "")


def all_seeds(table: Table) -> list[int]:
    """Every seed of any row."""
    return sorted({seed for row in table.rows for seed in row.seeds})
