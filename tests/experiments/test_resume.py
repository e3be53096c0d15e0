"""A run that is stopped and gone on with ends with the bits of one never stopped."""

import hashlib
import io
import json
import pickle

import pytest
import torch
from makers import config, tiny_data
from stopping import StopAfter, Stopped, assert_same

from dropact.experiments import trainer
from dropact.experiments.batches import Batches
from dropact.experiments.checkpoint import MAGIC, Checkpoints, CheckpointWarning, checkpoints_in
from dropact.experiments.engine import train
from dropact.experiments.errors import DivergedError, RecordError, TrainingError
from dropact.experiments.grid import diverged_runs, finished_runs, run_grid
from dropact.experiments.records import read_run
from dropact.experiments.watch import Watcher

PER_EPOCH = 4  # 30 images in batches of at most 8


class Note(Watcher):
    def __init__(self):
        self.resumed_behind = None
        self.seen = []

    def resumed(self, made, metrics, seen):
        self.resumed_behind = len(metrics)
        self.seen.append(seen)

    def stepped(self, made, seen):
        self.seen.append(seen)


def checkpoints(folder, made, data, every=0.0):
    return Checkpoints(folder, made.key, data.sha256, every)


def stop_after(steps, folder, made, data, every=0.0):
    with pytest.raises(Stopped):
        train(made, data, StopAfter(steps), checkpoints=checkpoints(folder, made, data, every))


def same(one, two):
    assert one.readings == two.readings
    assert_same(one, two)
    assert len(one.seconds) == len(two.seconds)


SETTINGS = [
    {},
    {"method": "dropout+drop-activation", "ema_decay": 0.7, "clip_norm": 0.5, "label_smoothing": 0.1},
    {"method": "cutout+rrelu", "options": {"size": 2}, "augmentation": "crop+flip", "seed": 3},
    {"method": "drop-activation", "precision": "bfloat16", "memory_format": "channels_last", "nesterov": True},
    {"method": "drop-activation", "schedule": "step", "milestones": [1, 2], "train_on": "train+validation"},
    {"method": "drop-activation", "network": "resnet-20", "recorded": ["stage2", "stage3"]},
]


@pytest.fixture(autouse=True)
def _recorded_often(monkeypatch):
    monkeypatch.setattr(trainer, "RECORDED_EVERY", 3)  # of the twelve steps of three epochs


@pytest.mark.parametrize("fields", SETTINGS)
@pytest.mark.parametrize("stops", [(1,), (PER_EPOCH,), (2, 3, 5), (3 * PER_EPOCH - 1,)])
def test_stopped_anywhere_it_ends_with_the_same_bits(tmp_path, fields, stops):
    data, made = tiny_data(), config(epochs=3, **fields)
    for steps in stops:
        stop_after(steps, tmp_path, made, data)
        assert len(checkpoints_in(tmp_path)) <= 2
    same(train(made, data, checkpoints=checkpoints(tmp_path, made, data)), train(made, data))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"compiled": True, "method": "drop-activation", "precision": "bfloat16", "memory_format": "channels_last"},
        {"method": "autoaugment+cutout", "augmentation": "crop+flip", "network": "simple"},
    ],
)
def test_compiled_and_with_workers_too(tmp_path, fields):
    data = tiny_data(name="cifar10", channels=(3,), size=32)
    made = config(epochs=3, dataset="cifar10", **fields)
    for steps in (2, 7):
        stop_after(steps, tmp_path, made, data)
    same(train(made, data, checkpoints=checkpoints(tmp_path, made, data)), train(made, data))


class StopAtRecord(Watcher):
    """Ends it behind the last step of an epoch and the checkpoint of that step, before the one that ends the epoch."""

    def epoch(self, made, metrics):
        raise Stopped


@pytest.mark.slow
def test_with_workers_it_goes_on_behind_the_last_step_of_an_epoch(tmp_path):
    data = tiny_data(name="cifar10", channels=(3,), size=32)
    made = config(dataset="cifar10", method="autoaugment")
    with pytest.raises(Stopped):
        train(made, data, StopAtRecord(), checkpoints=checkpoints(tmp_path, made, data))
    assert checkpoints_in(tmp_path)[-1].name == f"step-{PER_EPOCH:09d}.checkpoint"
    same(train(made, data, checkpoints=checkpoints(tmp_path, made, data)), train(made, data))


