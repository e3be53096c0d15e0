"""What an installation does where it is asked to do without a compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
USE = """
import warnings, torch, dropact
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        y = dropact.functional.drop_activation(torch.linspace(-1, 1, 5000), 0.3, seed=4)
print(dropact.kernels.backend(), len(caught), y.double().sum().item(), sep="|")
"""


def run(code: str, path: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=path)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().split("|")


def test_without_a_compiler_the_package_installs_and_gives_the_same_results(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    command = "pip install --quiet --no-deps --no-index --no-build-isolation --disable-pip-version-check --target"
    installed = subprocess.run(
        [sys.executable, "-m", *command.split(), str(site), str(source)],
        capture_output=True,
        text=True,
        env={**os.environ, "CC": "/bin/false"},
    )
    assert installed.returncode == 0, installed.stderr
    without = run(USE, site)
    assert without[0].startswith("torch (")
    assert without[1] == "1"  # one warning, however often it is used
    with_c = run(USE, ROOT / "src")
    assert with_c[0].startswith("C, ")
    assert with_c[1:] == ["0", without[2]]
