"""What a training process does with memory that it has freed."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys, torch

sys.path.insert(0, sys.argv[1])
from makers import config, tiny_data
from dropact.experiments.trainer import Trainer

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
before = min(faults() for _ in range(4))
trainer = Trainer(config(), tiny_data(), torch.device("cpu"))
print(before, min(faults() for _ in range(4)))  # the first ones make the room
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_a_trainer_keeps_freed_memory():
    words = [sys.executable, "-c", FAULTS, str(Path(__file__).parent)]
    output = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
    given_back, kept = map(int, output.split())
    assert kept < 16 <= given_back  # at least one for each huge page of 2 MiB, where the system has them
