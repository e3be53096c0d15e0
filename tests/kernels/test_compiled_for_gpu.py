"""The Triton kernels are code that a GPU can be given: compiled here, where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dropact._activations import FORMULAS


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu runs them")
def test_every_kernel_compiles_and_reads_16_bytes_at_a_time(tmp_path):
    pytest.importorskip("triton.backends.nvidia")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    script = Path(__file__).with_name("compiled_for_gpu.py")
    done = subprocess.run([sys.executable, script, "90"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    reads = json.loads(done.stdout)
    assert len(reads) == 4 * (2 + 2 + 2 + 3) + 2 * (len(FORMULAS) + 3) + 4
    for name, widths in reads.items():
        assert widths == (["ld.global.v2.b64"] if "fp64" in name else ["ld.global.v4.b32"]), name
