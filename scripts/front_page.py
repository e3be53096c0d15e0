"""The blocks of README.md: the papers' claims beside what was measured here, and the speed, in a few lines each."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from generated import Reports, bench_tables, benchmarks, figure, whole

from dropact.report import Table, budgets, verdicts
from dropact.report.captions import count, signed
from dropact.report.grids import Grid
from dropact.report.text import markdown_table

# The study that asked, what a paper says, and of which kinds (`verdicts.Effect.kind`) it says it; () is of all.
CLAIMS: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("figure2", "Drop-Activation: lowest error at a rate of 0.05", ()),
    ("methods-cifar10", "Drop-Activation, RReLU: lower error than ReLU", ("drop-activation", "rrelu")),
    ("methods-cifar100", "the same", ("drop-activation", "rrelu")),
    ("gaaf-mnist", "GAAF: lower error than tanh", ("gaaf",)),
    ("depth-budget-small", "Stochastic depth: falling rates beat uniform ones", ("depth-linear",)),
)
COMPARED = {  # labels of `dropact bench`, and what the front page calls them
    "drop_activation": "Drop-Activation",
    "randomized_relu": "RReLU",
    "F.rrelu": "torch's RReLU",
    "mask arithmetic": "masks in torch",
}


def results(reports: Reports) -> str:
    """A line per claim: how many comparisons are better, worse or inconclusive."""
    lines = []
    for name, claim, kinds in CLAIMS:
        if name in reports:
            tables = reports[name].tables
            found = [one for table in tables for one in verdicts.comparisons(table)]
            found = [one for one in found if not kinds or one.kind in kinds]
            seeds = max(one.difference.n for one in found)
            verdict = _verdicts(found) + "".join(map(_against_plain, tables))
            lines.append((claim, _settings(tables), str(seeds), verdict, f"[table](results/{name}/table.md)"))
    if not lines:
        return "None recorded yet."
    headings = ("A paper says", "Tried here on", "Seeds", "Measured here (points of test error)", "All")
    return markdown_table(Grid(headings, lines))


def _settings(tables: Iterable[Table]) -> str:
    of = dict.fromkeys(
        (table.setting["dataset"], table.setting["network"], table.setting["epochs"]) for table in tables
    )
    return "; ".join(f"{dataset}, {network}, {count(epochs, 'epoch')}" for dataset, network, epochs in of)


def _against_plain(table: Table) -> str:
    """What profiles of survival rates are against the plain network: their verdicts are against uniform ones."""
    if not budgets.against_uniform(table):
        return ""
    means = sorted(row.difference.mean for row in table.rows if row.difference is not None)
    return f"; all against no dropping {signed(means[0], 1)} to {signed(means[-1], 1)}"


def _verdicts(found: Iterable[verdicts.Effect]) -> str:
    """`1 better (−1.91), 6 inconclusive`, with the range of the means of what is better or worse."""
    said = []
    for verdict in (verdicts.BETTER, verdicts.WORSE, verdicts.INCONCLUSIVE):
        means = sorted((one.difference.mean for one in found if one.verdict == verdict), key=abs)
        if means:
            ends = dict.fromkeys(signed(mean, 1) for mean in (means[0], means[-1]))
            said.append(f"{len(means)} {verdict} ({' to '.join(ends)})")
    return ", ".join(said)


def speed(root: Path) -> str:
    """A line per kind of measurement and device: the first operation and whole training steps, as ratios to ReLU's."""
    lines, made, seen = [], [], set()
    for table, environment in bench_tables(root):
        kind = (environment["device"], table["what"], table["mode"])
        found = {row["label"]: f"{whole(row).ratio:.2f}" for row in table["rows"]}
        if kind in seen or "drop_activation" not in found:
            continue
        seen.add(kind)
        made.append(environment)
        what = f"{table['what']}, {table['mode']}, {table['dtype']}, {environment['device']}"
        lines.append((what, *(found.get(name, "–") for name in COMPARED)))
    if not lines:
        return "None recorded yet."
    headings = ("Time, as a ratio to ReLU's", *COMPARED.values())
    where = ", ".join(dict.fromkeys(e["accelerator"] or e["processor"] for e in made))
    busy = ", busy: [intervals](docs/evidence.md#time)" * any(environment["noise"] for environment in made)
    return f"{markdown_table(Grid(headings, lines))}\n\nOn {where}{busy}.{_depth(root)}"


def _depth(root: Path) -> str:
    """What a step with stochastic depth takes, ours and torchvision's."""
    for record in benchmarks(root, "dropact stochastic depth 1"):
        ratios = {row["name"]: figure(row).ratio for row in record["rows"]}
        return (
            f" A step of {record['network']} with stochastic depth ending at {record['last_survival']:g} takes "
            f"{ratios['ours, batch']:.2f} of the plain step, torchvision's {ratios['torchvision, batch']:.2f}."
        )
    return ""
