"""What only a GPU can show. `DROPACT_GPU_TESTS_ON=cpu` runs what a CPU can of it, to find mistakes in the tests."""

import os

import pytest
import torch

ON = os.environ.get("DROPACT_GPU_TESTS_ON", "cuda")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name != "gpu":
            continue
        # The compiler of whatever release is installed where a GPU is warns of its own affairs.
        item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_runtest_setup():
    if ON == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")  # from one place: one line of the summary counts them all


@pytest.fixture
def device():
    return torch.device(ON)


@pytest.fixture
def cuda(device):
    """For what a CPU has nothing like."""
    if device.type != "cuda":
        pytest.skip("needs CUDA")
    return device
