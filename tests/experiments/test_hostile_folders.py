"""Folders that somebody else prepared: links are not followed, pipes not waited for, nonsense is said to be damaged."""

import json
import os

import pytest
from makers import config, make_run

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
