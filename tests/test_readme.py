"""The front page is short and true: numbers from the records, code that runs, links that lead somewhere."""

import json
import re
from pathlib import Path

import front_page
import pytest
import torch
import update_evidence
import update_when_it_helps
from generated import reports_in
from torch import nn

from dropact.report import verdicts

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = re.search(r"## In 60 seconds\n+```python\n(.*?)```\n+```text\n(.*?)```", README, re.DOTALL)


def test_evidence_is_what_the_records_say():
    assert update_evidence.main(ROOT, ["--check"]) == 0
    assert update_when_it_helps.main(ROOT, ["--check"]) == 0


def test_it_is_read_in_two_screens():
    assert len(README.split()) <= 900
    rows = re.findall(r"^\|.*\|$", README, re.MULTILINE)
    assert rows
    assert max(row.count("|") - 1 for row in rows) <= 5
    blocks = re.findall(r"<!-- (\w+):begin -->\n(.*?)\n<!-- \1:end -->", README, re.DOTALL)
    assert {name for name, _ in blocks} == {"where", "results", "speed"}
    assert all(len(text.splitlines()) <= 12 for _, text in blocks)


def test_the_call_sites_it_counts_are_those_of_the_record():
    parts = json.loads((ROOT / "results" / "differences" / "differences.json").read_text(encoding="utf-8"))["parts"]
    found = {row["network"]: (row["sites"], row["modules"]) for row in parts["call-sites"]}
    said = re.search(
        r"all (\d+) activations of torchvision's resnet50, which has (\d+) ReLU modules,\s+and all (\d+) of "
        r"inception_v3 with its auxiliary head,\s+which has none",
        README,
    )
    assert tuple(map(int, said.groups())) == (*found["resnet50"], found["inception_v3"][0])
    assert found["inception_v3"][1] == 0


def test_the_first_minute_prints_what_stands_below_it(capsys):
    code, printed = RUN.groups()
    scope = {}
    exec(code, scope)
    assert capsys.readouterr().out == printed
    assert isinstance(scope["model"][1], nn.LeakyReLU)
    assert scope["model"](torch.randn(2, 20)).shape == (2, 3)


def test_what_is_said_of_dropout_and_of_high_train_error_is_so():
    """Words on the front page and on docs/when-it-helps.md that no script writes."""
    reports = reports_in(ROOT)
    gains = {
        images: (min(row.test.mean for row in update_when_it_helps.drops(rows).values()), rows)
        for images, rows in update_when_it_helps.cells(reports).items()
    }
    counted = update_when_it_helps.seeds(update_when_it_helps.cells(reports))
    assert counted.startswith(("1 seed", "1 to ")) == ("the evidence of one seed" in README)
    tables = reports[update_when_it_helps.STUDY].tables
    ours = [one for table in tables for one in verdicts.comparisons(table) if "Drop-Activation" in one.label]
    assert all(one.verdict not in (verdicts.BETTER, verdicts.WORSE) for one in ours) == (
        "no difference is significant" in README
    )
    for _, rows in gains.values():  # nowhere better than both, where a test says better
        for table in reports[update_when_it_helps.STUDY].tables:
            better = {one.label for one in verdicts.comparisons(table) if one.verdict == verdicts.BETTER}
            ours = [row.test.mean for row in update_when_it_helps.drops(rows).values() if row.label in better]
            assert all(mean > rows["Dropout 0.5"].test.mean for mean in ours)
    learnt = {images: found for images, found in gains.items() if found[1]["ReLU"].train.mean < 1}
    assert learnt  # the network learns them by heart: some rate gains, Dropout as much to a tenth of a point
    for best, rows in learnt.values():
        assert best < rows["ReLU"].test.mean
        assert rows["Dropout 0.5"].test.mean < best + 0.1
    few_epochs = [
        one
        for name in ("methods-cifar10", "methods-cifar100", "cifar10-simple", "cifar10-resnet-20", "figure2")
        for table in reports[name].tables
        for one in verdicts.comparisons(table)
    ]
    assert not [one for one in few_epochs if one.verdict == verdicts.BETTER]
    assert sum(one.verdict == verdicts.WORSE for one in few_epochs) > len(few_epochs) / 2


def test_every_claim_has_its_study():
    reports = reports_in(ROOT)
    for name, _, kinds in front_page.CLAIMS:
        found = {one.kind for table in reports[name].tables for one in verdicts.comparisons(table)}
        assert found >= set(kinds), name


@pytest.mark.parametrize("page", [ROOT / "README.md", *ROOT.glob("docs/**/*.md")], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    prose = re.sub(
        r"^(?:```.*?^```|    .*?$)|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert target.startswith("https://") or (page.parent / target).exists(), target
