"""`dropact plan`: what a reproduction would cost on this machine."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropact.cli.options import add_pace_options, command_line, require_extras, set_threads
from dropact.cli.parser import UsageError, add_verb, budget, share, within
from dropact.cli.reproduce import add_recipe_options, asked_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dropact.experiments.planning.fleet import Fleet
    from dropact.experiments.planning.plan import Line

DESCRIPTION = """\
Times a few training steps of each row and method of a table or figure, on noise in the shape of its data, and prints
what the whole would take here: seconds per step, images per second, hours per run, hours in all. Needs no data and
trains nothing. Where two full batches do not fit into --seconds, a smaller one is timed and the time scaled up, which
says rather too much; such lines are marked. Memory is the peak of the process, or of torch on the GPU, without data.
What --compiled takes at the beginning of each run is not counted.

--gpus 64 says how long it would take on 64 devices like the one that is measured, with runs begun as `--on ray` begins
them: how much of their time goes by in waiting for the last runs, and how many devices are as many as help.
"""


FORMAT = "dropact plan 1"


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "plan", "what a reproduction would cost here", DESCRIPTION, run)
    add_recipe_options(parser, "table1 ... table6, figure2, figure4, figure6, gaaf-mnist ...")
    add_pace_options(parser)
    parser.add_argument("--seconds", type=budget, default=5.0, help="for the steps of each row and method (5)")
    parser.add_argument("--gpus", type=within(1, 10**6), metavar="N", help="plan for N devices like this one")
    parser.add_argument(
        "--gpus-per-run",
        type=share,
        metavar="N",
        help="with --gpus: devices of each run, such as 0.25 (1)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures in FILE")


def run(args: argparse.Namespace) -> None:
    require_extras()
    from rich.console import Console

    from dropact.bench.machine import Watch, environment, noise
    from dropact.cli.json_file import claim_file
    from dropact.cli.terminal import wide_console
    from dropact.experiments.config import RunConfig
    from dropact.experiments.planning.fleet import Fleet
    from dropact.experiments.planning.plan import in_order, plan

    if args.gpus is None and args.gpus_per_run is not None:
        raise UsageError("--gpus-per-run: given without --gpus, which it belongs to")
    per_run = 1.0 if args.gpus_per_run is None else args.gpus_per_run
    if not per_run or (args.gpus is not None and args.gpus < per_run):
        raise UsageError(f"--gpus-per-run: got {per_run:g}, accepted: a number above 0, and at most --gpus")
    asked = asked_for(args, None)
    if args.json is not None:
        claim_file(args.json, FORMAT)
    rows = [(name, comparison.configs()) for name, comparison in asked.rows.items()]
    set_threads(args, rows[0][1][0].dataset)
    about = environment(args.device, command_line(args))
    progress = Console(stderr=True)
    with progress.status("") as status, Watch() as watch:

        def announce(done: int, of: int, config: RunConfig) -> None:
            status.update(f"{done + 1} of {of}: {config.network}, {config.method}")

        lines = plan(rows, args.device, args.seconds, announce)
    console = wide_console()
    show(asked.recipe, lines, console)
    fleet = None if args.gpus is None else Fleet.of(in_order(lines), args.gpus, per_run)
    if fleet is not None:
        console.print(sentence(fleet), highlight=False)
    doubts = noise(watch.others, 0.0)
    if doubts:
        console.print(f"[bold yellow]NOISY:[/] {'; '.join(doubts)}: alone, it takes less", highlight=False)
    if args.json is not None:
        keep(args, asked.recipe, lines, doubts, about, fleet)


def show(recipe: str, lines: "Sequence[Line]", console: Any) -> None:
    """Prints one line per row and method, and the sum."""
    from rich.table import Table

    from dropact.experiments.config import schedule_mark
    from dropact.experiments.methods import label

    marks = {mark for line in lines if (mark := schedule_mark(line.config.setting))}
    table = Table(title=", ".join([recipe, *sorted(marks)]), title_justify="left", show_footer=True)
    table.add_column("Row", "in all")
    table.add_column("Method")
    for heading, sum_ in (
        ("Batch", ""),
        ("s/step", ""),
        ("images/s", ""),
        ("Hours\nper run", ""),
        ("Runs", str(sum(line.runs for line in lines))),
        ("Hours", number(sum(line.seconds for line in lines) / 3600)),
        ("Memory\n(GiB)", ""),
    ):
        table.add_column(heading, sum_, justify="right")
    for line in lines:
        cost = line.cost
        scaled = cost.batch_size < line.config.batch_size
        table.add_row(
            line.row,
            label(line.config.method),
            f"{line.config.batch_size}{f' (timed: {cost.batch_size})' if scaled else ''}",
            number(cost.step_seconds),
            number(line.images_per_second),
            number(line.run_seconds / 3600),
            str(line.runs),
            number(line.seconds / 3600),
            "–" if cost.peak_bytes is None else number(cost.peak_bytes / 2**30),
        )
    console.print(table)


def number(value: float) -> str:
    """Three digits, or all before the point.

    >>> [number(value) for value in (0.012345, 1.2345, 1234.5)]
    ['0.0123', '1.23', '1,234']
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def sentence(fleet: "Fleet") -> str:
    """What many devices come to."""
    hours, longest = (number(seconds / 3600) for seconds in (fleet.seconds, fleet.longest))
    return (
        f"On {fleet.devices} devices like this one, {fleet.per_run:g} for each run: {hours} hours, with "
        f"{100 * (1 - fleet.busy):.0f} % of their time spent waiting for the last runs. More than {fleet.enough} "
        f"devices do not help: the longest run takes {longest} hours."
    )


def keep(
    args: argparse.Namespace,
    recipe: str,
    lines: "Sequence[Line]",
    doubts: "Sequence[str]",
    about: dict[str, Any],
    fleet: "Fleet | None" = None,
) -> None:
    """Writes the figures with what they were measured on."""
    import json

    from dropact.experiments.files import write_text

    values = {
        "format": FORMAT,
        "recipe": recipe,
        "seconds": args.seconds,
        "noise": list(doubts),
        "environment": about,
        "lines": [line.to_values() for line in lines],
        "hours": sum(line.seconds for line in lines) / 3600,
        **({} if fleet is None else {"fleet": fleet.to_values()}),
    }
    write_text(args.json, json.dumps(values, indent=2) + "\n")
