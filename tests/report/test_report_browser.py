"""The pages in a real Chromium: what a reader meets who opens the file."""

import os
import shutil
from pathlib import Path

import pytest
from makers import make_run
from test_paper_report import ERRORS, fill

from dropact.report import collect, write_report
from dropact.report.figure3 import read_study, write_figure3

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium")

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1200, "height": 900}
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser():
    # The sandbox wants user namespaces, which root in a container does not have; the pages are our own.
    options = {"executable_path": CHROMIUM, "args": ["--no-sandbox"] * (os.getuid() == 0)}
    with playwright.sync_playwright() as driver, driver.chromium.launch(**options) as launched:
        yield launched


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each kind, by name."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "results" / "digits", folder / "digits")
    write_report(collect(folder / "digits"), folder / "digits")
    shutil.copytree(ROOT / "results" / "gaaf-mnist", folder / "wide")  # the most columns of all
    write_report(collect(folder / "wide"), folder / "wide")
    fill(folder / "paper", "table1", ERRORS)
    write_report(collect(folder / "paper"), folder / "paper")
    points = {("1.00", "baseline"): [16.5, 16.0, 17.0], ("0.95", "drop-activation"): [16.0, 15.5, 16.75]}
    points["0.60", "drop-activation"] = [20.0, 21.0, 22.0]
    fill(folder / "figure2", "figure2", points)
    write_report(collect(folder / "figure2"), folder / "figure2")
    (folder / "figure3").mkdir()
    write_figure3(read_study(ROOT / "results" / "figure3"), folder / "figure3")
    return folder


@pytest.fixture
def visit(browser, pages):
    """Opens a page by name; a message on the console, an error, or a request to anywhere else fails the test."""
    contexts, complaints = [], []

    def opened(name, **options):
        contexts.append(browser.new_context(**{"bypass_csp": False, **options}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url != address else None)
        address = (pages / name / "report.html").as_uri()
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


NAMES = ("digits", "wide", "paper", "figure2", "figure3")


def sideways(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("name", NAMES)
def test_a_phone_shows_all_without_sideways_scrolling(visit, name):
    page = visit(name, viewport=PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert sideways(page) <= 0
    clipped = "[...document.querySelectorAll('td, th, li, p, h1, h2')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    assert page.evaluate(f"{clipped}.map(each => each.textContent)") == []


@pytest.mark.parametrize("width", [600, 1024, 1025, 1200])
def test_no_width_between_scrolls_sideways(visit, width):
    assert sideways(visit("wide", viewport={"width": width, "height": 700})) <= 0


def test_no_column_of_the_widest_table_is_cut_on_a_desk(visit):
    page = visit("wide", viewport=DESK)
    assert page.evaluate("[...document.querySelectorAll('.table')].filter(e => e.scrollWidth > e.clientWidth)") == []


def test_the_widest_table_fits_on_paper(visit):
    """A4 across, less the margins: 273 mm of 96/25.4 pixels."""
    page = visit("wide", viewport={"width": 1031, "height": 700})
    page.emulate_media(media="print")
    assert sideways(page) <= 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("scheme", "viewport"), [("dark", PHONE), ("light", DESK)], ids=["phone", "desk"])
def test_no_serious_violation_of_accessibility(visit, name, scheme, viewport):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit(name, color_scheme=scheme, viewport=viewport, bypass_csp=True)  # for axe's own script
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS] == []


def test_dark_is_dark_and_paper_is_white(visit):
    page = visit("digits", color_scheme="dark")
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg')).color]"
    assert page.evaluate(colours) == ["rgb(17, 21, 26)", "rgb(230, 237, 243)"]
    page.emulate_media(media="print")
    assert page.evaluate(colours) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]


def column(page, place):
    return page.locator("table").first.locator(f"tbody tr > :nth-child({place})").all_inner_texts()


def mean(cell):
    """What stands before the interval."""
    return cell.partition("\u00a0")[0].partition(" ")[0]


def test_tables_sort_by_mouse_and_keyboard(visit):
    page = visit("digits")
    heading = page.locator("table").first.locator("thead th").nth(3)
    before = column(page, 4)
    assert before[0] == "–"
    ascending = sorted(map(mean, before[1:]), key=lambda text: float(text.replace("−", "-")))
    assert ascending != list(map(mean, before[1:]))
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert list(map(mean, column(page, 4))) == [*ascending, "–"]
    assert column(page, 1)[0] == "Dropout (rate 0.5)"  # the rows stay whole
    heading.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert mean(column(page, 4)[0]) == ascending[-1]
    assert column(page, 4)[-1] == "–"  # what is missing comes last either way
    page.locator("table").first.locator("thead th").first.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") is None
    assert column(page, 1) == sorted(column(page, 1), key=str.casefold)


def test_tables_sort_on_a_phone_too(visit):
    page = visit("digits", viewport=PHONE)
    page.get_by_role("button", name="p, corrected").click()
    assert column(page, 1)[0].startswith("RReLU")


def test_everything_can_be_reached_by_keyboard(visit):
    page = visit("paper")
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent"))
    buttons = set(page.locator("button:visible, summary, a").all_inner_texts())
    assert {text for text in buttons if text not in reached} == set()


def test_the_papers_numbers_and_the_short_schedule_are_seen(visit):
    page = visit("paper")
    for text in ("shortened: 8 of 164 epochs", "25.16", "−1.28"):
        assert page.get_by_text(text).first.is_visible()
    page.get_by_role("link", name="ResNeXt").click()
    assert page.locator("#table2").evaluate("e => e.getBoundingClientRect().top") < 400


def test_without_scripts_the_tables_are_all_there(visit):
    page = visit("digits", java_script_enabled=False)
    assert page.locator("thead th").first.inner_text() == "Method"
    assert page.locator("thead button").count() == 0


def test_figure_2_has_the_papers_form(visit):
    page = visit("figure2")
    assert page.get_by_text("p (keep): probability of keeping the nonlinearity").is_visible()
    assert "smallest mean at 0.95" in page.locator("#keep1-desc").text_content()


def test_a_page_of_a_thousand_runs_is_light_and_quick(visit, pages, monkeypatch):
    """5 settings x 5 methods x 40 seeds, 164 epochs each: as heavy as a paper's table."""
    folder = pages / "thousand"
    monkeypatch.setattr(os, "fsync", lambda file: None)  # a thousand runs that nobody will miss
    for place in range(1000):
        seed, rest = place % 40, place // 40
        method = ("baseline", "dropout", "rrelu", "drop-activation", "cutout")[rest % 5]
        errors = [90 * 0.97**epoch + 4 + (seed * 7 % 40 + 3 * rest) / 100 for epoch in range(164)]
        make_run(folder, errors, dataset="cifar10", method=method, seed=seed, lr=0.1 + rest // 5 / 100)
    write_report(collect(folder), folder)
    assert (folder / "report.html").stat().st_size < 5e6
    page = visit("thousand", viewport=PHONE)
    assert sideways(page) <= 0
    assert page.locator("table").count() == 10
    assert page.locator("tbody tr").count() == 1000 + 25
