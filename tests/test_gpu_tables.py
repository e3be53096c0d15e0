"""What is done on a lent GPU, on a CPU: both calls run, and what goes from lease to lease ends as if never cut."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gpu_data
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def call(into: Path, **settings: str) -> None:
    words = {"DEVICE": "cpu", "MODE": "", "PARALLEL": "2", "EPOCHS": "30", "PYTHON": sys.executable, "INTO": str(into)}
    script = [str(ROOT / "scripts" / "gpu_tables.sh"), "dry-run"]
    subprocess.run(script, env={**os.environ, "OMP_NUM_THREADS": "1", **words, **settings}, timeout=600)


@pytest.mark.parametrize("call", ["check", "train"])
@pytest.mark.slow
def test_a_call_of_the_session(tmp_path, call):
    words = {"DEVICE": "cpu", "PYTHON": sys.executable, "OUT": str(tmp_path), "DROPACT_DATA": str(tmp_path / "data")}
    script = [str(ROOT / "scripts" / "gpu_session.sh"), call]
    environment = {**os.environ, **words, "PARCELS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    shutil.rmtree(ROOT / "build" / "gpu", ignore_errors=True)
    subprocess.run(script, env=environment, timeout=600, check=True)
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert records
    assert all(record["complete"] for record in records)
    assert (tmp_path / "tests.txt").exists() == (call == "check")
    assert bool(list(tmp_path.glob("*.tar.*"))) == (call == "train")
    assert len(list(tmp_path.iterdir())) <= 8 + 1  # of which `data` does not travel


def test_images_travel_in_two_parcels_without_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_data, "PIECE", 200)
    rng = np.random.default_rng(0)
    arrays = {"label_names": np.array(["cat", "dog"])}
    for part, count in (("train", 500), ("test", 100)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = rng.integers(0, 2, count, dtype=np.uint8)
    np.savez(tmp_path / "cifar10.npz", **arrays)
    gpu_data.pack(tmp_path / "cifar10.npz", tmp_path / "parcels")
    both, target = tmp_path / "both", tmp_path / "joined.npz"
    shutil.copytree(tmp_path / "parcels" / "2", both)
    with pytest.raises(FileNotFoundError):
        gpu_data.join(both, target)
    shutil.copytree(tmp_path / "parcels" / "1", both, dirs_exist_ok=True)
    gpu_data.join(both, target)
    with np.load(target) as joined:
        assert set(joined.files) == set(arrays)
        assert all(np.array_equal(joined[name], array) for name, array in arrays.items())
    shutil.copy(both / "images0.webp", both / "images1.webp")
    target.unlink()
    with pytest.raises(SystemExit):
        gpu_data.join(both, target)
    assert not target.exists()


def test_checkpoints_are_left_out_where_they_are_too_many(tmp_path):
    (tmp_path / "out").mkdir()
    run = tmp_path / "into" / "dry-run" / "runs" / "one"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text("kept")
    (run / "1.checkpoint").write_bytes(bytes(2 << 20))
    for most, expected in (("3", {"metrics.jsonl", "1.checkpoint"}), ("1", {"metrics.jsonl"})):
        call(tmp_path / "into", OUT=str(tmp_path / "out"), MOST=most, PYTHON="true")
        (piece,) = (tmp_path / "out").iterdir()
        listed = subprocess.run(["tar", "-tf", piece], capture_output=True, text=True, check=True).stdout.split()
        assert {Path(name).name for name in listed if not name.endswith("/")} == expected
        piece.unlink()


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
