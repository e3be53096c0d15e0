import json
import re

import pytest
import torch
from makers import config, make_run, snapshot, tiny_data

from dropact.experiments import environment as environment_module
from dropact.experiments.comparison import Comparison, check_run_folder, claim_folder, join_folder, read_claim
from dropact.experiments.errors import ConfigError, RecordError
from dropact.experiments.grid import finished_runs, run_grid
from dropact.experiments.records import is_finished, read_run
from dropact.experiments.watch import Watcher


class Log(Watcher):
    """A watcher that writes down what it is told."""

    def __init__(self, stop_after=None):
        self.events = []
        self.stop_after = stop_after

    def skipped(self, made):
        self.events.append(("skipped", made.seed))

    def started(self, made, images):
        self.events.append(("started", made.seed))

    def epoch(self, made, metrics):
        self.events.append(("epoch", made.seed, metrics["epoch"]))
        if self.events[-1] == self.stop_after:
            raise KeyboardInterrupt

    def finished(self, made, result):
        self.events.append(("finished", made.seed))


def test_a_run_is_read_back_as_it_was_written(tmp_path):
    directory = make_run(tmp_path, errors=(9.0, 3.0), seed=4)
    run = read_run(directory)
    assert run.config == config(seed=4)
    assert [record["test_error"] for record in run.metrics] == [9.0, 3.0]
    assert run.result["test_error"] == 3.0
    assert (run.result["best_epoch"], run.result["best_test_error"]) == (2, 3.0)
    assert run.environment["command"] == "dropact compare"
    assert not list(tmp_path.rglob("*.part"))


def test_the_weights_load_without_pickles_powers(tmp_path):
    run_grid([config()], tmp_path, tiny_data(), Log())
    state = torch.load(tmp_path / "runs" / config().key / "weights.pt", weights_only=True)
    assert state["classifier.weight"].shape == (10, 64)


def test_metrics_hold_no_times(tmp_path):
    run_grid([config()], tmp_path, tiny_data(), Log())
    directory = tmp_path / "runs" / config().key
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    assert [sorted(json.loads(line)) for line in lines] == [
        ["epoch", "test_error", "train_error", "train_loss", "validation_error"]
    ] * 2
    timing = json.loads((directory / "timing.json").read_text())
    assert len(timing["epoch_seconds"]) == 2
    assert timing["end_seconds"] > 0  # the train error takes a pass over all images
    assert timing["total_seconds"] == pytest.approx(sum(timing["epoch_seconds"]) + timing["end_seconds"])


def test_the_environment_says_what_the_run_was_made_with(tmp_path):
    data = tiny_data()
    run_grid([config()], tmp_path, data, Log(), command="dropact train --seed 0")
    environment = read_run(tmp_path / "runs" / config().key).environment
    assert environment["data_sha256"] == data.sha256
    assert environment["command"] == "dropact train --seed 0"
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert environment["threads"] == 1


def test_two_states_of_the_code_that_were_never_committed_are_two_revisions(tmp_path, monkeypatch):
    said = {"ls-files": "environment.py", "rev-parse": "f" * 40, "status": " M nn.py"}
    monkeypatch.setattr(environment_module, "_git", lambda verb, *words: said[verb])
    monkeypatch.setattr(environment_module, "__file__", str(tmp_path / "experiments" / "environment.py"))
    (tmp_path / "nn.py").write_text("a")
    first = environment_module.git_revision.__wrapped__()
    (tmp_path / "results.json").write_text("not of the code")
    assert environment_module.git_revision.__wrapped__() == first
    (tmp_path / "nn.py").write_text("b")
    second = environment_module.git_revision.__wrapped__()
    assert first != second
    assert all(re.fullmatch("f{40}\\+changes-[0-9a-f]{12}", each) for each in (first, second))
    said["status"] = ""
    assert environment_module.git_revision.__wrapped__() == "f" * 40


def test_the_same_grid_elsewhere_gives_the_same_bytes(tmp_path):
    configs = [config(method=method, seed=1) for method in ("baseline", "rrelu", "drop-activation")]
    for name in ("a", "b"):
        run_grid(configs, tmp_path / name, tiny_data(), Log())
    one, two = snapshot(tmp_path / "a"), snapshot(tmp_path / "b")
    assert one.keys() == two.keys()
    different = {path.name for path in one if one[path] != two[path]}
    assert different <= {"timing.json"}


def test_finished_runs_are_skipped_and_not_touched(tmp_path):
    run_grid([config(seed=0)], tmp_path, tiny_data(), Log())
    before = snapshot(tmp_path)
    log = Log()
    run_grid([config(seed=0), config(seed=1)], tmp_path, tiny_data(), log)
    assert log.events == [("skipped", 0), ("started", 1), ("epoch", 1, 1), ("epoch", 1, 2), ("finished", 1)]
    after = snapshot(tmp_path)
    assert {path: after[path] for path in before} == before


def test_an_interrupted_run_is_unfinished_and_done_again(tmp_path):
    configs = [config(seed=seed) for seed in (0, 1)]
    with pytest.raises(KeyboardInterrupt):
        run_grid(configs, tmp_path / "a", tiny_data(), Log(stop_after=("epoch", 1, 1)))
    half = tmp_path / "a" / "runs" / configs[1].key
    assert (half / "metrics.jsonl").exists()
    assert not is_finished(half)
    assert [run.config.seed for run in finished_runs(tmp_path / "a")] == [0]
    run_grid(configs, tmp_path / "a", tiny_data(), Log())
    run_grid(configs, tmp_path / "b", tiny_data(), Log())
    for name in ("metrics.jsonl", "result.json", "config.json", "weights.pt"):
        other = tmp_path / "b" / "runs" / configs[1].key / name
        assert (half / name).read_bytes() == other.read_bytes()


