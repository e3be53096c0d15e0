"""What a benchmark leaves: tables of rows, and the JSON document they make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from dropact.bench.race import Figure

FORMAT = "dropact bench 1"


class Kept(NamedTuple):
    """Bytes held for backward per element of the input: of the input itself, of the output, and of anything else.

    The output is free where the next layer keeps it anyway, as a convolution does.
    """

    input: float
    output: float
    more: float


@dataclass(frozen=True)
class Case:
    """One table to be."""

    what: str
    mode: str  # eager | compiled
    dtype: str
    shape: tuple[int, ...]
    layout: str  # contiguous | channels_last
    network: str | None = None  # whose step it is

    @property
    def title(self) -> str:
        size = "×".join(map(str, self.shape))
        return f"{self.what}, {self.mode}: {self.dtype}, {size}, {self.layout}"


@dataclass(frozen=True)
class CandidateTimes:
    """One candidate: a figure per part, what it keeps for backward, and on a GPU the most memory that a step takes,
    weights, gradients and optimiser included."""

    name: str
    label: str
    figures: Mapping[str, Figure]
    kept: Kept | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Measurement:
    """The candidates of a case, measured together.

    `noise` says why the figures deserve doubt, `left_out` who could not run.
    """

    case: Case
    backend: str
    rounds: int
    calls: int
    rows: Sequence[CandidateTimes]
    noise: Sequence[str]
    left_out: Mapping[str, str]


def document(environment: Mapping[str, Any], measured: Sequence[Measurement], complete: bool) -> str:
    """The JSON text of a benchmark.

    >>> import json
    >>> sorted(json.loads(document({"threads": 2}, [], complete=True)))
    ['complete', 'environment', 'format', 'noisy', 'tables']
    """
    tables = [asdict(one) for one in measured]
    for row in (row for table in tables for row in table["rows"] if row["kept"]):
        row["kept"] = row["kept"]._asdict()
    content = {
        "format": FORMAT,
        "complete": complete,
        "noisy": bool(environment.get("noise")) or any(one.noise for one in measured),
        "environment": dict(environment),
        "tables": [table.pop("case") | table for table in tables],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
