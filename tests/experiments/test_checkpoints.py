"""Files of a checkpoint that are damaged, hostile or cannot be written."""

import hashlib
import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import config

from dropact.experiments.checkpoint import MAGIC, Checkpoints, CheckpointWarning, checkpoints_in
from dropact.experiments.data import load_dataset
from dropact.experiments.errors import DataError, RecordError
from dropact.experiments.files import write_text
from dropact.experiments.records import RunWriter


def store(folder, config="key", data="sum"):
    return Checkpoints(folder, config, data, every=0.0)


@pytest.fixture
def two(tmp_path):
    """A folder with the checkpoints of steps 5 and 9."""
    made = store(tmp_path)
    for step in (3, 5, 9):
        made.save(step, {"weights": torch.full((100,), float(step)), "note": "plain", "seconds": [0.5]})
    return tmp_path


def test_what_was_saved_is_found(two):
    found = store(two).found
    assert found.path.name == "step-000000009.checkpoint"
    assert torch.equal(found.state["weights"], torch.full((100,), 9.0))
    assert (found.state["note"], found.state["seconds"]) == ("plain", [0.5])
    assert [path.name[:14] for path in two.iterdir() if path.name.startswith("step-000000003")] == []
    assert len(list(two.iterdir())) == 2


def cut(share):
    return lambda content: content[: int(share * len(content))]


def flipped(place):
    """One bit at a place counted from the front, or from the back where negative."""

    def change(content):
        changed = bytearray(content)
        changed[place] ^= 4
        return bytes(changed)

    return change


