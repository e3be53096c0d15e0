"""Figure 3: the errors of the two regressions as a table, and the picture in the paper's form."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropact.experiments.methods import label
from dropact.experiments.recipes import figure3
from dropact.experiments.recipes.figure3 import COMPARED, FUNCTIONS
from dropact.experiments.statistics import ALPHA, Summary, paired_difference, summarise
from dropact.report.captions import mean_and_interval, probability, signed
from dropact.report.figures import PANEL, new_figure
from dropact.report.grids import Grid
from dropact.report.page import bullets, document, figures, html_table
from dropact.report.pictures import Picture
from dropact.report.svg import INK, SETTINGS, render, standalone
from dropact.report.tables import seed_ranges
from dropact.report.text import markdown_list, markdown_table
from dropact.report.write import write_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH, COLOURS = "#0072B2", {"baseline": "#E69F00", "drop-activation": "#009E73"}  # the paper's blue, orange, green
DASHES = {"baseline": "--", "drop-activation": "-"}
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


_SHOWN = "The true function, the training points and both networks, seed {}."
_EFFECTS = "Distance to the truth, Drop-Activation minus ReLU, every seed, mean and 95 % interval."


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

    def lower_in(self, function: str) -> int:
        """The number of seeds in which Drop-Activation ends nearer to the truth."""
        ours, baseline = (self.errors(function, method, self.steps[-1], "test") for method in reversed(COMPARED))
        return sum(ours[seed] < baseline[seed] for seed in self.seeds)

    def nearest(self, function: str, method: str) -> tuple[float, int]:
        """The least mean distance to the truth over the lengths of training, and that length."""
        means = {
            step: summarise(list(self.errors(function, method, step, "test").values())).mean for step in self.steps
        }
        step = min(means, key=means.__getitem__)
        return means[step], step

    def sentences(self) -> list[str]:
        """What the study shows, one sentence per function, and what it does not show."""
        said = []
        for function in FUNCTIONS:
            test, train = (self.difference(function, self.steps[-1], part) for part in ("test", "train"))
            (relu, early), (ours, late) = (self.nearest(function, method) for method in COMPARED)
            said.append(
                f"{function}: Drop-Activation's distance to the truth is {_verdict(test)}, smaller in "
                f"{self.lower_in(function)} of {len(self.seeds)} seeds; its distance to the points {_verdict(train)}. "
                f"Stopped at the best of the lengths shown, which takes the truth to know, ReLU has {relu:.2f} "
                f"(at {early:,} steps), Drop-Activation {ours:.2f} (at {late:,})."
            )
        return said


def _verdict(found: Summary) -> str:
    if found.p_value is None:
        return f"{signed(found.mean)} ({found.note})"
    side = "lower" if found.mean < 0 else "higher"
    verdict = side if found.p_value < ALPHA else "not shown to differ from ReLU's"
    return f"{verdict} ({_interval(found)}, p {_equals(probability(found.p_value))})"


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _interval(found: Summary) -> str:
    if found.low is None or found.high is None:
        return signed(found.mean)
    return f"{signed(found.mean)} [{signed(found.low)}, {signed(found.high)}]"


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
                mean_and_interval(summarise(list(study.errors(function, method, step, part).values())))
                for part in ("train", "test")
                for method in COMPARED
            ]
            rows.append((function, f"{step:,}", *errors, _interval(found), probability(found.p_value)))
    return Grid(HEADINGS, rows)


def markdown(study: Results) -> str:
    """What the study shows, the table, and how it was made."""
    settings = study.record["study"]
    commands = dict.fromkeys(f"`{e['command']}`" for e in study.record["environments"])
    e = study.record["environments"][-1]
    where = f"{e['processor']}, {e['threads']} thread{'s' * (e['threads'] > 1)}, torch {e['packages']['torch']}"
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


def picture(study: Results, name: str = "figure3") -> str:
    """Both regressions of the one seed that is shown, as in the paper, and the differences of all seeds."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(10.4, 3.6)
        axes = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
        for place, function in enumerate(FUNCTIONS):
            _curves(axes[place], function, study)
        _differences(axes[2], study)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4, fontsize=9)
        return render(
            figure, name, TITLE, f"{_SHOWN.format(study.seed_shown)} {_EFFECTS} {' '.join(study.sentences())}"
        )


def panels(study: Results) -> list[str]:
    """The parts of `picture` one by one, as wide as a phone."""
    import matplotlib

    drawn = []
    with matplotlib.rc_context(SETTINGS):
        for place, function in enumerate(FUNCTIONS):
            figure = new_figure(*PANEL)
            _curves(figure.subplots(), function, study)
            figure.legend(loc="outside upper left", ncols=2, fontsize=9)
            drawn.append(render(figure, f"curves{place}", f"{TITLE}: {function}", _SHOWN.format(study.seed_shown)))
        figure = new_figure(*PANEL)
        _differences(figure.subplots(), study)
        drawn.append(render(figure, "effects", f"{TITLE}: effects", f"{_EFFECTS} {' '.join(study.sentences())}"))
    return drawn


def _curves(axes: "Axes", function: str, study: Results) -> None:
    import torch

    shown = study.record["shown"]["functions"][function]
    x = torch.linspace(0, 10, figure3.DRAWN)
    axes.plot(x.tolist(), FUNCTIONS[function](x).tolist(), color=TRUTH, linewidth=1.2, label="True function")
    for method in COMPARED:
        axes.plot(
            x.tolist(),
            shown[method],
            color=COLOURS[method],
            linestyle=DASHES[method],
            linewidth=1.6,
            label=label(method),
        )
    axes.plot(shown["x"], shown["y"], "*", color=INK, markersize=6, label="Training points", linestyle="")
    letter = "ab"[list(FUNCTIONS).index(function)]
    axes.set_xlabel(f"x\n({letter}) {function}, seed {study.seed_shown}")
    axes.set_ylabel("y")


def _differences(axes: "Axes", study: Results) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    step = study.steps[-1]
    for height, function in enumerate(FUNCTIONS):
        baseline = study.errors(function, "baseline", step, "test")
        ours = study.errors(function, "drop-activation", step, "test")
        values = [ours[seed] - baseline[seed] for seed in study.seeds]
        found = study.difference(function, step)
        colour = COLOURS["drop-activation"]
        axes.scatter(values, [height + 0.14] * len(values), s=14, color=colour, alpha=0.6, linewidth=0)
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [height - 0.14] * 2, color=colour, linewidth=2)
        axes.plot(found.mean, height - 0.14, marker="D", color=colour, markersize=7)
    axes.set_ylim(len(FUNCTIONS) - 0.5, -0.5)
    axes.set_yticks(range(len(FUNCTIONS)), list(FUNCTIONS), rotation=90, va="center")
    axes.set_xlabel("Distance to the truth minus ReLU's\n← better\u2003\u2003\u2003worse →")
    axes.margins(x=0.12)


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
