"""`dropact bench` from end to end, and everything a user can get wrong in its arguments."""

import json
import os

import pytest
import torch
from makers import snapshot
from refusals import refused

from dropact.bench.candidates import CANDIDATES
from dropact.cli import main
from dropact.cli.bench import shape

QUICK = ["bench", "--quick", "--threads", "1"]
TINY = [*QUICK, "--no-step", "--dtype", "float32", "--shape", "2x3", "--only", "drop_activation"]
OPERATIONS = len(CANDIDATES) - 1  # the copy is for GPUs
STEPS = sum(candidate.convert is not None for candidate in CANDIDATES.values())
FIGURE = {"microseconds", "ratio", "low", "high"}


def test_quick_from_end_to_end(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert main([*QUICK, "--json", str(path)]) == 0
    shown = capsys.readouterr()
    for words in (
        "Backend: ",
        "threads 1",
        "F.rrelu",
        "mask arithmetic",
        "ResNet-20 training step",
        "Times are medians",
    ):
        assert words in shown.out
    record = json.loads(path.read_text())
    assert (record["format"], record["complete"]) == ("dropact bench 1", True)
    about = record["environment"]
    assert about["command"].startswith("dropact bench --quick")
    assert about["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (about["threads"], about["device"]) == (1, "cpu")
    assert {"git_revision", "processor", "cores", "backend", "noise", "python", "system"} <= set(about)
    assert [(table["what"], table["mode"], table["dtype"], table["layout"]) for table in record["tables"]] == [
        *(
            ("operation", "eager", dtype, layout)
            for dtype in ("float32", "bfloat16")
            for layout in ("contiguous", "channels_last")
        ),
        ("ResNet-20 training step", "eager", "bfloat16", "channels_last"),
    ]
    for table in record["tables"]:
        assert table["rounds"] == 3
        assert table["calls"] >= 1
        assert table["left_out"] == {}
        step = table["what"] != "operation"
        assert table["rows"][0]["name"] == "relu"
        assert len(table["rows"]) == (STEPS if step else OPERATIONS)
        for row in table["rows"]:
            assert set(row["figures"]) == ({"step"} if step else {"forward", "backward", "both"})
            for figure in row["figures"].values():
                assert set(figure) == FIGURE
                assert 0 < figure["low"] <= figure["ratio"] <= figure["high"]
                assert figure["microseconds"] > 0
            assert (row["kept"] is None) == step
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_compiled_rows_are_ratios_to_the_compiled_baseline(tmp_path):
    path = tmp_path / "bench.json"
    assert main([*TINY, "--compiled", "--json", str(path)]) == 0
    eager, compiled = json.loads(path.read_text())["tables"]
    assert (eager["mode"], compiled["mode"]) == ("eager", "compiled")
    assert compiled["backend"].startswith("inductor")
    assert [row["name"] for row in compiled["rows"]] == ["relu", "drop_activation"]
    assert compiled["rows"][0]["figures"]["both"]["ratio"] == 1.0


def test_an_earlier_record_is_replaced(tmp_path):
    path = tmp_path / "bench.json"
    for rounds in ("1", "2"):
        assert main([*TINY, "--rounds", rounds, "--json", str(path)]) == 0
        assert json.loads(path.read_text())["tables"][0]["rounds"] == int(rounds)


def test_ctrl_c_keeps_the_tables_that_are_done(tmp_path, capsys, monkeypatch):
    import dropact.bench

    measure, measured = dropact.bench.measure, []

    def interrupted(case, plan):
        if measured:
            raise KeyboardInterrupt
        measured.append(measure(case, plan))
        return measured[0]

    monkeypatch.setattr(dropact.bench, "measure", interrupted)
    path = tmp_path / "bench.json"
    assert main([*TINY, "--dtype", "float32", "bfloat16", "--json", str(path)]) == 130
    record = json.loads(path.read_text())
    assert (record["complete"], len(record["tables"])) == (False, 1)
    assert "stopped after 1 of 2 tables" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        (["--only", "droput"], ["--only", "'droput'", "dropout", "drop_activation_gelu"]),
        (["--dtype", "float8"], ["--dtype", "'float8'", "bfloat16"]),
        (["--shape", "128,64"], ["--shape", "'128,64'", "128x64x32x32"]),
        (["--shape", "0x3"], ["--shape", "'0x3'"]),
        (["--shape", ""], ["--shape", "''"]),
        (["--shape", "65536x65536"], ["--shape", "2**28"]),
        (["--batch", "0"], ["--batch", "0", "from 1 to 1,000,000"]),
        (["--rounds", "0"], ["--rounds", "0", "from 1 to 1,000,000"]),
        (["--rounds", "many"], ["--rounds", "'many'"]),
        (["--seconds", "0"], ["--seconds", "0", "from 0.001"]),
        (["--seconds", "nan"], ["--seconds", "nan"]),
        (["--seconds", "inf"], ["--seconds", "inf"]),
        (["--threads", "0"], ["--threads", "0"]),
        (["--device", "tpu"], ["--device", "'tpu'"]),
        (["--no-operations", "--no-step"], ["--no-operations", "nothing to measure"]),
        (["--nonsense"], ["--nonsense"]),
        (["--json", "FOLDER"], ["FOLDER", "a folder"]),
        (["--json", "thesis.tex"], ["thesis.tex", "left as it is"]),
        (["--json", "other.json"], ["other.json", "left as it is"]),
        (["--json", "list.json"], ["list.json", "left as it is"]),
        (["--json", "nowhere/bench.json"], ["nowhere", "not there"]),
        (["--json", "thesis.tex/bench.json"], ["thesis.tex", "not a folder"]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(tmp_path, capsys, monkeypatch, words, needles):
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "thesis.tex").write_bytes(b"years of work \xff")
    (tmp_path / "other.json").write_text('{"format": "another"}')
    (tmp_path / "list.json").write_text("[1]")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    line = refused(capsys, "bench", "--quick", *words)
    assert all(needle in line for needle in needles), line
    assert snapshot(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_not_a_file_to_replace(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert "not an ordinary file" in refused(capsys, "bench", "--quick", "--json", str(tmp_path / "pipe"))


def test_cuda_is_refused_where_there_is_none(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = refused(capsys, "bench", "--quick", "--device", "cuda")
    assert "no CUDA device" in line


def test_shapes():
    assert shape("128x64x8x8") == (128, 64, 8, 8)
    assert shape("7") == (7,)


def test_help(capsys):
    assert main(["bench", "--help"]) == 0
    assert "--no-step" in capsys.readouterr().out
