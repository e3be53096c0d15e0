import os
from pathlib import Path

import pytest
import torch

SMALL_STEPS = ("bench", "cli", "experiments", "report")  # the other folders test what threads do, too

if not torch.cuda.is_available():
    # Triton decides when it is imported whether its kernels run in its interpreter.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Statistical tests draw real random numbers, but the same ones in every run."""
    torch.manual_seed(20181114)


@pytest.fixture(autouse=True)
def _one_thread(request):
    """Small steps are not worth sharing: threads spin for each other's core, the longer the busier the machine."""
    threads = torch.get_num_threads()
    if request.path.relative_to(Path(__file__).parent).parts[0] in SMALL_STEPS:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
