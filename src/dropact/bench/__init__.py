"""What an activation costs: operations and training steps timed side by side, as ratios to plain ReLU."""

from dropact.bench.candidates import NAMES
from dropact.bench.machine import environment
from dropact.bench.record import FORMAT, Figure, Table, Timing, document
from dropact.bench.saved import Kept, kept_for_backward
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
    "kept_for_backward",
    "measure",
    "show_head",
    "show_table",
]
