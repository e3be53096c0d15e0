"""Fills the evidence block of the README from the records under results/; nothing in it is typed by hand.

python scripts/update_readme.py            # rewrites README.md
python scripts/update_readme.py --check    # exit status 1 if README.md or a table is not what the records say
"""

import sys
from pathlib import Path

from generated import ROOT, Pages, bench_tables, depth_costs, throughput, update, whole

from dropact.experiments.errors import RecordError
from dropact.report import Report, collect
from dropact.report.text import markdown


def _folder_block(folder: Path, report: Report, root: Path) -> str:
    place = folder.relative_to(root).as_posix()
    commands = sorted({str(environment["command"]) for environment in report.environments})
    words = ", ".join(f"`{command}`" for command in commands)
    alternative = f"Test error and difference to the baseline: {report.tables[0].title}"
    return (
        f"![{alternative}]({place}/comparison.svg)\n\n{markdown(report)}\n"
        f"Made by {words}; every run is in [{place}]({place})."
    )


def evidence(root: Path) -> str:
    """The block for every folder of results/ that holds runs.

    Raises:
        RecordError: records are damaged, or a committed table is not what they say.
    """
    blocks = [speed(root)]
    if steps := depth_costs(root):
        blocks.append(f"**A training step with stochastic depth, as a ratio to the plain network's**\n\n{steps}")
    if rates := throughput(root):
        blocks.append(
            f"**Training from end to end**, beside the usual recipe of PIL images and a DataLoader\n\n{rates}"
        )
    for folder in sorted(path.parent for path in (root / "results").glob("*/runs")):
        report = collect(folder)
        table = folder / "table.md"
        if not table.exists() or table.read_text(encoding="utf-8") != markdown(report):
            place = folder.relative_to(root).as_posix()
            raise RecordError(f"{place}/table.md is not what its records say: run `dropact report {place}`")
        blocks.append(_folder_block(folder, report, root))
    return "\n\n".join(filter(None, blocks))


def speed(root: Path) -> str:
    """One table of the benchmark records of results/bench: forward + backward, and whole steps, as ratios to ReLU's."""
    tables = [
        (table, environment)
        for table, environment in bench_tables(root)
        if table["layout"] == "contiguous" or "step" in table["what"]
    ]
    if not tables:
        return ""
    names = dict.fromkeys(row["label"] for table, _ in tables for row in table["rows"])
    lines = ["**Time, as a ratio to ReLU's** (medians over interleaved rounds, 95 % interval)", ""]
    lines.append(f"| what | {' | '.join(names)} |")
    lines.append(f"|---|{'---:|' * len(names)}")
    for table, _ in tables:
        cells = {row["label"]: whole(row).shown for row in table["rows"]}
        shown = (cells.get(name, "") for name in names)
        lines.append(f"| {table['what']}, {table['mode']}, {table['dtype']}, {table['shape']} | {' | '.join(shown)} |")
    where = {f"{e['processor']}, {e['threads']} threads, torch {e['packages']['torch']}" for _, e in tables}
    commands = ", ".join(dict.fromkeys(f"`{e['command']}`" for _, e in tables))
    return "\n".join([*lines, "", f"On {'; '.join(sorted(where))}. Made by {commands}."])


def pages(root: Path) -> Pages:
    return {"README.md": {"evidence": evidence(root)}}


def main(root: Path = ROOT, argv: list[str] | None = None) -> int:
    return update(pages, root, argv, __file__, __doc__)


if __name__ == "__main__":
    sys.exit(main())
