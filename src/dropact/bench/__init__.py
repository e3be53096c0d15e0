"""What an activation costs: operations and training steps timed side by side, as ratios to plain ReLU."""

from dropact.bench.candidates import NAMES
from dropact.bench.machine import environment
from dropact.bench.race import Figure
from dropact.bench.record import FORMAT, Kept, Table, Timing, document
from dropact.bench.suite import Case, Suite, measure
from dropact.bench.terminal import LEGEND, show_head, show_table
from dropact.bench.timing import Effort

__all__ = [
    "FORMAT",
    "LEGEND",
    "NAMES",
    "Case",
    "Effort",
    "Figure",
    "Kept",
    "Suite",
    "Table",
    "Timing",
    "document",
    "environment",
    "measure",
    "show_head",
    "show_table",
]
