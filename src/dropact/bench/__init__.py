"""What an activation costs: operations and training steps timed side by side, as ratios to plain ReLU."""

from dropact.bench.candidates import NAMES
from dropact.bench.machine import environment
from dropact.bench.plan import Case, Plan, measure
from dropact.bench.record import FORMAT, Figure, Row, Table, document
from dropact.bench.saved import Kept, kept_for_backward
from dropact.bench.terminal import show_head, show_summary, show_table
from dropact.bench.timing import Effort

__all__ = [
    "FORMAT",
    "NAMES",
    "Case",
    "Effort",
    "Figure",
    "Kept",
    "Plan",
    "Row",
    "Table",
    "document",
    "environment",
    "kept_for_backward",
    "measure",
    "show_head",
    "show_summary",
    "show_table",
]
