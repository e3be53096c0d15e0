import pytest
from generated import marks
from makers import make_run
from update_readme import main

from dropact.report import collect, write_report

BEGIN, END = marks("evidence")


@pytest.fixture
def root(tmp_path):
    for seed in range(2):
        make_run(tmp_path / "results" / "digits", errors=(9.0, 4.0 + seed), seed=seed)
    write_report(collect(tmp_path / "results" / "digits"), tmp_path / "results" / "digits")
    (tmp_path / "README.md").write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nEnd\n")
    return tmp_path


def test_the_block_is_filled_and_then_found_up_to_date(root):
    assert main(root, ["--check"]) == 1
    assert main(root, []) == 0
    text = (root / "README.md").read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("\n\nEnd\n")
    assert "old" not in text
    for words in ("4.50 ±", "](results/digits/comparison.svg)", "`dropact compare`", "ReLU (baseline)"):
        assert words in text
    assert main(root, ["--check"]) == 0


def test_a_number_changed_by_hand_is_found(root, capsys):
    main(root, [])
    readme = root / "README.md"
    readme.write_text(readme.read_text().replace("4.50", "4.40"))
    assert main(root, ["--check"]) == 1
    table = root / "results" / "digits" / "table.md"
    table.write_text(table.read_text().replace("4.50", "4.40"))
    assert main(root, []) == 1
    assert "results/digits/table.md" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["no marks", "{end}{begin}", "{begin}", "{begin}{end}{begin}{end}"])
def test_marks_that_are_missing_or_double_are_refused(root, capsys, text):
    (root / "README.md").write_text(text.format(begin=BEGIN, end=END))
    assert main(root, []) == 1
    assert "evidence:begin" in capsys.readouterr().err
