"""What a benchmark leaves: tables of rows, and the JSON document they make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dropact.bench.saved import Kept

FORMAT = "dropact bench 1"


@dataclass(frozen=True)
class Figure:
    """Median time of a call, and its ratio to the baseline's with a 95 % interval."""

    microseconds: float
    ratio: float
    low: float
    high: float

    @property
    def shown(self) -> str:
        """The ratio and its interval, as people read them."""
        return f"{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Timing:
    """One candidate: a figure per part, and what it keeps for backward.

    On a GPU also its `share` of the copy's bandwidth, taken over forward and backward, and the most memory that a step
    takes, weights, gradients and optimiser included.
    """

    name: str
    label: str
    figures: Mapping[str, Figure]
    kept: Kept | None = None
    share: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Table:
    """Candidates measured together. `noise` says why the figures deserve doubt, `left_out` who could not run.

    `copy_bandwidth` is what the copy moves, bytes read and bytes written, per second.
    """

    what: str
    mode: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    backend: str
    rounds: int
    calls: int
    rows: Sequence[Timing]
    noise: Sequence[str]
    left_out: Mapping[str, str]
    copy_bandwidth: float | None = None

    @property
    def title(self) -> str:
        size = "×".join(map(str, self.shape))
        return f"{self.what}, {self.mode}: {self.dtype}, {size}, {self.layout}"


def document(environment: Mapping[str, Any], tables: Sequence[Table], complete: bool) -> str:
    """The JSON text of a benchmark.

    >>> import json
    >>> sorted(json.loads(document({"threads": 2}, [], complete=True)))
    ['complete', 'environment', 'format', 'noisy', 'tables']
    """
    noisy = bool(environment.get("noise")) or any(table.noise for table in tables)
    content = {
        "format": FORMAT,
        "complete": complete,
        "noisy": noisy,
        "environment": dict(environment),
        "tables": [asdict(table) for table in tables],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
