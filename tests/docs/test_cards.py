"""The cards of the methods have one form, and what is measured on them is what the records say."""

import re
from pathlib import Path
from xml.etree import ElementTree

import draw_cards
import pytest
import update_pages
from generated import filled

ROOT = Path(__file__).parents[2]
HEADINGS = [
    "Defaults and where they come from",
    "Effects measured here",
    "Costs measured here",
    "Composes with, conflicts with",
    "Pitfalls",
]


def test_measured_parts_are_what_the_records_say():
    assert update_pages.main(ROOT, ["--check"]) == 0


def test_every_card_takes_part():
    there = {path.stem for path in (ROOT / "docs" / "methods").glob("*.md")}
    assert there == {*update_pages.CARDS, *update_pages.PRIMITIVES}


@pytest.mark.parametrize("name", update_pages.CARDS)
def test_a_card_has_the_common_form(name):
    text = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.M) == HEADINGS
    before = text.partition("## ")[0]
    for words in ("| training |", "| evaluation |", "| where |", f"]({name}.svg)", "```python", "arxiv.org/abs/"):
        assert words in before, words
    picture = ElementTree.parse(ROOT / "docs" / "methods" / f"{name}.svg").getroot()
    title, description = (picture.find(f"{{http://www.w3.org/2000/svg}}{tag}").text for tag in ("title", "desc"))
    assert (title, description) == draw_cards.PICTURES[name][:2]


def test_a_number_changed_by_hand_is_found(tmp_path, capsys):
    page = "before\n<!-- effects:begin -->\n3.13\n<!-- effects:end -->\nafter\n"
    assert filled(page, {"effects": "4.14"}) == page.replace("3.13", "4.14")
    with pytest.raises(ValueError, match="effects:begin"):
        filled(page + page, {"effects": ""})
    with pytest.raises(ValueError, match="costs:begin"):
        filled(page, {"costs": ""})
