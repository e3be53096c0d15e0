import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from makers import ENVIRONMENT, make_run

from dropact.report import collect, pictures, write_report
from dropact.report.grids import Grid, of_runs
from dropact.report.marks import thinned
from dropact.report.page import bullets, html_table, page
from dropact.report.pictures import LINES
from dropact.report.text import markdown_table

VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADS = {"src", "href", "srcset", "data", "poster", "action", "background", "xlink:href"}


class Outline(HTMLParser):
    """Everything a test asks about a page, with the nesting checked on the way."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.ids, self.text = [], [], [], []
        self.svgs, self._open = [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes.items()]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "svg":
            self.svgs.append({"attributes": attributes, "names": {}})
        if tag in ("title", "desc") and "svg" in self._open:
            self.svgs[-1]["names"][attributes["id"]] = ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self._open and self._open[-1] in ("title", "desc") and "svg" in self._open:
            names = self.svgs[-1]["names"]
            names[list(names)[-1]] += data


def outline(html):
    parser = Outline()
    parser.feed(html)
    parser.close()
    assert parser._open == []
    return parser


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        make_run(tmp_path, errors=(9.0, 4.0 + seed), seed=seed)
        make_run(tmp_path, errors=(9.0, 3.5 + seed * 1.1), seed=seed, method="drop-activation")
    return tmp_path


def test_the_page_is_well_formed_and_loads_nothing(folder):
    html = page(collect(folder))
    parsed = outline(html)
    assert parsed.tags.count("script") == 1  # the page's own, which sorts
    assert not set(parsed.tags) & {"link", "img", "iframe", "object", "embed", "video", "base", "image"}
    loads = [value for _, name, value in parsed.attributes if name in LOADS]
    assert all(value.startswith("#") for value in loads)
    assert not re.search(r"url\((?!#)|@import|@font-face", html)
    addresses = re.findall(r"https?://[^\s\"'<>]+", html)
    assert set(addresses) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not loads


def test_ids_are_unique_and_references_lead_somewhere(folder):
    html = page(collect(folder))
    parsed = outline(html)
    assert len(parsed.ids) == len(set(parsed.ids))
    references = {value[1:] for _, name, value in parsed.attributes if name in LOADS}
    references |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert references
    assert references <= set(parsed.ids)


def test_every_plot_has_alternative_text(folder):
    svgs = outline(page(collect(folder))).svgs
    assert len(svgs) == 3
    for svg in svgs:
        assert svg["attributes"]["role"] == "img"
        named = svg["attributes"]["aria-labelledby"].split()
        assert named == list(svg["names"])
        assert all(len(text) > 20 for text in svg["names"].values())
    assert "Drop-Activation (drop_prob 0.05) −0.40" in svgs[0]["names"]["forest1-desc"]


def test_the_page_has_the_table_and_suits_dark_and_narrow_screens(folder):
    html = page(collect(folder))
    parsed = outline(html)
    text = "".join(parsed.text)
    for words in ("ReLU (baseline)", "Drop-Activation", "Best epoch, not used", "dropact compare", "seeds 0-2"):
        assert words in text
    assert ("th", "scope", "row") in parsed.attributes
    assert ("html", "lang", "en") in parsed.attributes
    assert any(name == "content" and "width=device-width" in value for _, name, value in parsed.attributes)
    assert "prefers-color-scheme: dark" in html
    assert "currentColor" in html
    assert "#010203" not in html
    assert not re.search(r"(fill|stroke): ?(#000000|black)", html)


def test_what_comes_from_files_is_escaped(tmp_path):
    nasty = "dropact compare --out '<script>alert(1)</script>&\"'"
    make_run(tmp_path, environment={**ENVIRONMENT, "command": nasty, "processor": "<b>x</b>", "<i>": ["<u>"]})
    parsed = outline(page(collect(tmp_path)))
    assert parsed.tags.count("script") == 1
    assert not set(parsed.tags) & {"b", "i", "u"}
    assert nasty in "".join(parsed.text)


@pytest.mark.parametrize("methods", [["baseline"], ["rrelu"], ["baseline", "rrelu"]])
def test_one_seed_and_no_difference_still_make_a_page(tmp_path, methods):
    for method in methods:
        make_run(tmp_path, method=method)
    assert len(outline(page(collect(tmp_path))).svgs) == 1 + len(methods)  # the differences, and the curve of each


def test_the_files_of_the_report(folder):
    written = write_report(collect(folder), folder)
    assert sorted(path.name for path in written) == ["comparison.svg", "report.html", "table.csv", "table.md"]
    assert all(path.stat().st_size > 100 for path in written)
    again = {path: path.read_bytes() for path in written}
    write_report(collect(folder), folder)
    assert {path: path.read_bytes() for path in written} == again


def test_the_picture_stands_alone_on_light_and_dark(folder):
    write_report(collect(folder), folder)
    text = (folder / "comparison.svg").read_text()
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.get("role") == "img"
    assert root.find(f"{space}title").text
    assert root.find(f"{space}rect").get("class") == "panel"
    assert "prefers-color-scheme:dark" in root.find(f"{space}style").text
    assert float(root.get("width")) > 500
    labels = {"".join(element.itertext()).strip() for element in root.iter(f"{space}text")}
    assert {"ReLU (baseline)", "Drop-Activation (drop_prob 0.05)"} <= labels


def test_every_run_is_listed_with_its_environment(folder):
    make_run(folder, errors=(3.0, 7.25), seed=3, environment={**ENVIRONMENT, "command": "dropact train --seed 3"})
    report = collect(folder)
    (table,) = report.tables
    grid = of_runs(table, report.environments)
    assert len(grid.rows) == 7
    by_run = {row[0]: row for row in grid.rows}
    assert by_run.keys() == {path.name for path in (folder / "runs").iterdir()}
    (row,) = (row for row in grid.rows if row[2] == "7.25")
    assert row[1:] == ["3", "7.25", "3.00", "1", "0.25", "2"]
    assert report.environments[1]["command"] == "dropact train --seed 3"
    text = "".join(outline(page(report)).text)
    assert text.index("Environment 1") < text.index("Environment 2") < text.index("dropact train --seed 3")


def test_what_environments_share_is_said_once_and_what_is_not_known_is_not(tmp_path):
    known = {**ENVIRONMENT, "accelerator": None, "data_note": "", "processor": "Some CPU"}
    before = [{**known, "command": "dropact train", "git_revision": "b" * 40}]
    for seed, more in enumerate(({}, {"threads": 7}, {"before": before})):
        make_run(tmp_path, seed=seed, environment={**known, **more})
    html = page(collect(tmp_path))
    assert (html.count("<dd>Some CPU</dd>"), html.count("<pre>")) == (1, 3)
    assert "<dt>threads</dt><dd>7</dd>" in html
    assert f"<dd>command dropact train; git revision {'b' * 40}</dd>" in html
    assert not any(word in html for word in ("null", "accelerator", "data note", "{&quot;"))


def test_what_stands_in_back_ticks_is_code():
    assert bullets(["`a < b` helps"]) == "<ul><li><code>a &lt; b</code> helps</li></ul>\n"


def test_options_are_called_what_readers_call_them(tmp_path):
    make_run(tmp_path, method="aid", options={"aid_drop_prob": 0.1})
    make_run(tmp_path, method="depth-uniform", options={"uniform_budget": 0.5}, network="resnet-20")
    html = page(collect(tmp_path))
    assert "AID (drop_prob 0.1)" in html
    assert "Stochastic depth, uniform (budget 0.5)" in html


def test_settings_are_told_apart_by_their_titles(folder):
    make_run(folder, errors=(3.0, 2.0), lr=0.2, batch_size=16)
    assert [table.title for table in collect(folder).tables] == [
        "digits, simple-small, 2 epochs, batch size 16, lr 0.2",
        "digits, simple-small, 2 epochs, batch size 8, lr 0.1",
    ]


def test_so_many_lines_or_tables_that_pictures_would_not_help_have_none_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "TABLES", 2)
    for rate in range(LINES + 1):
        make_run(tmp_path / "lines", method="dropout", options={"rate": rate / 100})
    parsed = outline(page(collect(tmp_path / "lines")))
    assert parsed.svgs == []
    assert "15 lines cannot be told apart" in "".join(parsed.text)
    for place in range(4):
        make_run(tmp_path / "tables", lr=0.1 + place / 100)
    parsed = outline(page(collect(tmp_path / "tables")))
    assert len(parsed.svgs) == 2 * 2
    assert "".join(parsed.text).count("more than 2 tables") == 1


def test_long_curves_keep_their_ends():
    assert thinned(1) == [0]
    assert thinned(5) == [0, 1, 2, 3, 4]
    places = thinned(1000)
    assert (len(places), places[0], places[-1]) == (120, 0, 999)
    assert max(b - a for a, b in pairwise(places)) <= 9


def test_several_settings_get_a_picture_each(folder):
    make_run(folder, errors=(3.0, 2.0), lr=0.2)
    names = {path.name for path in write_report(collect(folder), folder)}
    assert {"comparison.svg", "comparison-2.svg"} <= names
    assert len(outline(page(collect(folder))).svgs) == 5


def test_columns_of_words_are_read_from_the_left_and_numbers_from_the_right():
    cells = {"Method": "9 x", "p": "< 0.001", "Error": "−1.5 [−2, −1]", "None": "–", "On": "CPU", "At": "9e359a4"}
    grid = Grid(list(cells), [list(cells.values()), ["ReLU", "–", "+2", "–", "3", "c0ffee1"]])
    assert markdown_table(grid).split("\n")[1] == "|---|---:|---:|---:|---|---|"
    drawn = html_table(grid, "A caption")
    assert re.findall(r'<th scope="col" role="columnheader" class="words">(\w+)<', drawn) == ["Method", "On", "At"]
    assert re.findall(r'<td role="cell" class="words" data-label="(\w+)"', drawn) == ["On", "At"] * 2
