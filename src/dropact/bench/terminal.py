"""The benchmark on a terminal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dropact.bench.machine import falls_back
from dropact.bench.record import Table

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


def show_table(table: Table, console: "Console") -> None:
    """One case, a candidate a row."""
    from rich.markup import escape
    from rich.table import Table as Grid

    title = f"{table.title} ({table.rounds} rounds"
    title += f", {table.calls} calls a turn)" if table.calls > 1 else ")"
    if falls_back(table.backend):
        title += f"\nTHE TORCH DEFINITION SERVES, no kernel: {table.backend}"
    if table.noise:
        title += f"\nNOISY: {'; '.join(table.noise)}"
    grid = Grid(title=escape(title), title_justify="left")
    parts = list(table.rows[0].figures) if table.rows else []
    grid.add_column("")
    for part in parts:
        grid.add_column(f"{part}\n× F.relu", justify="right", no_wrap=True)
        grid.add_column("\nµs", justify="right", no_wrap=True)
    with_kept = any(row.kept for row in table.rows)
    if with_kept:
        grid.add_column("kept\nin+out+more", justify="right")
    with_peak = any(row.peak_bytes is not None for row in table.rows)
    if with_peak:
        grid.add_column("most memory\nMiB", justify="right")
    for row in table.rows:
        cells = [row.label]
        for part in parts:
            cells += [row.figures[part].shown, f"{row.figures[part].microseconds:,.0f}"]
        if with_kept:
            kept = (row.kept.input, row.kept.output, row.kept.more) if row.kept else ()
            cells.append(" + ".join(f"{round(value, 2):g}" for value in kept))
        if with_peak:
            cells.append("" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:,.0f}")
        grid.add_row(*map(escape, cells))
    console.print(grid)
    for name, why in table.left_out.items():
        console.print(f"[bold]Left out:[/bold] {escape(name)}: {escape(why)}", highlight=False)
