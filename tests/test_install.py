"""What an installation does where it is asked to do without a compiler, and what is published."""

import os
import re
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
USE = """
import warnings, torch, dropact
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        y = dropact.functional.drop_activation(torch.linspace(-1, 1, 5000), 0.3, seed=4)
print(dropact.kernels.backend(), len(caught), y.double().sum().item(), *(w.message for w in caught), sep="|")
"""


def run(code: str, path: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=path)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().split("|")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    build = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def without_compiler(sdist, tmp_path_factory):
    """Installed by pip, which keeps in its cache the wheel that it built."""
    folder = tmp_path_factory.mktemp("installed")

    def pip(words: str, site: str, **more: str) -> Path:
        command = [sys.executable, "-m", *words.split(), "--target", str(folder / site), "--find-links", sdist.parent]
        offline = ["--no-index", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
        environment = {**os.environ, "PIP_CACHE_DIR": str(folder / "cache"), **more}
        environment.pop("PIP_NO_CACHE_DIR", None)
        subprocess.run([*command, *offline], check=True, env=environment)
        return folder / site

    return pip("pip install --no-deps dropact", "without", CC="/bin/false"), pip


def test_without_a_compiler_the_package_installs_and_gives_the_same_results(without_compiler):
    without = run(USE, without_compiler[0])
    assert without[0].startswith("torch (")
    assert without[1] == "1"  # one warning, however often it is used
    with_c = run(USE, ROOT / "src")
    assert with_c[0].startswith("C, ")
    assert with_c[1:] == ["0", without[2]]


def test_the_warning_says_how_to_get_the_kernels(without_compiler):
    site, pip = without_compiler
    said = re.search(r"pip install [^)]*", run(USE, site)[3]).group()
    assert run(USE, pip(said, "again"))[0].startswith("C, ")


def test_what_is_published_is_whole_and_no_more(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.split()) <= names
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md"} <= names
    assert not any(name.startswith(("tests", "results", "docs")) for name in names)


@pytest.mark.parametrize("address", [None, "https://example.org/dropact"])
def test_no_link_of_the_front_page_is_dead_elsewhere(monkeypatch, address):
    monkeypatch.setattr("setuptools.setup", lambda **words: None)
    monkeypatch.chdir(ROOT)
    text = runpy.run_path("setup.py")["readme"](address)
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert all(target.startswith("https://") for target in targets)
    linked = {target for target in targets if target.startswith("https://example.org")}
    assert len(linked) > 20 if address else not linked
    assert len(re.findall(r"!\[[^\]]*\]\(https://example.org/dropact/raw/", text)) == (1 if address else 0)
