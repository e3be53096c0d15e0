import re

import pytest

from dropact.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert main(["train", "--out", str(folder), "--epochs", "1", "--threads", "1"]) == 0
    return next((folder / "runs").iterdir())


def test_a_run_by_its_directory_and_by_its_weights(run, tmp_path, capsys):
    shown = []
    for target in (run, run / "weights.pt"):
        page = tmp_path / target.name / "page.html"
        assert main(["inspect", str(target), "--out", str(page)]) == 0
        shown.append(capsys.readouterr().out.replace(str(page), ""))
    assert shown[0] == shown[1]  # the same masks, hence the same figures
    for words in (
        "simple-small with Drop-Activation, digits, trained, seed 0",
        "stage2.2",
        "0.938",
        "4 of 4 call sites converted",
    ):
        assert words in shown[0]
    said = " ".join(shown[0].split())
    assert re.search(r"Recalibrating BatchNorm .*: (\w+) error [\d.]+ % before, \1 error [\d.]+ % after", said)
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    for words in ("What to do", "Shift, BatchNorm recalibrated", "stage2.2", "dropact inspect", "torch"):
        assert words in html


def test_a_file_of_somebody_else_is_left_as_it_is(tmp_path, capsys):
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert main(["inspect", "simple-small", "--images", "64", "--out", str(other)]) == 2
    assert "no page of dropact" in capsys.readouterr().err
    assert other.read_text() == "mine"
    page = ["inspect", "simple-small", "--images", "64", "--out", str(tmp_path / "page.html")]
    assert [main(page), main(page)] == [0, 0]


def test_a_network_by_name(tmp_path, capsys):
    words = ["inspect", "simple-small", "--drop-prob", "0.5", "--images", "64", "--out", str(tmp_path / "page.html")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "not trained, seed 0" in shown
    assert "0.824" in shown  # equation 15 at drop_prob 0.5
    assert "beyond the worst variance shift" in shown
    assert "recalibrated" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet-21"], "network: got 'resnet-21', accepted: "),
        (["nowhere/at-all"], "nowhere/at-all: no config.json there, accepted: the directory of a run, its weights.pt"),
        (["gone.pt"], "gone.pt: no config.json there"),
        (["simple-small", "--images", "1"], "argument --images: got '1', accepted: a whole number from 2 to 1,000,000"),
        (["simple-small", "--method", "baseline"], "method: got 'baseline', which has no layers of dropact to inspect"),
        (["simple-small", "--drop-prob", "2"], "drop_prob: got 2.0, accepted: a number from 0 to 1"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, capsys):
    assert main(["inspect", *words, "--out", str(tmp_path / "page.html")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"dropact: {message}")
    assert shown.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "baseline"], "method: got 'baseline'"),
        (["--images", "1"], "argument --images: got '1'"),
        (["--out", "{}"], "--out: got {}, a folder, accepted: the name of a page"),
    ],
)
def test_what_could_be_seen_at_once_is_refused_before_any_image_is_read(words, message, tmp_path, capsys):
    words = [word.format(tmp_path) for word in words]
    assert main(["inspect", "resnet-20", "--data", str(tmp_path / "not-there"), *words]) == 2
    assert capsys.readouterr().err.startswith(f"dropact: {message.format(tmp_path)}")


def test_what_a_run_says_itself_is_not_said_again(run, capsys):
    assert main(["inspect", str(run), "--drop-prob", "0.1"]) == 2
    assert "--drop-prob: the run in" in capsys.readouterr().err


def test_a_config_that_is_no_text_is_one_line(tmp_path, capsys):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    assert main(["inspect", str(tmp_path)]) == 2
    assert "config.json: damaged, cannot be read" in capsys.readouterr().err


def test_damaged_weights_and_a_page_that_cannot_be_written(run, tmp_path, capsys):
    copy = tmp_path / run.name
    copy.mkdir()
    (copy / "config.json").write_bytes((run / "config.json").read_bytes())
    assert main(["inspect", str(copy)]) == 2
    assert "weights.pt: not there; only a finished run has its weights" in capsys.readouterr().err
    (copy / "weights.pt").write_bytes((run / "weights.pt").read_bytes()[:5000])
    assert main(["inspect", str(copy)]) == 2
    assert "weights.pt: damaged, or not the weights of this run" in capsys.readouterr().err
    assert main(["inspect", "simple-small", "--images", "8", "--out", str(copy / "config.json" / "page.html")]) == 2
    assert "config.json: a file, where a folder should be" in capsys.readouterr().err
