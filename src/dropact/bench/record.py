"""What a benchmark leaves: tables of rows, and the JSON document they make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dropact.bench.race import Figure

FORMAT = "dropact bench 1"


@dataclass(frozen=True)
class Kept:
    """Bytes held for backward per element of the input: of the input itself, of the output, and of anything else.

    The output is free where the next layer keeps it anyway, as a convolution does.
    """

    input: float
    output: float
    more: float


@dataclass(frozen=True)
class Timing:
    """One candidate: a figure per part, what it keeps for backward, and on a GPU the most memory that a step takes,
    weights, gradients and optimiser included."""

    name: str
    label: str
    figures: Mapping[str, Figure]
    kept: Kept | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Table:
    """Candidates measured together. `noise` says why the figures deserve doubt, `left_out` who could not run."""

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
    content = {
        "format": FORMAT,
        "complete": complete,
        "noisy": bool(environment.get("noise")) or any(table.noise for table in tables),
        "environment": dict(environment),
        "tables": [asdict(table) for table in tables],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
