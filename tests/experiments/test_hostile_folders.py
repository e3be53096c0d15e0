"""Folders that somebody else prepared: links are not followed, pipes not waited for, nonsense is said to be damaged."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from makers import config, make_run
from refusals import refused

from dropact.cli import main
from dropact.experiments.errors import RecordError
from dropact.experiments.files import parsed, read_text, write_text
from dropact.experiments.lock import held
from dropact.experiments.records import RunWriter, read_run


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text("theirs")
    return path


def test_metrics_are_not_written_through_a_link(tmp_path, victim):
    directory = tmp_path / "runs" / config().key
    directory.mkdir(parents=True)
    (directory / "metrics.jsonl").symlink_to(victim)
    with pytest.raises(RecordError, match=r"metrics\.jsonl: a symbolic link"):
        RunWriter(directory, config(), {})
    assert victim.read_text() == "theirs"


def test_a_lock_is_not_taken_through_a_link(tmp_path, victim):
    link = tmp_path / "lock"
    link.symlink_to(victim)
    with pytest.raises(RecordError, match="lock: a symbolic link"), held(link, "it"):
        pass
    assert victim.read_text() == "theirs"


def test_a_file_takes_the_place_of_a_link_and_leaves_what_it_points_to(tmp_path, victim):
    link = tmp_path / "table.md"
    link.symlink_to(victim)
    (tmp_path / f"table.md.{os.getpid()}.part").symlink_to(victim)  # the temporary name cannot be foreseen
    write_text(link, "ours")
    assert (victim.read_text(), link.read_text(), link.is_symlink()) == ("theirs", "ours", False)


def test_a_pipe_is_no_record(tmp_path):
    os.mkfifo(tmp_path / "comparison.json")
    with pytest.raises(RecordError, match="not an ordinary file"):
        read_text(tmp_path / "comparison.json")


def test_a_record_nested_deep_is_damaged(tmp_path):
    with pytest.raises(RecordError, match="damaged"):
        parsed(dict, "[" * 100_000 + "]" * 100_000, tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.jsonl", '{"epoch": 1}\n'),
        ("metrics.jsonl", "7\n"),
        ("lock", json.dumps({"pid": 10**14, "host": os.uname().nodename})),
        ("timing.json", '{"total_seconds": 1e300}'),
        ("timing.json", '{"total_seconds": 1' + "0" * 400 + "}"),
    ],
)
def test_watch_shows_a_folder_of_damaged_files(tmp_path, capsys, name, text):
    directory = make_run(tmp_path)
    if name != "timing.json":
        (directory / "result.json").unlink()
    (directory / name).write_text(text)
    assert main(["watch", str(tmp_path), "--once"]) == 0
    assert capsys.readouterr().out


def test_what_is_whole_is_read(tmp_path):
    assert read_run(make_run(tmp_path)).result["test_error"] >= 0


def rewritten(name, change):
    def damage(directory):
        path = directory / name
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return pytest.param(damage, name, id=f"{name}-{change.__name__}")


def changes(field, *values):
    """The field gone, and in place of it each value."""

    def gone(record):
        del record[field]

    gone.__name__ = f"{field}-gone"
    yield gone
    for value in values:

        def other(record, value=value):
            record[field] = value

        other.__name__ = f"{field}-{str(value)[:9]}"
        yield other


DAMAGES = [
    rewritten(name, change)
    for name, fields in {
        "environment.json": {
            "packages": ([], {"numpy": "2"}, {"torch": 2}),
            "threads": ("1", 0, 10**11),
            "device": (None, "tpu"),
            "data_note": (["a"],),
            "processor": ("\ud800",),
            "accelerator": (3,),
        },
        "config.json": {"dataset": (3,), "lr": (10**400, "x", None), "epochs": (10**400, 10**17), "options": ([],)},
        "result.json": {"best_epoch": ("1", 0), "validation_error": ("x",), "metrics_sha256": (None,)},
    }.items()
    for field, values in fields.items()
    for change in changes(field, *values)
]


@pytest.mark.parametrize(("damage", "name"), DAMAGES)
@pytest.mark.parametrize("verb", ["verify", "report"])
def test_a_damaged_field_is_one_line_that_names_the_file(tmp_path, capsys, verb, damage, name):
    directory = make_run(tmp_path)
    damage(directory)
    assert f"{directory / name}: damaged" in refused(capsys, verb, tmp_path, *["--runs", "1"] * (verb == "verify"))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("readings.jsonl", {"step": 0, "place": "stage2", "variance_shift": 1.0}),
        ("readings.jsonl", {"step": "0", "site": "stage2", "variance_shift": 1.0}),
        ("readings.jsonl", 3),
        ("metrics.jsonl", {"epoch": 1, "train_loss": 1.0, "train_error": 1.0, "test_error": 9.0}),
        ("metrics.jsonl", {"epoch": 1, "train_loss": [], "train_error": 1.0, "validation_error": 9, "test_error": 9.0}),
        ("metrics.jsonl", {"epoch": 1, "train_loss": 1, "train_error": 1, "validation_error": None, "test_error": 9.0}),
    ],
)
def test_a_foreign_line_with_the_right_checksum_is_damage(tmp_path, capsys, name, line):
    shift = {"step": 0, "site": "stage2", "variance_shift": 1.0}
    directory = make_run(tmp_path, errors=(9.0,), recorded=["stage2"], readings=[shift])
    (directory / name).write_text(json.dumps(line) + "\n")
    result = json.loads((directory / "result.json").read_text())
    result[f"{name.partition('.')[0]}_sha256"] = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    (directory / "result.json").write_text(json.dumps(result))
    assert f"{directory / name} line 1: damaged" in refused(capsys, "report", tmp_path)


@pytest.mark.parametrize("name", ["comparison.json", "runs.jsonl", "study.json"])
@pytest.mark.parametrize("verb", ["report", "watch"])
def test_nobody_waits_for_a_pipe(tmp_path, capsys, verb, name):
    make_run(tmp_path)
    os.mkfifo(tmp_path / name)
    assert f"{tmp_path / name}: damaged, not an ordinary file" in refused(capsys, verb, tmp_path)


def test_a_packed_run_does_not_name_a_place_elsewhere(tmp_path, capsys):
    make_run(tmp_path / "a")
    assert main(["pack", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    capsys.readouterr()
    packed = tmp_path / "b" / "runs.jsonl"
    packed.write_text(packed.read_text().replace('"key":"', '"key":"../../'))
    assert "key: got '../../digits" in refused(capsys, "pack", "--unpack", tmp_path / "b", tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("field", ["study", "environments", "seeds", "shown"])
@pytest.mark.parametrize("value", [None, 3, [], {}, [{}], {"0": {}}, {"x": 1}])
def test_a_damaged_figure_3_is_one_line(tmp_path, capsys, field, value):
    record = json.loads((Path(__file__).parents[2] / "results" / "figure3" / "figure3.json").read_text())
    path = tmp_path / "figure3.json"
    path.write_text(json.dumps({**record, field: value}))
    assert f"{path}: damaged" in refused(capsys, "report", tmp_path)
