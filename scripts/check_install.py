"""What a user does first, in the environment this runs in: a layer, a converted model, a comparison on digits.

    python scripts/check_install.py              # fails where the C kernels do not serve
    python scripts/check_install.py --without    # fails unless they are missing, with one warning that says so

Run it outside the repository's `src`: it is for what was installed."""

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

import dropact

parser = argparse.ArgumentParser()
parser.add_argument("--without", action="store_true", help="the C kernels are to be missing")
without = parser.parse_args().without

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    receipt = dropact.convert_(model, dropact.DropActivation(drop_prob=0.05))
    assert len(receipt) == 1, receipt
    for _ in range(2):
        model(torch.randn(8, 64)).sum().backward()
    dropact.fold_(model)
backend = dropact.kernels.backend()
assert backend.startswith("torch (" if without else "C, "), backend
ours = [str(warning.message) for warning in caught if "dropact" in str(warning.message)]
assert len(ours) == without, ours

with tempfile.TemporaryDirectory() as folder:
    words = [
        "compare",
        "--methods",
        "baseline,drop-activation",
        "--seeds",
        "2",
        "--epochs",
        "1",
        "--out",
        folder + "/out",
    ]
    subprocess.run([sys.executable, "-m", "dropact", *words], check=True, cwd=folder)
    assert (Path(folder) / "out" / "report.html").exists()
sys.stdout.write(f"dropact {dropact.__version__}, torch {torch.__version__}: {backend}\n")
