"""Branches dropped in models that are sharded over two ranks: the weights that training ends with are those of
DistributedDataParallel, or the first step is refused. Nothing hangs."""

from functools import partial

import pytest
import torch
from gloo import on_ranks
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import dropact

STEPS = 6


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x):
        return self.down(self.up(x).tanh())


def network(mode, shared, branch=Branch, compute="skip"):
    torch.manual_seed(0)
    seeds = [None if shared is None else shared + number for number in range(4)]
    return nn.Sequential(
        *(dropact.StochasticDepth(branch(), 0.5, mode, "test", compute, shared=seed) for seed in seeds)
    )


def fsdp1(module, orig):
    return FullyShardedDataParallel(module, use_orig_params=orig, device_id=torch.device("cpu"))


def wrapped(model, how):
    if how == "ddp":
        return DistributedDataParallel(model)
    version, level = how.split()
    for number, block in enumerate(model):
        if version == "fsdp2" and level != "root":
            fully_shard(block.branch if level == "branch" else block)
        elif version != "fsdp2" and level == "branch":
            block.branch = fsdp1(block.branch, version == "fsdp1-orig")
        elif version != "fsdp2" and level == "block":
            model[number] = fsdp1(block, version == "fsdp1-orig")
    return fully_shard(model) if version == "fsdp2" else fsdp1(model, version == "fsdp1-orig")


def weights(how, setting, rank):
    mode, rest = SETTINGS[setting]
    return _trained(how, mode, rank, **rest)


def _trained(how, mode, rank, shared=None, reseeded=None, rows=(6, 6), overwritten=False):
    """After some steps with data of the rank's own, and decisions of its own unless they are shared."""
    model = network(mode, shared)
    if overwritten:
        for block in model:
            block.register_forward_hook(lambda module, args, y: y.mul_(1.5))
    model = wrapped(model, how)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(rank)
    data = torch.Generator().manual_seed(rank)
    for step in range(STEPS):
        if rank == reseeded and step % 2:
            torch.manual_seed(5)
        optimiser.zero_grad()
        model(torch.randn(rows[rank], 4, generator=data)).square().sum().backward()
        optimiser.step()
    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    return torch.cat([full[name].flatten() for name in sorted(full)]).tolist()


WRAPPERS = [
    f"{version} {level}" for version in ("fsdp2", "fsdp1-orig", "fsdp1-flat") for level in ("root", "block", "branch")
]
SETTINGS = {
    "shared batch": ("batch", {"shared": 7}),
    "shared batch, a rank reseeded": ("batch", {"shared": 7, "reseeded": 0}),
    "shared row, 6 and 2 rows": ("row", {"shared": 7, "rows": (6, 2)}),
    "own row, 6 and 2 rows": ("row", {"rows": (6, 2)}),
    "own subset, 6 and 3 rows": ("subset", {"rows": (6, 3)}),
    "own batch": ("batch", {}),
    "own row, overwritten": ("row", {"overwritten": True}),
}
REFUSED = [(how, "own batch") for how in WRAPPERS if how.endswith("branch")]
TRAINED = [(how, setting) for setting in SETTINGS for how in WRAPPERS if (how, setting) not in REFUSED]


def normalised(mode, rank):
    """A SyncBatchNorm in the branch, which gloo has no CPU tensors for."""
    network(mode, None, lambda: nn.Sequential(nn.Linear(4, 4), nn.SyncBatchNorm(4)))(torch.ones(4, 4))


def tensor_parallel(mode, shared, seed, rank, compute="skip"):
    """Outputs of steps in training, beside those of the same network on one rank."""
    plain, split = (network(mode, shared, compute=compute) for _ in range(2))
    mesh = init_device_mesh("cpu", (2,))
    for block in split:
        parallelize_module(block.branch, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    outputs = []
    for model in (plain, split):
        torch.manual_seed(rank if seed is None else seed)
        data = torch.Generator().manual_seed(0)
        outputs.append([model(torch.randn(6, 4, generator=data)).tolist() for _ in range(4)])
    return outputs


def sequence_parallel(mode, compute, dimension, rank):
    """Outputs and gradients of a step in training of a DTensor through a branch of replicated parameters."""
    shared = None if compute == "masked" else 3
    torch.manual_seed(0)
    plain, split = (dropact.StochasticDepth(Branch(), 0.5, mode, "train", compute, shared=shared) for _ in range(2))
    mesh = init_device_mesh("cpu", (2,))
    split.load_state_dict(plain.state_dict())
    distribute_module(split.branch, mesh)
    found = []
    for seed in range(4):
        x = torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(seed))
        for model in (plain, split):
            torch.manual_seed(seed)
            read = x if model is plain else distribute_tensor(x, mesh, [Shard(dimension)])
            y = model(read.requires_grad_())
            y.square().sum().backward()
            whole = y if model is plain else y.full_tensor()
            gradient = read.grad if model is plain else read.grad.full_tensor()
            found.append([whole.tolist(), gradient.tolist()])
    return found[::2], found[1::2]


