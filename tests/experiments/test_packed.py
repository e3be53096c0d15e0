"""Packed runs are the runs: to the byte, to every reader, and to a command that goes on with them."""

import json

import pytest
from makers import config, make_diverged, make_run, snapshot, tiny_data

from dropact.cli import main
from dropact.experiments.errors import RecordError
from dropact.experiments.grid import diverged_runs, finished_runs, run_grid
from dropact.experiments.packed import PACKED, STUDY, pack, packed_runs, runs_in, unpack
from dropact.experiments.progress import FINISHED, progress_of
from dropact.experiments.records import read_run
from dropact.experiments.watch import Watcher

QUICK = ["--methods", "baseline,drop-activation", "--seeds", "2", "--epochs", "1"]
WEIGHTS = ("weights.pt",)


def without_weights(folder):
    return {path: content for path, content in snapshot(folder).items() if path.name not in WEIGHTS}


def filled(folder):
    """Runs of two epochs and settings, one with readings and one that diverged."""
    for seed in range(3):
        make_run(folder, errors=(9.0 + seed, 1 / 3), seed=seed)
    make_run(folder, seed=1, recorded=["stage2"], readings=[{"step": 0, "site": "stage2", "variance_shift": None}])
    make_diverged(folder, seed=7)
    return folder


def test_every_file_comes_back_to_the_byte(tmp_path):
    folder = filled(tmp_path / "runs-of")
    assert pack(runs_in(folder), {}, tmp_path / "packed") == 5
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == [PACKED, STUDY]
    assert unpack(tmp_path / "packed", tmp_path / "again") == 5
    assert without_weights(tmp_path / "again" / "runs") == without_weights(folder / "runs")


def test_a_file_written_in_another_way_is_kept_as_its_text(tmp_path):
    directory = make_run(tmp_path / "a")
    for name in ("environment.json", "timing.json"):
        path = directory / name
        path.write_text(json.dumps(json.loads(path.read_text())))
    pack(runs_in(tmp_path / "a"), {}, tmp_path / "packed")
    unpack(tmp_path / "packed", tmp_path / "again")
    assert without_weights(tmp_path / "again" / "runs") == without_weights(tmp_path / "a" / "runs")


def test_readers_see_the_same(tmp_path):
    folder = filled(tmp_path / "runs-of")
    pack(runs_in(folder), {}, tmp_path / "packed")
    assert finished_runs(tmp_path / "packed") == finished_runs(folder)
    assert diverged_runs(tmp_path / "packed") == diverged_runs(folder)
    assert progress_of(tmp_path / "packed") == progress_of(folder)


def test_an_unfinished_run_is_left_where_it_is(tmp_path):
    (tmp_path / "a" / "runs" / "begun").mkdir(parents=True)
    make_run(tmp_path / "a")
    assert pack(runs_in(tmp_path / "a"), {}, tmp_path / "packed") == 1


def test_more_runs_join_what_is_packed_and_a_second_record_of_one_is_refused(tmp_path):
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1)
    make_run(tmp_path / "c", seed=0, errors=(9.0, 2.0))
    for name in ("a", "b", "a"):
        pack(runs_in(tmp_path / name), {}, tmp_path / "packed")
    assert [run.config.seed for run in finished_runs(tmp_path / "packed")] == [0, 1]
    before = snapshot(tmp_path / "packed")
    with pytest.raises(RecordError, match="another record of this run is packed"):
        pack(runs_in(tmp_path / "c"), {}, tmp_path / "packed")
    assert snapshot(tmp_path / "packed") == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda line: line[: len(line) // 2], "line 1: damaged, not JSON"),
        (lambda line: line.replace('"environment":0', '"environment":9'), "line 1: damaged"),
        (lambda line: line.replace("9.0", "8.0"), "checksum"),
        (lambda line: line.replace('"key":"digits', '"key":"digots'), "its key is digits"),
        (lambda line: "[]\n", "not a JSON object"),
        (lambda line: line.replace('"timing":', '"timings":').replace('"result":', '"results":'), None),
    ],
)
def test_damage_is_named(tmp_path, damage, words):
    make_run(tmp_path / "a")
    pack(runs_in(tmp_path / "a"), {}, tmp_path / "packed")
    path = tmp_path / "packed" / PACKED
    path.write_text(damage(path.read_text()))
    if words is None:  # without a result it is no finished run
        assert finished_runs(tmp_path / "packed") == []
        return
    with pytest.raises(RecordError, match=words):
        finished_runs(tmp_path / "packed")


def test_a_study_of_another_version_is_refused(tmp_path):
    make_run(tmp_path / "a")
    pack(runs_in(tmp_path / "a"), {}, tmp_path / "packed")
    (tmp_path / "packed" / STUDY).write_text('{"format": "dropact study 2"}')
    with pytest.raises(
        RecordError, match=r"study\.json: damaged, format: got .dropact study 2., accepted: dropact study 1"
    ):
        packed_runs(tmp_path / "packed")


def test_what_is_packed_is_not_trained_again(tmp_path):
    made = [config(seed=seed, epochs=1) for seed in (0, 1)]
    run_grid(made[:1], tmp_path / "a", tiny_data(), Watcher())
    pack(runs_in(tmp_path / "a"), {}, tmp_path / "packed")
    run_grid(made, tmp_path / "packed", tiny_data(), Watcher())
    assert [path.name for path in (tmp_path / "packed" / "runs").iterdir()] == [made[1].key]
    assert [run.config.seed for run in finished_runs(tmp_path / "packed")] == [0, 1]


def test_the_command_packs_goes_on_verifies_and_unpacks(tmp_path, capsys):
    out, packed = tmp_path / "out", tmp_path / "packed"
    assert main(["compare", "--out", str(out), *QUICK]) == 0
    assert main(["pack", str(out), str(packed)]) == 0
    assert "4 runs packed" in capsys.readouterr().out
    assert (packed / "table.md").read_text() == (out / "table.md").read_text()
    assert main(["verify", str(packed), "--runs", "1"]) == 0
    assert "the same bits" in capsys.readouterr().out
    more = ["compare", "--out", str(packed), *QUICK[:3], "3", *QUICK[4:]]
    assert main(more) == 0
    assert len(list((packed / "runs").iterdir())) == 2
    assert main(["pack", str(packed), str(packed)]) == 0
    assert len(packed_runs(packed)) == 6
    assert {run.state for run in progress_of(packed)} == {FINISHED}
    again = tmp_path / "again"
    assert main(["pack", "--unpack", str(packed), str(again)]) == 0
    assert json.loads((again / "comparison.json").read_text())["seeds"] == [0, 1, 2]
    for directory in (out / "runs").iterdir():
        assert read_run(again / "runs" / directory.name) == read_run(directory)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pack", "nowhere", "out"], "no runs in it"),
        (["pack", "--unpack", "nowhere", "out"], "no runs.jsonl in it"),
    ],
)
def test_nothing_to_pack_is_refused_and_nothing_written(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_comparison_is_not_packed_into_a_folder(tmp_path, capsys):
    for name, epochs in (("a", "1"), ("b", "2")):
        words = ["compare", "--out", str(tmp_path / name), *QUICK[:4], "--epochs", epochs]
        assert main(words) == 0
    assert main(["pack", str(tmp_path / "a"), str(tmp_path / "packed")]) == 0
    before = snapshot(tmp_path / "packed")
    capsys.readouterr()
    assert main(["pack", str(tmp_path / "b"), str(tmp_path / "packed")]) == 2
    assert "another comparison" in capsys.readouterr().err
    assert snapshot(tmp_path / "packed") == before
