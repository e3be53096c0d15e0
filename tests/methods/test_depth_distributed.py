"""Two ranks that skip branches: nothing hangs, weights stay equal, decisions are shared or not as asked."""

from functools import partial

import pytest
import torch
from gloo import on_ranks
from torch import nn

import dropact

CASES = [(None, "batch"), (None, "row"), (7, "batch")]
STEPS = 12


def _train(shared, mode, rank):
    torch.manual_seed(0)
    seeds = [None if shared is None else shared + i for i in range(4)]
    net = nn.Sequential(*(dropact.StochasticDepth(nn.Linear(4, 4), 0.5, mode, shared=seed) for seed in seeds))
    model = nn.parallel.DistributedDataParallel(net)  # which looks for no unused parameters
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(rank)
    called = []
    for number, block in enumerate(net):
        block.branch.register_forward_hook(lambda m, args, out, n=number: called[-1].append([n, len(out)]))
    for _ in range(STEPS):
        called.append([])
        optimiser.zero_grad()
        model(torch.randn(6, 4)).square().sum().backward()
        optimiser.step()
    return {"called": called, "weights": torch.cat([p.detach().flatten() for p in net.parameters()]).tolist()}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    cases = {f"{mode}-{shared}": partial(_train, shared, mode) for shared, mode in CASES}
    return on_ranks(cases, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(("shared", "mode"), CASES)
def test_two_ranks(shared, mode, found):
    one, other = found[f"{mode}-{shared}"]
    assert one["weights"] == other["weights"]
    # 48 fair coins agree by accident with probability 2**-48
    assert (one["called"] == other["called"]) == (shared is not None)
    assert mode == "row" or any(len(calls) < 4 for calls in one["called"])
