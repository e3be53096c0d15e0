"""Builds the documentation site into build/site, offline; a warning ends it.

The site's tree is the repository's: README.md becomes its front page; docs/, the tables and pictures of results/ and
the files beside README.md keep their places, so that a link that works in the repository works here. A folder of
results that a page links to gets a page of its own, its table. The navigation is what is there: docs/when-it-helps.md,
docs/guide-*.md and docs/new-method.md are guides, docs/methods/ cards, docs/api/ the interface, and all else pages.

python scripts/build_docs.py            # needs the extra docs
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("*.md", "*.svg", "*.html", "*.csv", "*.json", "*.txt")
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
BESIDE = (*PAGES, "CITATION.cff", "LICENSE")


def lay_out(root: Path, into: Path) -> None:
    """The sources of the site."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    shutil.copytree(root / "docs", into / "docs")
    for name in BESIDE:
        shutil.copy(root / name, into / name)
    shutil.copy(root / "README.md", into / "index.md")
    for folder in sorted(path for path in (root / "results").iterdir() if path.is_dir()):
        there = into / "results" / folder.name
        there.mkdir(parents=True)
        for path in (found for pattern in SHOWN for found in sorted(folder.glob(pattern))):
            shutil.copy(path, there / path.name)
        if (folder / "table.md").exists():
            (there / "index.md").write_text(_folder_page(folder), encoding="utf-8")
    page = into / "index.md"
    page.write_text(_front_page(page.read_text(encoding="utf-8"), root), encoding="utf-8")


def _folder_page(folder: Path) -> str:
    """What stands where the repository has a folder of runs."""
    pages = "\n\n[The whole report](report.html), [as CSV](table.csv)\n" if (folder / "report.html").exists() else "\n"
    return f"# results/{folder.name}{pages}\n{(folder / 'table.md').read_text(encoding='utf-8')}"


def _front_page(text: str, root: Path) -> str:
    """Links to folders lead to their pages: only a repository shows a folder."""
    for folder in (root / "results").iterdir():
        text = text.replace(f"](results/{folder.name})", f"](results/{folder.name}/index.md)")
    return text


def _title(page: Path) -> str:
    """Its first heading, as plain text."""
    heading = next(line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    return heading.removeprefix("# ").replace("`", "").replace('"', "'")


def navigation(root: Path) -> str:
    """The value of `nav`, from the pages that are there."""
    docs = root / "docs"
    guides = [docs / f"guide-{name}.md" for name in ("model", "compare", "reproduce", "theory")]
    guides = [docs / "when-it-helps.md", *guides, docs / "new-method.md"]
    groups = {
        "Guides": [page for page in guides if page.exists()],
        "Methods": sorted((docs / "methods").glob("*.md")),
        "Pages": [page for page in sorted(docs.glob("*.md")) if page not in guides] + [root / name for name in PAGES],
        "Interface": sorted((docs / "api").glob("*.md")),
    }
    lines = ['  { "Start" = "index.md" },']
    for group, pages in groups.items():
        entries = ", ".join(f'{{ "{_title(page)}" = "{page.relative_to(root).as_posix()}" }}' for page in pages)
        lines.append(f'  {{ "{group}" = [{entries}] }},')
    return "\n".join(["[", *lines, "]"])


def main(root: Path = ROOT, argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    build = root / "build"
    lay_out(root, build / "docs")
    text = (root / "zensical.toml").read_text(encoding="utf-8")
    assert text.count("nav = []") == 1
    (build / "zensical.toml").write_text(text.replace("nav = []", f"nav = {navigation(root)}"), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", "zensical.toml"]
    done = subprocess.run(command, cwd=build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    sys.stdout.write(done.stdout)
    # --strict does not count what the reader of the docstrings complains of
    return done.returncode or int("griffe:" in done.stdout)


if __name__ == "__main__":
    sys.exit(main())
