import pytest
import torch


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Statistical tests draw real random numbers, but the same ones in every run."""
    torch.manual_seed(20181114)
