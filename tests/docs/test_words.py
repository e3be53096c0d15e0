"""Words of the field: what a reader of reports and pages must not meet, with what is said instead."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUT = {
    "none shown": "inconclusive",
    "neither is shown": "inconclusive",
    "nothing is shown": "inconclusive",
    "if it were the only comparison": "not significant after Holm correction",
    "not shown among all": "not significant after Holm correction",
    "detectable difference": "minimum detectable effect",
    "detectable (points)": "minimum detectable effect (points)",
    "goes on from where it was stopped": "resumes automatically, bit-identically",
    "goes on where it was stopped": "resumes automatically, bit-identically",
}
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("results/*/table.md")),
    *sorted(ROOT.glob("src/dropact/report/*.py")),
    *sorted(ROOT.glob("src/dropact/cli/*.py")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_words_that_are_out(page):
    text = " ".join(page.read_text(encoding="utf-8").lower().split())
    text = text.replace("minimum detectable effect (points)", "")
    assert {words: instead for words, instead in OUT.items() if words in text} == {}
