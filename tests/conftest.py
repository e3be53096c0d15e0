import os

import pytest
import torch

if not torch.cuda.is_available():
    # Triton decides when it is imported whether its kernels run in its interpreter.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Statistical tests draw real random numbers, but the same ones in every run."""
    torch.manual_seed(20181114)
