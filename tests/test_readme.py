"""The front page says what is true: evidence from the records, code that runs, links that lead somewhere."""

import json
import re
from pathlib import Path

import pytest
import torch
import update_evidence
from torch import nn

from dropact.experiments import build_network

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_evidence_is_what_the_records_say():
    assert update_evidence.main(ROOT, ["--check"]) in (0, None)


def test_the_call_sites_it_counts_are_those_of_the_record():
    parts = json.loads((ROOT / "results" / "differences" / "differences.json").read_text(encoding="utf-8"))["parts"]
    found = {row["network"]: (row["sites"], row["modules"]) for row in parts["call-sites"]}
    said = re.search(
        r"all (\d+) activations of torchvision's resnet50, which has (\d+) ReLU modules,\s+and all (\d+) of "
        r"inception_v3 with its auxiliary head, which has none",
        README,
    )
    assert tuple(map(int, said.groups())) == (*found["resnet50"], found["inception_v3"][0])
    assert found["inception_v3"][1] == 0


def test_the_two_lines_run():
    code, depth = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    scope = {"model": model}
    exec(code, scope)
    assert len(scope["receipt"]) == 1
    assert isinstance(model[1], nn.LeakyReLU)
    assert model(torch.randn(2, 4)).shape == (2, 4)
    scope["model"] = build_network("resnet-20")
    exec(depth, scope)
    rates = [change.after.drop_prob for change in scope["receipt"]]
    assert rates == pytest.approx([block / 18 for block in range(1, 10)])


def test_links_lead_to_files():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        prose = re.sub(r"^(```.*?^```|    .*?$)", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)#]+)\)", prose):
            assert target.startswith("https://") or (page.parent / target).exists(), (page.name, target)
