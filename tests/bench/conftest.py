import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Work this small is not worth sharing, and on a busy machine threads wait for each other's core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
