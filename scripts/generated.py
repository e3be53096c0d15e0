"""What the scripts share that write parts of pages from records: blocks between marks, --check, `dropact bench`'s."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from math import nan
from pathlib import Path, PurePosixPath
from typing import Any

from dropact.bench import FORMAT, Figure
from dropact.experiments.recipes import figure3
from dropact.report import Report, collect, figure6, index
from dropact.report.captions import count
from dropact.report.figure3 import read_study
from dropact.report.grids import Grid
from dropact.report.text import markdown_list, markdown_table

ROOT = Path(__file__).resolve().parents[1]
Blocks = Mapping[str, str]  # the text of each block by the name in its marks
Pages = Mapping[str, Blocks]  # by the page's path from the root
Measured = tuple[Mapping[str, Any], Mapping[str, Any]]  # a benchmark's table, and the environment of its record
Reports = Mapping[str, Report]  # by the name of the folder in results/


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def filled(page: str, blocks: Blocks) -> str:
    """`page` with each block between its two marks.

    Raises:
        ValueError: a mark is missing, stands twice, or they stand in the wrong order.
    """
    for name, block in blocks.items():
        begin, end = marks(name)
        if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
            raise ValueError(f"needs one {begin} and one {end} after it")
        before, _, rest = page.partition(begin)
        after = rest.partition(end)[2]
        page = f"{before}{begin}\n{block}\n{end}{after}"
    return page


def update(pages: Callable[[Path], Pages], root: Path, argv: list[str] | None, script: str, about: str | None) -> int:
    """Rewrites `pages` under `root`; with --check in `argv` only says on stderr which differ from the records.

    Args:
        script: the file that was called.
        about: its docstring, for --help.

    Returns:
        The exit status: 1 where a page differs and was to be left, or where records or marks are damaged; then no
        page is written.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, only say whether all is up to date")
    args = parser.parse_args(argv)
    try:
        stale = _stale(pages(root), root)
    except ValueError as error:  # RecordError is one
        sys.stderr.write(f"{error}\n")
        return 1
    for place, text in stale.items():
        if args.check:
            sys.stderr.write(f"{place}: not what the records say: run scripts/{Path(script).name}\n")
        else:
            (root / place).write_text(text, encoding="utf-8")
    return int(args.check and bool(stale))


def _stale(pages: Pages, root: Path) -> dict[str, str]:
    """The pages that differ, as they should be."""
    found = {}
    for place, blocks in pages.items():
        page = (root / place).read_text(encoding="utf-8")
        try:
            wanted = filled(page, blocks)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if page != wanted:
            found[place] = wanted
    return found


def well_begun(reports: Reports) -> Reports:
    """The studies of which half or more is run: the others stand in docs/evidence.md alone."""
    return {name: report for name, report in reports.items() if 2 * report.finished >= report.planned}


def reports_in(root: Path) -> Reports:
    """Every folder of results/ that holds runs.

    Raises:
        RecordError: records are damaged.
    """
    studies = index.studies_in(root / "results")
    return {study.name: collect(study) for study in studies if not (study / figure3.FILE).exists()}


def study(name: str, report: Report, root: str) -> str:
    """The link to a study's table, and which runs its means do without.

    Args:
        root: the way from the page to the folder of results/.
    """
    place = PurePosixPath(root, "results", name, "table.md")
    return f"[{name}]({place})" + (f" ({report.gaps})" if report.gaps else "")


def regressions(root: Path) -> str:
    """What Figure 3's two regressions show, as a list; nothing where they are not recorded."""
    folder = root / "results" / "figure3"
    if not (folder / "figure3.json").exists():
        return ""
    return markdown_list(read_study(folder).sentences())


def variance_shifts(reports: Reports, root: str) -> str:
    """What every recorded variance shift came to, under its study, as lists; nothing where none is recorded.

    Args:
        root: the way from the page to the folder of results/.
    """
    said = []
    for name, report in reports.items():
        if listed := [sentence for table in report.tables for sentence in figure6.sentences(table)]:
            said.append(f"Variance shift while training, {study(name, report, root)}:")
            said.append(markdown_list(listed))
    return "\n\n".join(said)


def commands(environments: Iterable[Mapping[str, Any]]) -> str:
    """Each command once, as code."""
    return ", ".join(dict.fromkeys(f"`{made['command']}`" for made in environments))


def benchmarks(root: Path, form: str) -> list[dict[str, Any]]:
    """Every record of `results/bench` and `results/gpu` of that format, as `read_benchmark` has it."""
    paths = [path for folder in ("bench", "gpu") for path in sorted((root / "results" / folder).glob("*.json"))]
    return [record for path in paths if (record := read_benchmark(path))["format"] == form]


