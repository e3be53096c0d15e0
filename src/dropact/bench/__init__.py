"""What an activation costs: operations and training steps timed side by side, as ratios to plain ReLU."""

from dropact.bench.candidates import NAMES
from dropact.bench.machine import environment
from dropact.bench.race import Figure
from dropact.bench.record import FORMAT, CandidateTimes, Case, Kept, Measurement, document
from dropact.bench.suite import Suite, measure
from dropact.bench.terminal import LEGEND, show_head, show_measurement
from dropact.bench.timing import Effort

__all__ = [
    "FORMAT",
    "LEGEND",
    "NAMES",
    "CandidateTimes",
    "Case",
    "Effort",
    "Figure",
    "Kept",
    "Measurement",
    "Suite",
    "document",
    "environment",
    "measure",
    "show_head",
    "show_measurement",
]