def pipelined(mode, rank):
    """Two stages of two blocks, two batches in four pieces each: the parameters without a gradient."""
    stage = network(mode, None)[2 * rank : 2 * rank + 2]
    staged = PipelineStage(stage, rank, 2, torch.device("cpu"), input_args=(torch.zeros(3, 4),))
    schedule = Schedule1F1B(staged, 4, lambda y, target: (y - target).square().sum())
    for _ in range(2):
        if rank:
            schedule.step(target=torch.zeros(12, 4), losses=[])
        else:
            schedule.step(torch.randn(12, 4, requires_grad=True))
    return [name for name, p in stage.named_parameters() if p.grad is None]


OTHERS = {
    **{f"pipeline {mode}": partial(pipelined, mode) for mode in ("batch", "row", "subset")},
    **{
        f"sequence {mode} {compute} {d}": partial(sequence_parallel, mode, compute, d)
        for mode, compute, d in [
            ("batch", "skip", 1),
            ("batch", "skip", 0),
            ("row", "skip", 1),
            ("subset", "skip", 1),
            ("row", "masked", 1),
            ("row", "masked", 0),
            ("row", "skip", 0),
        ]
    },
    "norm batch": partial(normalised, "batch"),
    "norm row": partial(normalised, "row"),
    "tensor shared batch": partial(tensor_parallel, "batch", 3, None),
    "tensor shared row": partial(tensor_parallel, "row", 3, None),
    "tensor shared subset": partial(tensor_parallel, "subset", 3, None),
    "tensor own batch": partial(tensor_parallel, "batch", None, None),
    "tensor own row": partial(tensor_parallel, "row", None, None),
    "tensor alike subset": partial(tensor_parallel, "subset", None, 1),
    "tensor alike masked": partial(tensor_parallel, "row", None, 1, compute="masked"),
}
CASES = {f"ddp {setting}": partial(weights, "ddp", setting) for setting in SETTINGS}
CASES |= {f"{how} {setting}": partial(weights, how, setting) for how, setting in [*TRAINED, *REFUSED]} | OTHERS


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return on_ranks(CASES, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(("how", "setting"), TRAINED)
def test_sharded_training_is_that_of_data_parallelism(how, setting, found):
    one, other = found[f"{how} {setting}"]
    assert one == other
    expected = found[f"ddp {setting}"][0]
    assert len(expected) == 4 * (4 * 6 + 6 + 6 * 4 + 4)
    # float32, 6 steps of sums in another order
    torch.testing.assert_close(torch.tensor(one), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_a_rank_that_reseeds_changes_no_shared_decision(found):
    assert found["ddp shared batch, a rank reseeded"] == found["ddp shared batch"]
    assert found["ddp shared batch"] != found["ddp own batch"]


@pytest.mark.parametrize(("how", "setting"), REFUSED)
def test_what_is_gathered_within_a_branch_asks_for_shared_decisions(how, setting, found):
    for answer in found[f"{how} {setting}"]:
        assert answer.startswith("RuntimeError: the fully sharded "), answer
        assert answer.endswith("give shared= a number, the same on all ranks, or mode='subset'")
        assert "\n" not in answer


def test_a_synchronised_norm_in_a_branch_asks_for_shared_decisions(found):
    assert all(answer.startswith("RuntimeError: the SyncBatchNorm in the branch") for answer in found["norm batch"])
    # called on every rank, whatever survives: torch's own refusal is what comes next
    assert all("SyncBatchNorm expected input tensor to be on GPU" in answer for answer in found["norm row"])


@pytest.mark.parametrize("name", [name for name in OTHERS if name.startswith("tensor") and "own" not in name])
def test_tensor_parallel_branches_compute_what_one_rank_does(name, found):
    for plain, split in found[name]:
        assert plain == found[name][0][0]
        torch.testing.assert_close(torch.tensor(split), torch.tensor(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in OTHERS if name.startswith("seq") and name != "sequence row skip 0"])
def test_sequence_parallel_branches_compute_what_one_rank_does(name, found):
    for plain, split in found[name]:
        torch.testing.assert_close(torch.tensor(split), torch.tensor(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["batch", "row", "subset"])
def test_stages_of_a_pipeline_decide_for_themselves(mode, found):
    assert found[f"pipeline {mode}"] == [[], []]


def test_rows_that_no_rank_has_as_a_whole_are_refused(found):
    assert all("a DTensor that is sharded in dimension 0" in answer for answer in found["sequence row skip 0"])


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_tensor_parallel_branches_ask_for_shared_decisions(mode, found):
    for answer in found[f"tensor own {mode}"]:
        assert answer.startswith("RuntimeError: the DTensor parameter of shape"), answer
        assert answer.endswith("give shared= a number, the same on all ranks")


def test_a_recomputation_that_nobody_can_place_is_refused():
    block, x = dropact.StochasticDepth(nn.Linear(4, 4), 0.5, shared=3), torch.ones(2, 4, requires_grad=True)
    y = checkpoint(block, x, use_reentrant=True, preserve_rng_state=False)
    with pytest.raises(RuntimeError, match=r"computed again .* checkpoint\(preserve_rng_state=True\)"):
        y.sum().backward()
