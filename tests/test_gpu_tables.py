"""The script that trains the tables on a lent GPU, on a CPU: what goes from lease to lease ends as if never cut."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def call(into: Path, **settings: str) -> None:
    words = {"DEVICE": "cpu", "MODE": "", "PARALLEL": "2", "EPOCHS": "30", "PYTHON": sys.executable, "INTO": str(into)}
    script = [str(ROOT / "scripts" / "gpu_tables.sh"), "dry-run"]
    subprocess.run(script, env={**os.environ, "OMP_NUM_THREADS": "1", **words, **settings}, timeout=600)


def test_what_was_carried_does_not_take_the_place_of_what_has_gone_on_since(tmp_path):
    row, carried = tmp_path / "into" / "dry-run", tmp_path / "carried"
    for folder in (row, carried):
        folder.mkdir(parents=True)
    words = {"INTO": str(tmp_path / "into"), "FROM": str(carried), "PYTHON": "true"}  # which trains nothing
    (row / "state").write_text("packed")
    subprocess.run(["tar", "-C", tmp_path / "into", "-cf", carried / "dry-run.tar.aa", "dry-run"], check=True)
    for left, found in (("newer", "newer"), (None, "packed")):
        if left is None:
            shutil.rmtree(row)
        else:
            (row / "state").write_text(left)
        call(tmp_path / "into", **words)
        assert (row / "state").read_text() == found
    shutil.rmtree(row)
    whole = (carried / "dry-run.tar.aa").read_bytes()
    (carried / "dry-run.tar.aa").write_bytes(whole[:1030])
    call(tmp_path / "into", **words)
    assert not row.exists()


@pytest.mark.slow
def test_a_row_carried_to_another_machine_goes_on(tmp_path):
    call(tmp_path / "whole")
    carried = tmp_path / "carried"
    for lease in range(10):
        (tmp_path / "out").mkdir()
        call(tmp_path / f"lease{lease}", LIMIT=str(15 * (lease + 1)), OUT=str(tmp_path / "out"), FROM=str(carried))
        shutil.rmtree(carried, ignore_errors=True)
        (tmp_path / "out").rename(carried)
        if (tmp_path / f"lease{lease}" / "dry-run" / "table.md").exists():
            break
    else:
        pytest.fail("never done")
    whole, parts = (sorted((tmp_path / name / "dry-run" / "runs").iterdir()) for name in ("whole", f"lease{lease}"))
    assert [run.name for run in parts] == [run.name for run in whole]
    assert len(whole) == 4
    for one, other in zip(whole, parts, strict=True):
        for file in ("metrics.jsonl", "result.json"):
            assert (one / file).read_bytes() == (other / file).read_bytes()
