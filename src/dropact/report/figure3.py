"""Figure 3: the errors of the two regressions as a table, and the picture in the paper's form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropact.experiments.methods import label
from dropact.experiments.recipes import figure3
from dropact.experiments.recipes.figure3 import COMPARED, FUNCTIONS
from dropact.experiments.statistics import ALPHA, Summary, paired_difference, summarise
from dropact.report.captions import count, equals, mean_and_interval, probability, signed, signed_interval
from dropact.report.grids import Grid
from dropact.report.marks import PANEL, against_zero, interval, legend
from dropact.report.page import bullets, document, figures, html_table
from dropact.report.pictures import Picture
from dropact.report.svg import INK, canvas, render, standalone
from dropact.report.tables import seed_ranges
from dropact.report.text import markdown_list, markdown_table
from dropact.report.write import write_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH, PLAIN, OURS = "#0072B2", "#E69F00", "#009E73"  # the paper's blue, orange and green
STYLES: Mapping[str, Any] = {
    "baseline": {"color": PLAIN, "linestyle": "--"},
    "drop-activation": {"color": OURS, "linestyle": "-"},
}
TITLE = "Figure 3: regression of two functions from 20 noisy points"
HEADINGS = (
    "Function",
    "Steps",
    "On the points, ReLU",
    "On the points, Drop-Activation",
    "To the truth, ReLU",
    "To the truth, Drop-Activation",
    "Difference to the truth",
    "p",
)
LEGEND = (
    "Root mean square distances: on the points, to the noisy values trained on; to the truth, to the function without "
    "noise on 1,001 points of [0, 10], both in evaluation mode. Mean over n seeds ± half of the 95 % t-interval. The "
    "difference is Drop-Activation minus ReLU, paired: same points, noise and initial weights; p by the paired t-test, "
    "two-sided, not corrected. The last line of each function is the result; the others show shorter training."
)


@dataclass(frozen=True)
class Results:
    """The record of the study, and what follows from it."""

    record: Mapping[str, Any]

    @property
    def seeds(self) -> list[int]:
        return sorted(map(int, self.record["seeds"]))

    @property
    def steps(self) -> list[int]:
        return list(self.record["study"]["steps"])

    @property
    def seed_shown(self) -> int:
        return int(self.record["shown"]["seed"])

    def errors(self, function: str, method: str, step: int, part: str) -> dict[int, float]:
        """By seed, in the units of y; `part` is "train" or "test"."""
        return {s: self.record["seeds"][str(s)][function][method][str(step)][part] for s in self.seeds}

    def difference(self, function: str, step: int, part: str = "test") -> Summary:
        """Drop-Activation minus ReLU."""
        ours, baseline = (self.errors(function, method, step, part) for method in reversed(COMPARED))
        found = paired_difference(ours, baseline)
        assert found is not None
        return found

    def differences(self, function: str) -> list[float]:
        """Of every seed how much farther from the truth Drop-Activation ends than ReLU."""
        ours, baseline = (self.errors(function, method, self.steps[-1], "test") for method in reversed(COMPARED))
        return [ours[seed] - baseline[seed] for seed in self.seeds]

    def summary(self, function: str, method: str, step: int, part: str) -> Summary:
        """Of `errors`, over the seeds."""
        return summarise(list(self.errors(function, method, step, part).values()))

    def nearest(self, function: str, method: str) -> tuple[float, int]:
        """The least mean distance to the truth over the lengths of training, and that length."""
        return min((self.summary(function, method, step, "test").mean, step) for step in self.steps)

    def sentences(self) -> list[str]:
        """What the study shows, one sentence per function, and what it does not show."""
        said = []
        for function in FUNCTIONS:
            test, train = (self.difference(function, self.steps[-1], part) for part in ("test", "train"))
            nearer = sum(found < 0 for found in self.differences(function))
            (relu, early), (ours, late) = (self.nearest(function, method) for method in COMPARED)
            said.append(
                f"{function}: Drop-Activation's distance to the truth is {_verdict(test)}, smaller in "
                f"{nearer} of {len(self.seeds)} seeds; its distance to the points {_verdict(train)}. "
                f"Stopped at the best of the lengths shown, which takes the truth to know, ReLU has {relu:.2f} "
                f"(at {early:,} steps), Drop-Activation {ours:.2f} (at {late:,})."
            )
        return said


def _verdict(found: Summary) -> str:
    if found.p_value is None:
        return f"{signed(found.mean)} ({found.note})"
    side = "lower" if found.mean < 0 else "higher"
    verdict = side if found.p_value < ALPHA else "not shown to differ from ReLU's"
    return f"{verdict} ({signed_interval(found)}, p {equals(found.p_value)})"


def read_study(folder: Path) -> Results:
    """The study in a folder.

    Raises:
        RecordError: it is not there or damaged.
    """
    return Results(figure3.read(folder))


def grid(study: Results) -> Grid:
    """One line per function and number of steps."""
    rows = []
    for function in FUNCTIONS:
        for step in study.steps:
            found = study.difference(function, step)
            errors = [
                mean_and_interval(study.summary(function, method, step, part))
                for part in ("train", "test")
                for method in COMPARED
            ]
            rows.append((function, f"{step:,}", *errors, signed_interval(found), probability(found.p_value)))
    return Grid(HEADINGS, rows)


def markdown(study: Results) -> str:
    """What the study shows, the table, and how it was made."""
    settings = study.record["study"]
    commands = dict.fromkeys(f"`{e['command']}`" for e in study.record["environments"])
    e = study.record["environments"][-1]
    where = f"{e['processor']}, {count(e['threads'], 'thread')}, torch {e['packages']['torch']}"
    widths = "-".join(map(str, settings["widths"]))
    return "\n\n".join(
        [
            f"**Figure 3: regression from {settings['points']} points, n = {len(study.seeds)} seeds**",
            markdown_list(study.sentences()),
            markdown_table(grid(study)),
            f"Hidden layers {widths}, drop_prob {settings['drop_prob']:g}, noise {settings['noise']:g}, Adam at "
            f"{settings['lr']:g}; seeds {seed_ranges(study.seeds)}. {LEGEND}",
            f"Made by {', '.join(commands)} on {where}.\n",
        ]
    )


def _parts(study: Results) -> Mapping[str, tuple[Callable[["Axes"], None], str]]:
    """What draws each part of the picture and what that shows, by its name."""
    shown = f"The true function, the training points and both networks, seed {study.seed_shown}."
    effects = "Distance to the truth, Drop-Activation minus ReLU, every seed, mean and 95 % interval."
    parts = {name: (partial(_curves, function=name, study=study), shown) for name in FUNCTIONS}
    return parts | {"effects": (partial(_differences, study=study), f"{effects} {' '.join(study.sentences())}")}


def picture(study: Results, name: str = "figure3") -> str:
    """Both regressions of the one seed that is shown, as in the paper, and the differences of all seeds."""
    parts = _parts(study)
    with canvas(10.4, 3.6) as figure:
        for axes, (draw, _) in zip(figure.subplots(1, 3, width_ratios=(1, 1, 0.9)), parts.values(), strict=True):
            draw(axes)
        legend(figure, columns=4)
        return render(figure, name, TITLE, " ".join(dict.fromkeys(said for _, said in parts.values())))


def panels(study: Results) -> list[str]:
    """The parts of `picture` one by one, as wide as a phone."""
    drawn = []
    for number, (name, (draw, said)) in enumerate(_parts(study).items()):
        with canvas(*PANEL) as figure:
            draw(figure.subplots())
            legend(figure)
            drawn.append(render(figure, f"panel{number}", f"{TITLE}: {name}", said))
    return drawn


def _curves(axes: "Axes", function: str, study: Results) -> None:
    import torch

    shown = study.record["shown"]["functions"][function]
    x = torch.linspace(0, 10, figure3.DRAWN)
    axes.plot(x.tolist(), FUNCTIONS[function](x).tolist(), color=TRUTH, linewidth=1.2, label="True function")
    for method in COMPARED:
        axes.plot(x.tolist(), shown[method], **STYLES[method], linewidth=1.6, label=label(method))
    axes.plot(shown["x"], shown["y"], "*", color=INK, markersize=6, label="Training points", linestyle="")
    letter = "ab"[list(FUNCTIONS).index(function)]
    axes.set_xlabel(f"x\n({letter}) {function}, seed {study.seed_shown}")
    axes.set_ylabel("y")


def _differences(axes: "Axes", study: Results) -> None:
    against_zero(axes, len(FUNCTIONS), "Distance to the truth minus ReLU's")
    for height, function in enumerate(FUNCTIONS):
        found, every = study.difference(function, study.steps[-1]), study.differences(function)
        interval(axes, found, height - 0.14, {"color": OURS, "marker": "D"}, every)
    axes.set_yticks(range(len(FUNCTIONS)), list(FUNCTIONS), rotation=90, va="center")


def comma_separated(study: Results) -> str:
    """One line per function, steps, method and seed, in full precision."""
    lines = ["function,steps,method,seed,on_the_points,to_the_truth"]
    for function in FUNCTIONS:
        for step in study.steps:
            for method in COMPARED:
                points, truth = (study.errors(function, method, step, part) for part in ("train", "test"))
                lines += [f"{function},{step},{method},{seed},{points[seed]},{truth[seed]}" for seed in study.seeds]
    return "\n".join(lines) + "\n"


def page(study: Results) -> str:
    """The study as one page that loads nothing."""
    body = (
        bullets(study.sentences())
        + figures([Picture(panel) for panel in panels(study)])
        + html_table(grid(study), f"Seeds {seed_ranges(study.seeds)}. {LEGEND}")
    )
    return document(TITLE, body, study.record["environments"])


def write_figure3(study: Results, folder: Path) -> list[Path]:
    """table.md, table.csv, figure3.svg and report.html.

    Raises:
        RecordError: the folder cannot be written.
    """
    texts = {
        "table.md": markdown(study),
        "table.csv": comma_separated(study),
        "figure3.svg": standalone(picture(study)),
        "report.html": page(study),
    }
    return write_texts(texts, folder)
