import importlib.util
from pathlib import Path

import pytest
from makers import make_run

from dropact.report import collect, write_report

SCRIPT = Path(__file__).parents[2] / "scripts" / "update_readme.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("update_readme", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path, script):
    for seed in range(2):
        make_run(tmp_path / "results" / "digits", errors=(9.0, 4.0 + seed), seed=seed)
    write_report(collect(tmp_path / "results" / "digits"), tmp_path / "results" / "digits")
    (tmp_path / "README.md").write_text(f"# Title\n\n{script.BEGIN}\nold\n{script.END}\n\nEnd\n")
    return tmp_path


def test_the_block_is_filled_and_then_found_up_to_date(script, root):
    assert script.main(root, ["--check"]) == 1
    assert script.main(root, []) == 0
    text = (root / "README.md").read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("\n\nEnd\n")
    assert "old" not in text
    for words in ("4.50 ±", "](results/digits/comparison.svg)", "`dropact compare`", "ReLU (baseline)"):
        assert words in text
    assert script.main(root, ["--check"]) == 0


def test_a_number_changed_by_hand_is_found(script, root, capsys):
    script.main(root, [])
    readme = root / "README.md"
    readme.write_text(readme.read_text().replace("4.50", "4.40"))
    assert script.main(root, ["--check"]) == 1
    table = root / "results" / "digits" / "table.md"
    table.write_text(table.read_text().replace("4.50", "4.40"))
    assert script.main(root, []) == 1
    assert "results/digits/table.md" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["no marks", "{end}{begin}", "{begin}", "{begin}{end}{begin}{end}"])
def test_marks_that_are_missing_or_double_are_refused(script, root, capsys, text):
    (root / "README.md").write_text(text.format(begin=script.BEGIN, end=script.END))
    assert script.main(root, []) == 1
    assert "evidence:begin" in capsys.readouterr().err
