"""`make docs`: the site builds offline and strictly, its links lead somewhere, and it asks for nothing outside."""

import functools
import http.server
import os
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import build_docs
import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytest.importorskip("zensical", reason="needs zensical, of the extra docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built from a copy, so that what somebody has in build/ stays as it is."""
    root = tmp_path_factory.mktemp("repository")
    for name in ("README.md", "zensical.toml", *build_docs.BESIDE):
        shutil.copy(ROOT / name, root / name)
    for name in ("docs", "results", "scripts", "src"):
        (root / name).symlink_to(ROOT / name)
    assert build_docs.main(root, []) == 0
    return root / "build" / "site"


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.ids = [], set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.update(found[name] for name in ("id", "name") if found.get(name))
        if tag in ("a", "img", "link", "script"):
            self.links += [found[name] for name in ("href", "src") if found.get(name)]


def parsed(path):
    links = Links()
    links.feed(path.read_text(encoding="utf-8"))
    return links


def test_links_inside_lead_to_files_and_places(site):
    pages = {path: parsed(path) for path in site.rglob("*.html") if "results" not in path.parts and path.stem != "404"}
    assert len(pages) > 20
    for path, page in pages.items():
        for link in page.links:
            if link.startswith(("http", "mailto:", "javascript:", "data:")):
                continue
            target, place = urldefrag(link)
            there = (path.parent / unquote(target)).resolve() if target else path
            assert there.exists(), (path.name, link)
            if place and there.suffix == ".html" and there in pages:
                assert unquote(place) in pages[there].ids, (path.name, link)


def test_every_page_is_in_the_navigation(site):
    front = {link.removeprefix("./") for link in parsed(site / "index.html").links}
    for path in (ROOT / "docs").rglob("*.md"):
        assert path.relative_to(ROOT).with_suffix(".html").as_posix() in front, path.name


def test_the_front_page_is_the_readme_and_cards_show_their_pictures(site):
    assert "In 60 seconds" in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "docs" / "methods" / "drop-activation.svg").exists()


def test_examples_of_docstrings_are_code(site):
    text = (site / "docs" / "api" / "methods.html").read_text(encoding="utf-8")
    prompts = text.count("&gt;&gt;&gt; ")
    assert prompts > 30
    assert text.count('<span class="gp">&gt;&gt;&gt; </span>') == prompts
    assert ":func:" not in text


def test_docstrings_become_markdown():
    from readable_docstrings import readable  # needs griffe, of the extra docs

    text = "See :func:`f` and ``g``.\n\n>>> f(1)\n2\n\nAfter.\n    >>> f(2)\n    4"
    assert readable(text) == (
        "See `f` and `g`.\n\n```pycon\n>>> f(1)\n2\n```\n\nAfter.\n\n    ```pycon\n    >>> f(2)\n    4\n```"
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium")
def test_in_a_browser_it_asks_for_nothing_outside_and_complains_of_nothing(site):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    handler.log_message = lambda *_: None
    complaints = []
    options = {"executable_path": CHROMIUM, "args": ["--no-sandbox"] * (os.getuid() == 0)}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_address[1]}/"
        with playwright.sync_playwright() as driver, driver.chromium.launch(**options) as browser:
            page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: complaints.append(request.url) if home not in request.url else None)
            for name in ("index.html", "docs/methods/drop-activation.html", "docs/api/methods.html"):
                page.goto(home + name)
                assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
            assert page.evaluate("document.body.getAttribute('data-md-color-scheme')") == "slate"
        server.shutdown()
    assert complaints == []
