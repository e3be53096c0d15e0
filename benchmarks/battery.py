"""dieharder on the mask bits: about half an hour of one core. Needs dieharder, a package of most distributions.

    python benchmarks/battery.py --json results/randomness/battery.json

The stream is that of bits.py, from its start for every test. A test with a p-value that dieharder calls weak or failed
is made again on a stream of four times the length, and once more: a defect is then the clearer, and chance is gone. The
same command goes on where it was stopped. The tests 5, 6, 7 and 14 are left out: dieharder's own list calls them
suspect or wrong.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import begin, keep, parser

FORMAT = "dropact battery 1"
TESTS = (
    *map(str, (0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 15, 16, 17, 100, 101, 102, 204, 205, 206, 207, 208, 209)),
    *(f"200 -n {n}" for n in (1, 4, 8, 12)),
    *(f"201 -n {n}" for n in (2, 3, 4, 5)),
    *(f"202 -n {n}" for n in (2, 3, 4, 5)),
    *(f"203 -n {n}" for n in (0, 1, 7, 15, 31)),
)
SHOWN = ("test_name", "ntuple", "tsamples", "psamples", "pvalues", "assessment")
LONGER, AGAIN = 4, 2


def run(test: str, psamples: int | None = None) -> list[dict[str, Any]]:
    """One row per p-value."""
    wanted = [part for name in SHOWN for part in ("-D", name)]
    length = [] if psamples is None else ["-p", str(psamples)]
    command = ["dieharder", "-g", "200", *wanted, "-d", *test.split(), *length]
    bits = Path(__file__).with_name("bits.py")
    with subprocess.Popen([sys.executable, str(bits)], stdout=subprocess.PIPE) as stream:
        said = subprocess.run(command, stdin=stream.stdout, stdout=subprocess.PIPE, text=True, check=True).stdout
        stream.terminate()
    rows = [
        {
            "test": name,
            "n": int(n),
            "tsamples": int(tsamples),
            "psamples": int(samples),
            "p": float(p),
            "assessment": assessment.lower(),
        }
        for name, n, tsamples, samples, p, assessment in (
            map(str.strip, line.split("|")) for line in said.splitlines() if line.count("|") == len(SHOWN) - 1
        )
    ]
    if not rows:
        sys.exit(f"dieharder printed no p-value for test {test}:\n{said}")
    return rows


def version() -> str:
    """Raises: SystemExit: there is no dieharder."""
    if shutil.which("dieharder") is None:
        sys.exit("needs dieharder on the PATH: apt-get install dieharder")
    said = subprocess.run(["dieharder", "-l"], stdout=subprocess.PIPE, text=True, check=False).stdout
    found = re.search(r"dieharder version (\S+)", said)
    return found[1] if found else "unknown"


def doubted(rows: Iterable[dict[str, Any]]) -> int | None:
    """With how many samples to repeat a test; None where it has passed."""
    samples = [row["psamples"] for row in rows if row["assessment"] != "passed"]
    return LONGER * max(samples) if samples else None


def main(argv: list[str]) -> None:
    args = parser(__doc__).parse_args(argv)
    out = args.json
    about = begin(__file__, argv, args)
    about.pop("noise")  # nothing is timed
    record = {"format": FORMAT, "dieharder": version(), "environments": [], "tests": {}}
    if out and out.exists():
        record = json.loads(out.read_text(encoding="utf-8"))
    if about not in record["environments"]:
        record["environments"].append(about)
    for test in TESTS:
        made = record["tests"].setdefault(test, [])
        while not made or (len(made) <= AGAIN and doubted(made[-1])):
            made.append(run(test, doubted(made[-1]) if made else None))
            keep(out, record)
        for row in (row for rows in made for row in rows):
            print(f"{row['test']:24} {row['n']:3} {row['psamples']:6} {row['p']:.6f} {row['assessment']}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