DAMAGES = {
    "empty": cut(0),
    "cut in the head": cut(0.02),
    "cut in half": cut(0.5),
    "cut at the end": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "bit in the magic": flipped(3),
    "bit in the checksum": flipped(len(MAGIC) + 5),
    "bit in the header": flipped(len(MAGIC) + 70),
    "bit in the state": flipped(700),
    "bit at the end": flipped(-1),
    "text": lambda content: b"nonsense",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_named_and_the_one_before_it_is_used(two, damage):
    last = two / "step-000000009.checkpoint"
    content = last.read_bytes()
    assert damage(content) != content
    last.write_bytes(damage(content))
    with pytest.warns(CheckpointWarning, match=r"step-000000009\.checkpoint: damaged") as caught:
        made = store(two)
    assert len(caught) == 1
    assert made.found.path.name == "step-000000005.checkpoint"
    assert torch.equal(made.found.state["weights"], torch.full((100,), 5.0))
    assert last.exists()
    assert made.last.endswith("step-000000005.checkpoint")
    made.save(6, {"weights": torch.zeros(1)})
    assert [path.name for path in checkpoints_in(two)] == ["step-000000005.checkpoint", "step-000000006.checkpoint"]


def test_a_missing_one_leaves_the_one_before_it(two):
    (two / "step-000000009.checkpoint").unlink()
    assert store(two).found.path.name == "step-000000005.checkpoint"


def test_when_all_are_damaged_the_run_begins_anew_and_says_so(two):
    for path in checkpoints_in(two):
        path.write_bytes(b"")
    with pytest.warns(CheckpointWarning) as caught:
        assert store(two).found is None
    assert [str(warning.message).rpartition(": ")[2] for warning in caught][-1].startswith("no checkpoint is left")
    assert len(caught) == 3


def test_a_folder_without_any_is_silent(tmp_path):
    assert store(tmp_path / "not there").found is None
    assert store(tmp_path).last == "none yet"


@pytest.mark.parametrize(("other", "word"), [({"config": "another"}, "config"), ({"data": "another"}, "data")])
def test_a_foreign_one_is_refused(two, other, word):
    with pytest.raises(RecordError, match=rf"step-000000009\.checkpoint: a checkpoint of another run \({word}"):
        store(two, **other)
    assert len(checkpoints_in(two)) == 2


class Live:
    """Unpickled, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_the_payload_of_the_next_tests_is_live(tmp_path):
    pickle.loads(pickle.dumps(Live(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()


@pytest.mark.parametrize("bare", [False, True])
def test_a_payload_in_a_checkpoint_is_not_executed(two, bare):
    """Also in a file whose checksum and owner are right."""
    proof = two / "proof"
    body = io.BytesIO()
    payload = {"weights": torch.zeros(1), "note": Live(proof)}
    pickle.dump(payload, body, protocol=2) if bare else torch.save(payload, body)
    rest = json.dumps({"step": 9, "config": "key", "data": "sum"}).encode() + b"\n" + body.getvalue()
    digest = hashlib.sha256(rest).hexdigest().encode()
    (two / "step-000000009.checkpoint").write_bytes(MAGIC + digest + b"\n" + rest)
    with pytest.warns(CheckpointWarning, match=r"step-000000009\.checkpoint: damaged, holds something else"):
        found = store(two).found
    assert found.path.name == "step-000000005.checkpoint"
    assert not proof.exists()


@pytest.mark.parametrize("key", ["x_train", "y_test"])
def test_a_payload_in_a_data_file_is_not_executed(tmp_path, key):
    proof = tmp_path / "proof"
    arrays = {name: np.zeros(3, np.uint8) for name in ("x_train", "y_train", "x_test", "y_test")}
    arrays[key] = np.array([Live(proof)], dtype=object)
    np.savez(tmp_path / "mnist.npz", **arrays, allow_pickle=True)
    with pytest.raises(DataError, match=r"mnist\.npz"):
        load_dataset("mnist", tmp_path)
    assert not proof.exists()


@pytest.fixture
def full_disk(two, monkeypatch):
    """Files are made, and nothing can be written into them."""
    plain = os.fdopen

    def opened(handle, mode="r", *args, **kwargs):
        if "w" not in mode:
            return plain(handle, mode, *args, **kwargs)
        os.close(handle)
        return open("/dev/full", mode, *args, **kwargs)

    monkeypatch.setattr(os, "fdopen", opened)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_line_and_the_checkpoints_before_stand(two, full_disk):
    made = store(two)
    before = {path: path.read_bytes() for path in two.iterdir()}
    with pytest.raises(RecordError) as caught:
        made.save(12, {"weights": torch.zeros(100_000)})
    message = str(caught.value)
    for words in ("step-000000012.checkpoint", "No space left on device", "step 12", "step-000000009.checkpoint"):
        assert words in message
    assert "\n" not in message
    assert {path: path.read_bytes() for path in two.iterdir()} == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_leaves_no_half_file_and_names_the_whole_one(two, full_disk):
    path = checkpoints_in(two)[0]
    before = {path: path.read_bytes() for path in two.iterdir()}
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(path, "new" * 100_000)
    assert caught.value.filename == str(path)
    assert {path: path.read_bytes() for path in two.iterdir()} == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_of_the_metrics_too(tmp_path, full_disk, monkeypatch):
    monkeypatch.setattr("dropact.experiments.records.write_text", lambda path, text: None)
    writer = RunWriter(tmp_path, config(), {})
    for fails in (lambda: writer.epoch({"epoch": 1}), writer.__exit__):  # closing it tries again
        with pytest.raises(OSError, match="No space left on device") as caught:
            fails()
        assert caught.value.filename == str(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
def test_a_kill_while_writing_leaves_the_ones_before(two, monkeypatch, moment):
    """Whatever was reached, the file that bears the name is whole."""

    class Killed(BaseException):
        pass

    def kill(*args):
        raise Killed

    made = store(two)
    target = {"write": (hashlib, "sha256"), "fsync": (os, "fsync"), "rename": (Path, "replace")}[moment]
    monkeypatch.setattr(*target, kill)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # a killed process tidies nothing
    with pytest.raises(Killed):
        made.save(12, {"weights": torch.ones(5)})
    monkeypatch.undo()
    assert store(two).found.path.name == "step-000000009.checkpoint"