@pytest.mark.parametrize("rubbish", [b"{", b"", b"\xff\xfe"])
def test_rubbish_in_an_unfinished_directory_does_no_harm(tmp_path, rubbish):
    directory = tmp_path / "runs" / config().key
    directory.mkdir(parents=True)
    for name in ("config.json", "metrics.jsonl", "environment.json", "weights.pt", "result.json.7.part"):
        (directory / name).write_bytes(rubbish)
    run_grid([config()], tmp_path, tiny_data(), Log())
    assert read_run(directory).result["epochs"] == 2


def rewrite(name, change):
    def damage(directory):
        path = directory / name
        path.write_bytes(change(path.read_bytes()))

    return name, damage


def without(name):
    return name, lambda directory: (directory / name).unlink()


DAMAGES = [
    rewrite("config.json", lambda b: b"{"),
    rewrite("config.json", lambda b: b"[]"),
    rewrite("config.json", lambda b: b"\xff\xfe\x00"),
    rewrite("config.json", lambda b: b.replace(b'"seed": 0', b'"seed": 1')),
    rewrite("config.json", lambda b: b.replace(b'"lr"', b'"learning"')),
    rewrite("config.json", lambda b: b.replace(b'"epochs": 2', b'"epochs": 0')),
    rewrite("config.json", lambda b: b'{"seed": 0}'),
    rewrite("metrics.jsonl", lambda b: b.splitlines(keepends=True)[0]),
    rewrite("metrics.jsonl", lambda b: b[:-9]),
    rewrite("metrics.jsonl", lambda b: b.replace(b'"test_error": 9.0', b'"test_error": 8.0')),
    rewrite("metrics.jsonl", lambda b: b.replace(b'"test_error": 9.0', b'"test_error": NaN')),
    rewrite("metrics.jsonl", lambda b: b""),
    rewrite("environment.json", lambda b: b"null"),
    rewrite("result.json", lambda b: b""),
    rewrite("result.json", lambda b: b.replace(b'"test_error": 3.0', b'"test_error": "3"')),
    rewrite("result.json", lambda b: b.replace(b'"test_error": 3.0', b'"test_error": 2.0')),
    rewrite("result.json", lambda b: b"{}"),
    without("config.json"),
    without("metrics.jsonl"),
    without("environment.json"),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_run_is_refused_by_name_and_left_alone(tmp_path, name, damage):
    directory = make_run(tmp_path)
    damage(directory)
    before = snapshot(tmp_path)
    with pytest.raises(RecordError) as caught:
        run_grid([config(seed=5), config()], tmp_path, tiny_data(), Log())
    assert str(directory / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert snapshot(tmp_path) == before  # nor was the sound run of seed 5 begun


def test_a_directory_under_another_name_is_refused(tmp_path):
    directory = make_run(tmp_path)
    moved = directory.rename(directory.with_name("baseline-mine"))
    with pytest.raises(RecordError, match=r"baseline-mine/config\.json.*directory's name"):
        read_run(moved)


def test_a_file_in_place_of_a_run_is_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / config().key).write_text("mine")
    with pytest.raises(RecordError, match="a file"):
        run_grid([config()], tmp_path, tiny_data(), Log())


def test_a_grid_is_on_one_data_set(tmp_path):
    with pytest.raises(ConfigError, match="dataset"):
        run_grid([config(dataset="mnist")], tmp_path, tiny_data(), Log())


def comparison(methods=("baseline", "dropout"), seeds=(0, 1), **fields):
    return Comparison.of(config(**fields).setting, {name: {} for name in methods}, list(seeds))


def test_a_comparison_is_read_back(tmp_path):
    made = comparison(schedule="step", milestones=(1,))
    claim_folder(tmp_path / "new" / "folder", made)
    assert read_claim(Comparison, tmp_path / "new" / "folder") == made


def test_methods_and_seeds_may_join_a_comparison(tmp_path):
    claim_folder(tmp_path, comparison())
    joined = join_folder(tmp_path, comparison(methods=("rrelu",), seeds=(1, 2)))
    assert list(joined.methods) == ["baseline", "dropout", "rrelu"]
    assert joined.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (comparison(epochs=3), "epochs 2, asked for 3"),
        (comparison(lr=0.3), "lr 0.1, asked for 0.3"),
        (Comparison.of(config().setting, {"dropout": {"rate": 0.2}}, [0]), "dropout .*0.5.* asked for .*0.2"),
    ],
)
def test_another_comparison_is_refused(tmp_path, other, word):
    claim_folder(tmp_path, comparison())
    with pytest.raises(RecordError, match=word):
        join_folder(tmp_path, other)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"setting": 1, "methods": {}, "seeds": []}', "\0"])
def test_a_damaged_comparison_is_refused(tmp_path, text):
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(RecordError, match=r"comparison\.json: damaged") as caught:
        join_folder(tmp_path, comparison())
    assert "\n" not in str(caught.value)


def test_single_runs_do_not_go_into_a_comparison_nor_between_other_files(tmp_path):
    claim_folder(tmp_path / "a", comparison())
    with pytest.raises(RecordError, match="holds a comparison"):
        check_run_folder(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("")
    with pytest.raises(RecordError, match=r"thesis\.tex"):
        check_run_folder(tmp_path / "b")
    make_run(tmp_path / "c")
    check_run_folder(tmp_path / "c")
    check_run_folder(tmp_path / "not" / "there")
    assert not (tmp_path / "not").exists()
