import json

import pytest
import torch

from dropact.experiments.errors import RecordError
from dropact.experiments.recipes import figure3
from dropact.experiments.recipes.figure3 import FUNCTIONS, Regression, one_seed, read, run

SMALL = Regression(widths=(16, 8), steps=(1, 20), tested=11)


def test_the_functions_are_those_of_the_text():
    x = torch.tensor([0.0, 2.4, 2.6, 5.1, 7.6, 10.0])
    assert FUNCTIONS["steps"](x).tolist() == [0, 0, 6, -4, 3, 3]
    assert torch.equal(FUNCTIONS["x sin x"](x), x * torch.sin(x))


def test_both_methods_start_from_the_same_weights_and_points():
    first, ours = (figure3._network(SMALL, method, seed=3) for method in figure3.COMPARED)
    assert [type(m).__name__ for m in ours] == [
        "DropActivation" if name == "ReLU" else name for name in (type(m).__name__ for m in first)
    ]
    for name, value in first.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name])
    _, curves = one_seed(SMALL, 3)
    assert curves["steps"]["x"] == curves["x sin x"]["x"]
    assert len(curves["steps"]["x"]) == 20
    assert 0 <= min(curves["steps"]["x"]) < max(curves["steps"]["x"]) <= 10


def test_the_noise_is_standard_normal_and_of_the_seed():
    residuals = []
    for seed in range(40):
        _, curves = one_seed(Regression(widths=(2,), steps=(1,), tested=2), seed)
        x, y = (torch.tensor(curves["x sin x"][name]) for name in "xy")
        residuals.append(y - x * x.sin())
    residuals = torch.cat(residuals)
    n = len(residuals)
    assert abs(residuals.mean()) < 5 / n**0.5
    assert abs(residuals.var() - 1) < 5 * (2 / n) ** 0.5
    assert len(residuals.unique()) == n


def test_errors_are_distances_in_evaluation_mode_and_training_lowers_them():
    results, curves = one_seed(Regression(widths=(64, 32), steps=(1, 200), tested=figure3.DRAWN), seed=0)
    for function, methods in results.items():
        truth = FUNCTIONS[function](torch.linspace(0, 10, figure3.DRAWN))
        for method, errors in methods.items():
            assert errors["200"]["train"] < errors["1"]["train"]
            distance = (torch.tensor(curves[function][method]) - truth).square().mean().sqrt().item()
            assert errors["200"]["test"] == pytest.approx(distance, abs=1e-4)


def test_equal_seeds_give_equal_results_whatever_was_drawn_before():
    first = one_seed(SMALL, 5)
    torch.rand(7)
    state = torch.get_rng_state()
    assert one_seed(SMALL, 5) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert one_seed(SMALL, 6) != first


def test_seeds_join_and_are_trained_once(tmp_path, monkeypatch):
    run(tmp_path, [0, 1], "first", study=SMALL)
    before = read(tmp_path)
    told = []
    with monkeypatch.context() as patch:
        patch.setattr(figure3, "one_seed", lambda *_: pytest.fail("trained again"))
        run(tmp_path, [1, 0], "again", told.append, SMALL)
    assert told == [1, 0]
    assert read(tmp_path) == before
    run(tmp_path, [2], "more", study=SMALL)
    after = read(tmp_path)
    assert list(after["seeds"]) == ["0", "1", "2"]
    assert after["seeds"]["0"] == before["seeds"]["0"]
    assert after["shown"] == before["shown"]
    assert [environment["command"] for environment in after["environments"]] == ["first", "more"]


def test_what_another_process_adds_while_a_seed_is_trained_is_kept(tmp_path, monkeypatch):
    plain = figure3.one_seed

    def meanwhile(study, seed):
        monkeypatch.setattr(figure3, "one_seed", plain)
        run(tmp_path, [5], "the other", study=SMALL)
        return plain(study, seed)

    monkeypatch.setattr(figure3, "one_seed", meanwhile)
    run(tmp_path, [0, 1], "this one", study=SMALL)
    record = read(tmp_path)
    assert sorted(record["seeds"]) == ["0", "1", "5"]
    assert [environment["command"] for environment in record["environments"]] == ["the other", "this one"]
    assert record["shown"]["seed"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["figure3.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"[]",
        b'{"study": [], "seeds": {}}',
        b'{"study": {"steps": 3}, "seeds": {}}',
        b'{"study": {"steps": [1]}, "environments": [{}], "seeds": {"0": 3}, "shown": {"functions": {}}}',
    ],
)
def test_a_file_of_something_else_is_called_damaged(tmp_path, content):
    (tmp_path / "figure3.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"figure3\.json: damaged"):
        read(tmp_path)


def test_another_study_and_damage_are_refused(tmp_path):
    run(tmp_path, [0], "first", study=SMALL)
    with pytest.raises(RecordError, match="holds another study"):
        run(tmp_path, [1], "other", study=Regression(drop_prob=0.1))
    path = tmp_path / "figure3.json"
    record = json.loads(path.read_text())
    del record["seeds"]["0"]["steps"]["baseline"]["20"]
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="damaged, it lacks seeds, some of their errors"):
        read(tmp_path)
    path.write_text("{")
    with pytest.raises(RecordError, match="damaged, not JSON"):
        read(tmp_path)
    with pytest.raises(RecordError, match=r"figure3\.json: missing"):
        read(tmp_path / "nowhere")
