"""Activations of tensors that are sharded over ranks: the values and gradients of the whole tensor, bit for bit."""

import functools

import pytest
import torch
from gloo import on_ranks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

import dropact
from dropact.methods import RandomizedReLU, StochasticActivation

LAYERS = {
    "drop relu": functools.partial(dropact.DropActivation, 0.3),
    "drop gelu": functools.partial(dropact.DropActivation, 0.3, "gelu"),
    "drop tanh": functools.partial(dropact.DropActivation, 0.3, "tanh"),
    "drop channel": functools.partial(dropact.DropActivation, 0.3, "relu", "channel"),
    "drop sample": functools.partial(dropact.DropActivation, 0.3, "silu", "sample"),
    "drop layer": functools.partial(dropact.DropActivation, 0.3, "relu", "layer"),
    "in place": functools.partial(dropact.DropActivation, 0.3, inplace=True),
    "rrelu": RandomizedReLU,
    "aid": functools.partial(dropact.AID, 0.3),
    "stocha": functools.partial(dropact.StochA, 0.3),
    "stochastic": functools.partial(StochasticActivation, 0.3, "relu", torch.square),
}
PLACEMENTS = {
    "replicas": [Replicate()],
    "dimension 0": [Shard(0)],
    "dimension 1": [Shard(1)],
    "last dimension": [Shard(3)],
    "sums": [Partial()],
}
MESHES = {
    "2 x 2, one dimension": [Shard(1), Shard(1)],
    "2 x 2, two dimensions": [Shard(0), Shard(2)],
    "2 x 2, replicas of parts": [Replicate(), Shard(1)],
}


SHAPES = {
    "float32": ((5, 6, 3, 4), False, torch.float32),
    "channels last": ((4, 5, 6, 3), True, torch.float32),
    "bfloat16": ((3, 2, 5, 7), False, torch.bfloat16),
}


def part_of(x, mesh, placements):
    """This rank's, by torch's rule for chunks, in the layout of the whole."""
    order = sorted(range(x.dim()), key=x.stride, reverse=True)
    x = x.permute(order)
    for number, placement in enumerate(placements):
        if isinstance(placement, Shard):
            d, here = order.index(placement.dim), mesh.get_coordinate()[number]
            chunks = [*x.chunk(mesh.size(number), d), *[x.narrow(d, 0, 0)] * mesh.size(number)]
            x = chunks[here]
    return x.contiguous().permute([order.index(d) for d in range(x.dim())])


LINEAR = ("drop relu", "drop channel", "drop layer", "in place", "rrelu", "aid", "stochastic")  # piece by piece


def agrees(name, found, expected):
    """To the bit; but torch rounds an exponential otherwise at the end of a vector than within one, so that what is
    made of one may differ by some units in the last place."""
    if name in LINEAR:
        return torch.equal(found, expected)
    ulp = torch.finfo(found.dtype).eps
    return torch.allclose(found.float(), expected.float(), rtol=8 * ulp, atol=ulp)


@functools.cache
def mesh_of(shape):
    return init_device_mesh("cpu", shape)


def compare(name, placements, rank):
    """What differs, of outputs and gradients, in training and in evaluation."""
    mesh = mesh_of((torch.distributed.get_world_size(),) if len(placements) == 1 else (2, 2))
    summed = isinstance(placements[0], Partial)
    after = [Replicate()] if summed else placements
    different = []
    for what, (shape, last, dtype) in SHAPES.items():
        torch.manual_seed(0)
        values, weights = torch.randn(2, *shape).to(dtype).unbind()
        values.view(-1)[::7] = 0  # where derivatives are a matter of choice
        if last:
            values, weights = (t.contiguous(memory_format=torch.channels_last) for t in (values, weights))
        for training in (True, False):
            layer = LAYERS[name]().train(training)
            whole = values.clone().requires_grad_()
            part = (values / mesh.size() if summed else part_of(values, mesh, placements)).clone().requires_grad_()
            parts = DTensor.from_local(part, mesh, placements, shape=values.shape, stride=values.stride())
            torch.manual_seed(7)
            y = layer(layer(whole * 1) * 1)  # two draws
            torch.manual_seed(7)
            z = layer(layer(parts * 1) * 1).redistribute(placements=after)
            (y * weights).sum().backward()
            (z.to_local() * part_of(weights, mesh, after)).sum().backward()
            pairs = {"output": (z.to_local(), y), "gradient": (part.grad, whole.grad)}
            different += [
                f"{what}, {'training' if training else 'evaluation'}: {n}"
                for n, (found, expected) in pairs.items()
                if not agrees(name, found, part_of(expected, mesh, after))
            ]
            if z.shape != y.shape or z.stride() != y.stride():
                different.append(f"{what}: {z.shape} {z.stride()}")
    return different


# Into ranks' summands nothing can be written: torch refuses it for F.relu as well.
TWO = [(name, place) for place in PLACEMENTS for name in LAYERS if (name, place) != ("in place", "sums")]
SOME = ("drop relu", "drop gelu", "drop channel", "rrelu", "aid", "stocha")
FOUR = [(name, place) for place in ("dimension 0", "dimension 1", *MESHES) for name in SOME]


def cases(pairs):
    placements = PLACEMENTS | MESHES
    return {f"{name}, {place}": functools.partial(compare, name, placements[place]) for name, place in pairs}


def apart(rank):
    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(rank)
    dropact.DropActivation(0.3)(distribute_tensor(torch.ones(4, 4), mesh, [Shard(0)]))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return on_ranks({"apart": apart} | cases(TWO), tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return on_ranks(cases(FOUR), tmp_path_factory.mktemp("four"), 4)


@pytest.mark.parametrize(("name", "place"), TWO)
def test_two_ranks(name, place, two):
    assert two[f"{name}, {place}"] == [[], []]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "place"), FOUR)
def test_four_ranks(name, place, four):
    assert four[f"{name}, {place}"] == [[], [], [], []]


def test_ranks_that_draw_other_seeds_are_refused(two):
    for answer in two["apart"]:
        assert answer.startswith("RuntimeError: the ranks of a device mesh must draw the same seeds"), answer