@pytest.mark.parametrize("method", ["baseline", "autoaugment"])
def test_behind_the_last_batch_of_an_epoch_there_is_none(method):
    data = tiny_data(name="cifar10", channels=(3,), size=32)
    batches = Batches(config(dataset="cifar10", method=method), data)
    assert list(batches.epoch(0, first=batches.per_epoch)) == []


def test_it_goes_on_where_it_stood_and_says_so(tmp_path):
    data, made = tiny_data(), config(epochs=3)
    stop_after(6, tmp_path, made, data)
    note = Note()
    train(made, data, note, checkpoints=checkpoints(tmp_path, made, data))
    assert note.resumed_behind == 1
    assert note.seen == [30 * step // PER_EPOCH for step in range(6, 13)]


def test_a_checkpoint_of_a_cpu_gives_an_accelerator_a_stream_of_its_own(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state, device: calls.append((state, device)))
    monkeypatch.setattr("torch.cuda.manual_seed", lambda seed: calls.append(seed))
    data, made = tiny_data(), config()
    stop_after(2, tmp_path, made, data)
    state = checkpoints(tmp_path, made, data).found.state
    ours = torch.arange(16, dtype=torch.uint8)
    for found in (state["masks_on_device"], ours):
        trainer.set_masks_on_device(found, torch.device("cuda", 0), 7)
    assert calls == [7, (ours, torch.device("cuda", 0))]


def test_a_run_stopped_behind_its_last_epoch_only_evaluates(tmp_path, monkeypatch):
    data, made = tiny_data(), config()
    whole = train(made, data, checkpoints=checkpoints(tmp_path, made, data))

    def step(self, images, labels):
        raise AssertionError

    monkeypatch.setattr(trainer.Trainer, "step", step)
    same(train(made, data, checkpoints=checkpoints(tmp_path, made, data)), whole)


def test_checkpoints_come_when_they_are_due_and_the_last_two_stay(tmp_path):
    data, made = tiny_data(), config(epochs=3)
    train(made, data, checkpoints=checkpoints(tmp_path / "rare", made, data, every=1000.0))
    assert not (tmp_path / "rare").exists()
    train(made, data, checkpoints=checkpoints(tmp_path, made, data))
    assert [path.name for path in checkpoints_in(tmp_path)] == [
        "step-000000011.checkpoint",
        "step-000000012.checkpoint",
    ]


def poison_step(monkeypatch, number, what):
    plain = trainer.Trainer.step

    def step(self, images, labels):
        plain(self, images, labels)
        if self.steps == number + 1:
            what(self)

    monkeypatch.setattr(trainer.Trainer, "step", step)


def spoil_loss(made):
    made._losses[-1] *= float("inf")


def spoil_weights(made):
    next(made.network.parameters()).data.fill_(float("nan"))


@pytest.mark.parametrize(("what", "words"), [(spoil_loss, "loss of step 6 "), (spoil_weights, "weights after step 6 ")])
def test_a_run_that_diverges_keeps_its_last_good_checkpoint(tmp_path, monkeypatch, what, words):
    data, made = tiny_data(), config(epochs=3)
    poison_step(monkeypatch, 6, what)
    with pytest.raises(TrainingError) as caught:
        train(made, data, checkpoints=checkpoints(tmp_path, made, data))
    message = str(caught.value)
    good = tmp_path / "step-000000006.checkpoint"
    assert all(word in message for word in (words, "not finite", "lr=0.1", str(good))), message
    assert "\n" not in message
    assert checkpoints_in(tmp_path)[-1] == good
    monkeypatch.undo()
    same(train(made, data, checkpoints=checkpoints(tmp_path, made, data)), train(made, data))


def test_a_run_that_diverges_at_once_says_that_there_is_no_checkpoint(tmp_path, monkeypatch):
    data, made = tiny_data(), config()
    poison_step(monkeypatch, 0, spoil_loss)
    with pytest.raises(TrainingError, match="checkpoint: none yet"):
        train(made, data, checkpoints=checkpoints(tmp_path, made, data))


class StopRun(StopAfter):
    """The same for a grid, which is told of every run."""


def grid(made, folder, data, watcher=None, **more):
    run_grid([made], folder, data, watcher or Watcher(), "dropact train", **more)
    return folder / "runs" / made.key


def test_a_grid_goes_on_and_leaves_the_files_of_a_run_never_stopped(tmp_path):
    data, made = tiny_data(), config(epochs=3, method="drop-activation")
    with pytest.raises(Stopped):
        grid(made, tmp_path / "a", data, StopAfter(6), checkpoint_seconds=0.0)
    half = tmp_path / "a" / "runs" / made.key
    assert len(checkpoints_in(half)) == 2
    assert not (half / "lock").exists()
    note = Note()
    one = grid(made, tmp_path / "a", data, note)
    assert note.resumed_behind == 1
    two = grid(made, tmp_path / "b", data)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    for path in two.iterdir():
        if path.name != "timing.json":
            assert (one / path.name).read_bytes() == path.read_bytes(), path.name
    assert len(json.loads((one / "timing.json").read_text())["epoch_seconds"]) == 3


def test_what_a_kill_behind_the_result_leaves_is_removed(tmp_path):
    data, made = tiny_data(), config()
    run = grid(made, tmp_path, data)
    (run / "step-000000004.checkpoint").write_bytes(b"left")
    (run / "lock").write_bytes(b"left")
    before = (run / "weights.pt").read_bytes()
    grid(made, tmp_path, data)
    assert not checkpoints_in(run)
    assert not (run / "lock").exists()
    assert (run / "weights.pt").read_bytes() == before


def test_going_on_elsewhere_is_said_and_kept(tmp_path, monkeypatch):
    data, made = tiny_data(), config(epochs=3)
    with pytest.raises(Stopped):
        grid(made, tmp_path, data, StopAfter(5), checkpoint_seconds=0.0)
    monkeypatch.setattr("dropact.experiments.environment.git_revision", lambda: "other")
    with pytest.warns(CheckpointWarning, match="git_revision"):
        run = grid(made, tmp_path, data)
    environment = read_run(run).environment
    assert environment["git_revision"] == "other"
    assert [earlier["git_revision"] != "other" for earlier in environment["before"]] == [True]


def test_other_data_or_another_config_is_refused_and_nothing_is_changed(tmp_path):
    data, made = tiny_data(), config(epochs=3)
    with pytest.raises(Stopped):
        grid(made, tmp_path, data, StopAfter(5), checkpoint_seconds=0.0)
    run = tmp_path / "runs" / made.key
    other = config(epochs=3, seed=1)
    run.rename(run.with_name(other.key))
    before = {path.name: path.read_bytes() for path in (tmp_path / "runs" / other.key).iterdir()}
    with pytest.raises(RecordError, match=r"step-000000005\.checkpoint.*another run \(config .*-s0-.*-s1-"):
        grid(other, tmp_path, data)
    assert {path.name: path.read_bytes() for path in (tmp_path / "runs" / other.key).iterdir()} == before
    (tmp_path / "runs" / other.key).rename(run)
    with pytest.raises(RecordError, match=r"another run \(data "):
        grid(made, tmp_path, tiny_data(test=16))


def spoil_some(monkeypatch, seeds, at=2):
    """Runs of these seeds diverge at a step."""
    plain = trainer.Trainer.step

    def step(self, images, labels):
        plain(self, images, labels)
        if self.config.seed in seeds and self.steps == at + 1:
            spoil_loss(self)

    monkeypatch.setattr(trainer.Trainer, "step", step)


class Given(Watcher):
    def __init__(self):
        self.up, self.done = [], []

    def finished(self, made, result):
        self.done.append(made.seed)

    def failed(self, made, error):
        self.up.append((made.seed, error.step, error.epoch))


def test_a_run_that_diverges_stops_no_other_and_leaves_word(tmp_path, monkeypatch):
    configs, note = [config(seed=seed) for seed in range(4)], Given()
    spoil_some(monkeypatch, (0, 2), at=5)
    with pytest.raises(TrainingError, match="2 of 4 runs could not be trained; the first: the loss of step 5 is not"):
        run_grid(configs, tmp_path, tiny_data(), note)
    assert (note.up, note.done) == ([(0, 5, 2), (2, 5, 2)], [1, 3])
    assert [run.config.seed for run in finished_runs(tmp_path)] == [1, 3]
    assert [(run.config, run.step, run.epoch) for run in diverged_runs(tmp_path)] == [
        (configs[0], 5, 2),
        (configs[2], 5, 2),
    ]
    record = tmp_path / "runs" / configs[0].key / "diverged.json"
    assert "the loss of step 5 is not finite" in json.loads(record.read_text())["error"]
    monkeypatch.undo()
    run_grid(configs, tmp_path, tiny_data(), Watcher())
    assert not record.exists()
    assert diverged_runs(tmp_path) == []
    assert len(finished_runs(tmp_path)) == 4


def test_a_full_disk_stops_the_grid_at_once(tmp_path, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("dropact.experiments.checkpoint.write_atomically", full)
    note = Given()
    with pytest.raises(RecordError, match="No space left"):
        run_grid([config(seed=seed) for seed in range(2)], tmp_path, tiny_data(), note, checkpoint_seconds=0.0)
    assert (note.up, note.done) == ([], [])
    assert diverged_runs(tmp_path) == []


def test_that_a_run_diverged_is_told_whole_to_another_process():
    error = pickle.loads(pickle.dumps(DivergedError("the loss; of this", 5, 2)))
    assert (str(error), error.step, error.epoch) == ("the loss; of this", 5, 2)


def forge(path, change=lambda state: state, header=None):
    """The file with another state, or another header, under a checksum that is right."""
    head, _, body = path.read_bytes()[len(MAGIC) :].partition(b"\n")[2].partition(b"\n")
    file = io.BytesIO()
    torch.save(change(torch.load(io.BytesIO(body), weights_only=True)), file)
    rest = (head if header is None else header) + b"\n" + file.getvalue()
    path.write_bytes(MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)


def without(name):
    return lambda state: {field: value for field, value in state.items() if field != name}


OTHER_STATES = {
    "empty": lambda state: {},
    "a list": lambda state: [],
    "no network": without("network"),
    "no optimiser": without("optimiser"),
    "no masks": without("masks"),
    "a weight less": lambda state: {**state, "network": dict(list(state["network"].items())[1:])},
    "a weight of another shape": lambda state: {
        **state,
        "network": {n: v.flatten()[:1] for n, v in state["network"].items()},
    },
    "momentum of another shape": lambda state: {
        **state,
        "optimiser": {
            **state["optimiser"],
            "state": {i: {"momentum_buffer": torch.zeros(1)} for i in state["optimiser"]["state"]},
        },
    },
    "foreign metrics": lambda state: {**state, "metrics": '[{"epoch": 1}]'},
    "metrics of another epoch": lambda state: {**state, "metrics": "[]", "seconds": []},
    "losses without errors": lambda state: {**state, "losses": torch.zeros(3)},
    "a generator of another size": lambda state: {**state, "masks": torch.zeros(3, dtype=torch.uint8)},
    "no time": lambda state: {**state, "seconds": None},
}


@pytest.mark.parametrize("change", OTHER_STATES.values(), ids=OTHER_STATES)
@pytest.mark.parametrize("damaged", [1, 2])
def test_a_checkpoint_of_another_structure_leaves_the_one_before(tmp_path, change, damaged):
    data, made = tiny_data(), config(epochs=3, ema_decay=0.5)
    stop_after(6, tmp_path, made, data)
    paths = checkpoints_in(tmp_path)
    for path in paths[-damaged:]:
        forge(path, change)
    note = Note()
    with pytest.warns(CheckpointWarning) as caught:
        outcome = train(made, data, note, checkpoints=checkpoints(tmp_path, made, data))
    assert f"{paths[-1].name}: damaged, holds another state" in str(caught[0].message)
    assert len(caught) == 1 + 2 * (damaged == 2)  # then the run begins anew
    assert (note.resumed_behind is None) == (damaged == 2)
    same(outcome, train(made, data))


@pytest.mark.parametrize(
    "header", [b"[]", b"{}", b"3", b"\xff", b'{"step": "9"}', b'{"environment": 3}', b"[" * 100_000]
)
def test_a_checkpoint_with_another_header_leaves_the_one_before(tmp_path, header):
    data, made = tiny_data(), config(epochs=3)
    stop_after(6, tmp_path, made, data)
    before, last = checkpoints_in(tmp_path)
    forge(last, header=header)
    with pytest.warns(CheckpointWarning, match=f"{last.name}: damaged, its header"):
        assert checkpoints(tmp_path, made, data).found.path == before