def read_benchmark(path: Path) -> dict[str, Any]:
    """A benchmark's record; whatever speaks against all its figures stands in its environment's `noise`."""
    record = json.loads(path.read_text(encoding="utf-8"))
    noise = [*record["environment"].get("noise", ()), *record.get("noise", ())]
    if not record.get("complete", True):
        noise.append("stopped before all was measured")
    record["environment"]["noise"] = noise
    return record


def bench_tables(root: Path) -> list[Measured]:
    """Every table recorded by `dropact bench`, with its environment."""
    return [(table, record["environment"]) for record in benchmarks(root, FORMAT) for table in record["tables"]]


def made_by(environment: Mapping[str, Any], tables: Iterable[Mapping[str, Any]] = ()) -> str:
    """On what a benchmark ran, how to run it again, and why its figures deserve doubt, if they do.

    Args:
        tables: those of its tables that are shown; each may have doubts of its own.
    """
    doubts = list(environment["noise"])
    for table in tables:
        doubts += [f"{why} in {what(table)}" for why in table.get("noise", ())]
    noisy = f" Noisy: {'; '.join(doubts)}." if doubts else ""
    return f"Made by `{environment['command']}` on {machine(environment)}.{noisy}"


def all_made_by(measured: Iterable[Measured]) -> str:
    """As `made_by`, for tables of any number of records."""
    tables: dict[str, list[Mapping[str, Any]]] = {}
    environments = {}
    for table, environment in measured:
        key = json.dumps(environment, sort_keys=True)
        environments[key] = environment
        tables.setdefault(key, []).append(table)
    return " ".join(made_by(environments[key], found) for key, found in tables.items())


def what(table: Mapping[str, Any]) -> str:
    """What a benchmark's table is of."""
    if "title" in table:
        return str(table["title"])
    return f"{table['what']}, {how(table)}"


def how(table: Mapping[str, Any]) -> str:
    """How `dropact bench` measured a table."""
    return f"{table['mode']}, {table['dtype']}, {table['shape']}, {table['layout']}"


def machine(environment: Mapping[str, Any]) -> str:
    """The hardware that did the work, and what decides its speed besides."""
    torch = environment["packages"]["torch"]
    if environment["accelerator"]:
        return f"{environment['accelerator']}, torch {torch}"
    return f"{environment['processor']}, {count(environment['threads'], 'thread')}, torch {torch}"


def depth_costs(root: Path) -> str:
    """Training steps with stochastic depth, ours and others', as ratios to the plain network's."""
    records = benchmarks(root, "dropact stochastic depth 1")
    if not records:
        return ""
    names = list(dict.fromkeys(row["name"] for record in records for row in record["rows"]))
    lines = []
    for record in sorted(records, key=lambda record: -record["batch"]):
        how = f"{record['network']}, batch {record['batch']}, {record['precision']}"
        ratios = {row["name"]: figure(row).shown for row in record["rows"]}
        lines.append(
            (f"{how}, last survival rate {record['last_survival']:g}", *(ratios.get(name, "–") for name in names))
        )
    made = "\n".join(dict.fromkeys(made_by(record["environment"]) for record in records))
    return f"{markdown_table(Grid(('Step', *names), lines))}\n\n{made}"


def throughput(root: Path) -> str:
    """Images per second of whole training, beside the usual recipe's."""
    said = []
    for record in benchmarks(root, "dropact throughput 1"):
        rows = []
        for row in record["rows"]:
            if row["name"].endswith(", fused"):  # what the revision that was measured could, and this one cannot
                continue
            ratios = (row.get("to_usual"), row.get("to_no_pipeline"))
            shown = (figure(ratio).shown if ratio else "–" for ratio in ratios)
            rows.append((row["name"], f"{row['images_per_second']:.0f}", *shown))
        headings = (f"{record['network']}, batch {record['batch']}", "Images/s", "× usual", "× no pipeline")
        said.append(f"{markdown_table(Grid(headings, rows))}\n\n{made_by(record['environment'])}")
    return "\n\n".join(said)


def figure(values: Mapping[str, float]) -> Figure:
    """A ratio as a benchmark recorded it, with the time behind it or without."""
    return Figure(values.get("microseconds", nan), values["ratio"], values["low"], values["high"])


def whole(row: Mapping[str, Any]) -> Figure:
    """The last figure of a row, which has in it what those before it measure."""
    return figure(next(reversed(row["figures"].values())))
