"""The benchmark on a terminal."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from dropact.bench.machine import falls_back
from dropact.bench.record import CandidateTimes, Measurement

if TYPE_CHECKING:
    from rich.console import Console

LEGEND = (
    "Times are medians over interleaved rounds; × is the median ratio to F.relu of the same round and mode, with its "
    "95 % interval. Kept: bytes per element held for backward, of the input + of the output + beyond both."
)


def show_head(environment: Mapping[str, Any], console: "Console") -> None:
    """What serves and on what; loudly, where it is not a kernel of ours."""
    packages = environment["packages"]
    machine = environment["accelerator"] or f"{environment['processor']}, {environment['cores']} cores"
    console.print(
        f"Backend: {environment['backend']}. {machine}, threads {environment['threads']}, torch {packages['torch']}, "
        f"revision {environment['git_revision'] or 'unknown'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if falls_back(environment["backend"]):
        console.print("[bold red]THE TORCH DEFINITION SERVES: these are not the figures of the fused kernels[/]")
    if environment["noise"]:
        console.print(f"[bold yellow]NOISY:[/] {'; '.join(environment['noise'])}", highlight=False, soft_wrap=True)


def show_measurement(measured: Measurement, console: "Console") -> None:
    """One case, a candidate a row."""
    from rich.markup import escape
    from rich.table import Table

    title = f"{measured.case.title} ({measured.rounds} rounds"
    title += f", {measured.calls} calls a turn)" if measured.calls > 1 else ")"
    if falls_back(measured.backend):
        title += f"\nTHE TORCH DEFINITION SERVES, no kernel: {measured.backend}"
    if measured.noise:
        title += f"\nNOISY: {'; '.join(measured.noise)}"
    table = Table(title=escape(title), title_justify="left")
    columns: dict[str, Callable[[CandidateTimes], str]] = {"": lambda row: row.label}
    for part in measured.rows[0].figures if measured.rows else ():
        columns[f"{part}\n× F.relu"] = partial(lambda part, row: row.figures[part].shown, part)
        columns[f"{part}\nµs"] = partial(lambda part, row: f"{row.figures[part].microseconds:,.0f}", part)
    columns["kept\nin+out+more"] = lambda row: " + ".join(f"{round(x, 2):g}" for x in row.kept) if row.kept else ""
    columns["most memory\nMiB"] = lambda row: f"{row.peak_bytes / 2**20:,.0f}" if row.peak_bytes else ""
    cells = {heading: [cell(row) for row in measured.rows] for heading, cell in columns.items()}
    shown = [heading for heading, column in cells.items() if any(column)]
    for heading in shown:
        table.add_column(heading, justify="right" if heading else "left", no_wrap="×" in heading)
    for row in zip(*(cells[heading] for heading in shown), strict=True):
        table.add_row(*map(escape, row))
    console.print(table)
    for name, why in measured.left_out.items():
        console.print(f"[bold]Left out:[/bold] {escape(name)}: {escape(why)}", highlight=False)
