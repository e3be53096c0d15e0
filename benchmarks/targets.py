"""What the project set out to reach, held beside records of `dropact bench --json`. A report: the status is always 0.

    python benchmarks/targets.py results/bench/cpu-operations.json results/bench/cpu-step.json

Beside `F.relu` the ratio is that of the record, within rounds; beside another operation it is that of the two medians.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

LARGE, SMALL, MEBI_64 = [128, 64, 32, 32], [128, 64, 8, 8], [2**26]
SHARE, COPY = 0.85, "copy"
# Tensors that have to be read or written, forward and backward: a copy's two and two; two and three where backward
# reads something that forward has left.
MOVED = 5 / 4
A_FEW_BYTES = 0.01  # per element: seeds and keys are a handful of bytes for a whole tensor


class Target(NamedTuple):
    """At most `bound` × the time of `plain`; with `faster` a time of `plain` that is at least `bound` × its own."""

    name: str
    bound: float
    part: str = "both"
    mode: str = "eager"
    dtype: str | None = None  # any
    shapes: tuple[list[int], ...] = ()  # any
    plain: str = "relu"
    faster: bool = False


PLAIN = {"drop_activation": "relu", "randomized_relu": "relu", "drop_activation_gelu": "gelu"}
PLAIN |= {"drop_activation_silu": "silu"}
TARGETS = {
    "cpu": (
        Target("drop_activation", 1.12, dtype="float32", shapes=(LARGE,)),
        Target("drop_activation", 1.0, dtype="bfloat16", shapes=(LARGE,)),
        Target("drop_activation", 1.4, shapes=(SMALL,)),
        Target("drop_activation", 5.0, dtype="float32", shapes=(LARGE, SMALL), plain="rrelu", faster=True),
        Target("drop_activation", 12.0, dtype="bfloat16", shapes=(LARGE, SMALL), plain="rrelu", faster=True),
        Target("drop_activation", 6.0, shapes=(LARGE, SMALL), plain="mask_arithmetic", faster=True),
        Target("randomized_relu", 1.3, shapes=(LARGE,)),
        Target("gaaf", 1.15, shapes=(LARGE,)),
        Target("drop_activation", 1.02, "step"),
        Target("drop_activation", 1.05, "step", "compiled"),
    ),
    "cuda": (
        *(Target(name, 1.05, shapes=(MEBI_64,), plain=plain) for name, plain in PLAIN.items()),
        *(Target(name, SHARE, shapes=(MEBI_64,), plain=COPY) for name in PLAIN),
        Target("drop_activation", 1.02, "step"),
        Target("drop_activation", 1.03, "step", "compiled"),
    ),
}
# What may be kept for backward, beyond which there should be nothing.
KEPT = {"drop_activation": "output", "randomized_relu": "output", "gaaf": "input"}
KEPT |= {"drop_activation_gelu": "input", "drop_activation_silu": "input"}


def verdicts(table: Mapping[str, Any], device: str) -> Iterator[tuple[str, float, bool]]:
    """Every target that a table's rows have: in words, what was measured, and whether it is met."""
    rows = {row["name"]: row for row in table["rows"]}
    for target in TARGETS[device]:
        applies = target.mode == table["mode"] and target.dtype in (None, table["dtype"])
        if not applies or not {target.name, target.plain} <= rows.keys():
            continue
        row, plain = rows[target.name], rows[target.plain]
        if target.part not in row["figures"] or (target.shapes and table["shape"] not in target.shapes):
            continue
        own, other = row["figures"][target.part], plain["figures"][target.part]
        if target.plain == COPY:
            value = MOVED * other["microseconds"] / own["microseconds"]
            yield f"{row['label']}: ≥ {SHARE:g} of the copy's bandwidth", value, value >= SHARE
            continue
        value = own["ratio"] if target.plain == "relu" else own["microseconds"] / other["microseconds"]
        if target.faster:
            says, value = f"≥ {target.bound:g} × faster than {plain['label']}", 1 / value
            met = value >= target.bound
        else:
            says, met = f"{target.part} ≤ {target.bound:g} × {plain['label']}", value <= target.bound
        yield f"{row['label']}: {says}", value, met
    for name, free in KEPT.items():
        if table["mode"] == "eager" and name in rows and rows[name]["kept"]:
            value = sum(size for what, size in rows[name]["kept"].items() if what != free)
            yield f"{rows[name]['label']}: 0 bytes kept beyond the {free}", value, value < A_FEW_BYTES


def main(argv: list[str]) -> None:
    for path in map(Path, argv):
        record = json.loads(path.read_text(encoding="utf-8"))
        for table in record["tables"]:
            noisy = f", NOISY: {'; '.join(table['noise'])}" if table["noise"] else ""
            print(f"{table['what']}, {table['mode']}, {table['dtype']}, {table['shape']}, {table['layout']}{noisy}")
            for says, value, met in verdicts(table, record["environment"]["device"]):
                print(f"  {'met   ' if met else 'MISSED'} {says} ({value:.2f})")


if __name__ == "__main__":
    main(sys.argv[1:])
