"""The variance shift that a run keeps beside its metrics, for Figure 6."""

import json

import pytest
import torch
from makers import config, make_run, tiny_data

from dropact.diagnostics import VarianceShift, record
from dropact.experiments import recipe, trainer
from dropact.experiments.engine import train
from dropact.experiments.errors import ConfigError, RecordError
from dropact.experiments.grid import run_grid
from dropact.experiments.models import build_network
from dropact.experiments.records import read_run
from dropact.experiments.trainer import Trainer
from dropact.experiments.watch import Watcher
from dropact.report import collect, write_report
from dropact.report.figure6 import picture, sentences, series

FIELDS = {"network": "resnet-20", "method": "drop-activation", "epochs": 2}


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(trainer, "RECORDED_EVERY", 3)


def test_recording_changes_no_bit_of_the_run():
    plain, recorded = (train(config(**FIELDS, recorded=names), tiny_data()) for names in ((), ("stage2",)))
    assert plain.metrics == recorded.metrics
    assert all(torch.equal(plain.state[name], recorded.state[name]) for name in plain.state)
    assert plain.readings == []
    assert [reading["step"] for reading in recorded.readings] == [0, 3, 6]  # of eight steps


def test_readings_are_those_of_the_recorder_of_diagnostics():
    """Which hooks the loop from outside, and knows nothing of configs."""
    made = Trainer(config(**FIELDS), tiny_data(), torch.device("cpu"))
    with record(made.network, [VarianceShift(("stage2",))], every=3) as recording:
        for _ in range(2):
            made.run_epoch(lambda: None)
            made.close_epoch({})
    expected = recording.series("variance_shift", "stage2")
    found = train(config(**FIELDS, recorded=("stage2",)), tiny_data()).readings
    assert [(reading["step"], reading["variance_shift"]) for reading in found] == expected
    assert len(expected) == 3


def test_a_run_keeps_its_readings_and_damage_is_found(tmp_path):
    made = config(**FIELDS, recorded=("stage2", "stage3"))
    run_grid([made], tmp_path, tiny_data(), Watcher())
    directory = tmp_path / "runs" / made.key
    run = read_run(directory)
    assert [(reading["step"], reading["site"]) for reading in run.readings] == [
        (step, site) for step in (0, 3, 6) for site in ("stage2", "stage3")
    ]
    path = directory / "readings.jsonl"
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.readings
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(RecordError, match=r"readings.jsonl: damaged, its checksum"):
        read_run(directory)
    path.unlink()
    with pytest.raises(RecordError, match=r"readings.jsonl: missing"):
        read_run(directory)


def test_a_module_that_is_not_there_is_refused_before_training():
    with pytest.raises(ConfigError, match=r"recorded: the model has no module 'stage9', accepted: .*stage1"):
        train(config(**FIELDS, recorded=("stage9",)), tiny_data())


def test_resnet_164_records_its_second_module_in_table_1_and_figure_6():
    modules = dict(build_network("resnet-164").named_modules())
    for name in ("table1", "figure4", "figure6"):
        row = recipe(name).row("resnet-164")
        assert row.setting["recorded"] == ("stage2",)
    assert len(modules["stage2"]) == 18  # 54 convolutions in blocks of three, as the paper says of a module


@pytest.fixture
def recorded(tmp_path):
    """Two methods, three seeds, readings at steps 0 to 300; one seed has none at 200."""
    ratios = {
        "baseline": ([4000.0, 1.5, 0.90, 1.000], [4500.0, 1.7, None, 1.010], [4100.0, 1.9, 0.95, 1.020]),
        "drop-activation": ([4000.0, 1.3, 0.94, 1.003], [4500.0, 1.3, 0.96, 1.015], [4100.0, 1.3, 0.98, 1.027]),
    }
    for method, seeds in ratios.items():
        for seed, values in enumerate(seeds):
            readings = [
                {"step": 100 * place, "site": "stage2", "variance_shift": value} for place, value in enumerate(values)
            ]
            fields = {**FIELDS, "method": method, "recorded": ("stage2",)}
            make_run(tmp_path, readings=readings, seed=seed, **fields)
    (table,) = collect(tmp_path).tables
    return table


def test_the_report_draws_mean_and_band_by_step(recorded):
    found = series(recorded.rows[0], "stage2")
    # Left out: step 0, when evaluation uses the statistics that BatchNorm begins with, and where a seed has nothing.
    assert list(found) == [100, 300]
    assert found[100].mean == pytest.approx(1.7)
    assert found[300].mean == pytest.approx(1.01)
    drawn = picture(recorded, "shift")
    assert "as in the paper&#x27;s Figure 6" in drawn
    assert "Drop-Activation (drop_prob 0.05) at stage2: 1.015 at step 300" in drawn
    assert "Var(test) / Var(train), stage2" in drawn
    assert "the axis is cut at 2.0, and step 0" in drawn  # 1.7 ± 4.303 * 0.2 / √3 reaches above


def test_the_report_says_how_far_the_shift_has_gone_at_the_end(recorded, tmp_path):
    # t(2) = 4.303: 0.2 / √3 * t = 0.497, 0.01 / √3 * t = 0.025; differences .003 .005 .007: 0.002 / √3 * t = 0.005
    plain = "Var(test) / Var(train) after stage2: 1.700 [1.203, 2.197] at step 100, 1.010 [0.985, 1.035] at step 300."
    other = "1.300 at step 100, 1.015 [0.985, 1.045] at step 300, +0.005 [0.000, +0.010] to ReLU (baseline)."
    first, second = sentences(recorded)
    assert first == f"ReLU (baseline), {plain}"
    assert second == f"Drop-Activation (drop_prob 0.05), Var(test) / Var(train) after stage2: {other}"
    written = write_report(collect(tmp_path), tmp_path)
    for page in ("table.md", "report.html"):
        assert plain in (tmp_path / page).read_text()
    assert written


def test_without_readings_there_is_no_picture(tmp_path):
    make_run(tmp_path)
    assert picture(collect(tmp_path).tables[0], "shift") is None


@pytest.mark.slow
def test_a_compiled_run_records_and_ends_with_its_own_bits():
    fields = {"method": "drop-activation", "compiled": True}
    plain, recorded = (train(config(**fields, recorded=names), tiny_data()) for names in ((), ("stage2",)))
    assert all(torch.equal(plain.state[name], recorded.state[name]) for name in plain.state)
    assert [reading["step"] for reading in recorded.readings] == [0, 3, 6]
