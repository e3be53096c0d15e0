"""Mode "subset": which rows, how many, what is computed of them, and by whom."""

import math
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._subclasses import FakeTensorMode

import dropact
from dropact.functional import stochastic_depth


def rows_kept(seed, count, size):
    """The hash of the module's documentation in numpy, and the rows with the largest signed words."""
    word = np.uint64(0xFFFFFFFF)

    def mix(x):
        x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x21F0AAAD)) & word
        x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x735A2D97)) & word
        return x ^ (x >> np.uint64(15))

    low, high = (np.uint64((seed >> shift) & 0xFFFFFFFF) for shift in (0, 32))
    key1 = mix(mix(mix(low ^ np.uint64(0x243F6A88)) ^ high))
    key2 = mix(mix(mix(high ^ np.uint64(0x13198A2E)) ^ low))
    h = np.arange(count, dtype=np.uint64) ^ key1
    h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x21F0AAAD)) & word
    h = ((h ^ (h >> np.uint64(15)) ^ key2) * np.uint64(0x735A2D97)) & word
    h = ((h ^ (h >> np.uint64(15))) * np.uint64(0x31848BAB)) & word
    signed = h.astype(np.uint32).view(np.int32)
    return sorted(np.argsort(signed)[count - size :].tolist())


class Seen(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.shapes = nn.Conv2d(3, 3, 3, padding=1), []

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return self.conv(x).tanh()


@pytest.mark.parametrize("count", [5, 64, 65, 200])
@pytest.mark.parametrize("scaling", ["test", "train"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_branch_of_some_rows_is_added_to_them(count, scaling, memory_format):
    branch = Seen().double().to(memory_format=memory_format)
    x = torch.randn(count, 3, 4, 6, dtype=torch.float64).to(memory_format=memory_format)
    size = {5: 4, 64: 45, 65: 46, 200: 140}[count]  # of 3.5, 44.8, 45.5 and 140
    scale = 0.5 * (count / size if scaling == "train" else 1.0)
    for seed in (0, 7, -(2**63), 2**63 - 1):
        kept = rows_kept(seed, count, size)
        one, other = (x.clone().requires_grad_() for _ in range(2))
        branch.zero_grad()
        branch.shapes.clear()
        y = stochastic_depth(one, branch, 0.3, "subset", scaling, residual_scale=0.5, seed=seed)
        assert branch.shapes == [(size, 3, 4, 6)]
        assert y.is_contiguous(memory_format=memory_format)
        assert y._base is None  # what FSDP2 needs of a block whose output is then overwritten
        y.square().sum().backward()
        gradients = [p.grad.clone() for p in branch.parameters()]
        branch.zero_grad()
        expected = torch.stack(
            [row + scale * branch(row[None])[0] if i in kept else row for i, row in enumerate(other)]
        )
        expected.square().sum().backward()
        dropped = [row for row in range(count) if row not in kept]
        assert torch.equal(y[dropped], x[dropped])
        found, wanted = (y, one.grad, *gradients), (expected, other.grad, *(p.grad for p in branch.parameters()))
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
        masked = stochastic_depth(x, branch, 0.3, "subset", scaling, "masked", residual_scale=0.5, seed=seed)
        torch.testing.assert_close(masked, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("digits", range(1, 20))
def test_the_number_of_rows_is_the_survival_rounded_and_one_at_least(digits):
    survival = Decimal(digits) / 20
    for count in range(1, 130):
        y = stochastic_depth(torch.zeros(count), torch.ones_like, 1 - float(survival), "subset", seed=count)
        assert y.sum() == max(1, int((survival * count).quantize(Decimal(1), ROUND_HALF_EVEN)))


def test_nothing_and_everything():
    sizes = []
    for drop_prob, rows, seen in ((0.0, 4, 4), (1.0, 4, 1), (0.5, 1, 1), (0.5, 0, 0)):
        y = stochastic_depth(torch.ones(rows, 2), lambda x: sizes.append(len(x)) or x, drop_prob, "subset")
        assert sizes.pop() == seen
        assert y.sum() == 2 * (rows + seen)


DRAWS = 8000


@pytest.fixture(scope="module")
def kept():
    """Of 10 rows at survival 0.6: 1 where kept, for each of many seeds."""
    x = torch.zeros(10, 1)
    draws = {
        mode: [stochastic_depth(x, torch.ones_like, 0.4, mode, seed=seed).flatten() for seed in range(DRAWS)]
        for mode in ("subset", "row")
    }
    return {mode: torch.stack(rows).double() for mode, rows in draws.items()}


def test_every_row_and_every_pair_is_kept_as_often_as_the_law_says(kept):
    """z-tests on 10 rows and 45 pairs, |z| < 5 (a false alarm in 30,000 runs)."""
    assert (kept["subset"].sum(1) == 6).all()
    together = kept["subset"].T @ kept["subset"] / DRAWS
    pairs = together[*torch.triu_indices(10, 10, 1)]
    for found, chance in ((together.diagonal(), 0.6), (pairs, 6 * 5 / (10 * 9))):
        assert ((found - chance).abs() < 5 * math.sqrt(chance * (1 - chance) / DRAWS)).all()


def test_the_variance_of_a_sum_is_the_one_documented(kept):
    """A variance of so many draws of a light-tailed sum has a relative standard error below sqrt(2 / draws): 5 of them.
    The two laws are a factor of 4 apart."""
    a = torch.arange(1.0, 11.0, dtype=torch.float64)
    expected = {
        "subset": 10 / 9 * 0.6 * 0.4 * (a - a.mean()).square().sum(),
        "row": 0.6 * 0.4 * a.square().sum(),
    }
    for mode, variance in expected.items():
        assert abs((kept[mode] @ a).var() / variance - 1) < 5 * math.sqrt(2 / DRAWS)


def test_a_mask_keeps_as_many_as_a_draw():
    x, keep3 = torch.ones(4, 1), torch.tensor([False, True, False, False])
    assert stochastic_depth(x, lambda x: x, 0.25, "subset", "train", mask=keep3).flatten().tolist() == pytest.approx(
        [1 + 4 / 3, 1, 1 + 4 / 3, 1 + 4 / 3]
    )
    for compute in ("skip", "masked"):
        with pytest.raises(
            ValueError, match=r"mask must keep 3 of 4 rows in mode 'subset' at drop_prob=0.25, got one .* 4"
        ):
            stochastic_depth(x, lambda x: x, 0.25, "subset", compute=compute, mask=~keep3 & keep3)


def block(drop_prob=0.4, **settings):
    branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    return dropact.StochasticDepth(branch, drop_prob, "subset", "train", **settings)


def step(model, x, seed):
    torch.manual_seed(seed)
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]


class Shapes:
    """A backend that notes what convolutions are given."""

    def __init__(self):
        self.rows = []

    def __call__(self, graph, inputs):
        import torch.fx.passes.shape_prop

        for node in graph.graph.nodes:
            if node.op == "call_function" and node.target is torch.conv2d:
                self.rows.append(node.args[0].meta["example_value"].shape[0])
        return graph.forward


def test_compiled_whole_and_computed_for_the_kept_rows_alone():
    torch._dynamo.reset()
    model, x, shapes = nn.Sequential(*(block() for _ in range(3))), torch.randn(10, 4, 5, 5), Shapes()
    expected = step(model, x, 3)
    found = step(torch.compile(model, fullgraph=True, backend=shapes), x, 3)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert shapes.rows == [6, 6, 6]
    torch._dynamo.reset()
    # float32 sums of 250 and 150 terms in another order, thrice through a BatchNorm's backward
    for a, b in zip(step(torch.compile(model, fullgraph=True), x, 3), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-3)


def test_the_graph_of_training_is_exported_and_draws_as_the_model_does():
    model, x = nn.Sequential(block(), block()), torch.randn(10, 4, 5, 5)
    program = torch.export.export(model.train(), (x,))
    rows = [node.args[0].meta["val"].shape[0] for node in program.graph.nodes if "conv2d" in str(node.target)]
    assert rows == [6, 6]
    exported = program.module()
    for seed in range(3):
        torch.manual_seed(seed)
        expected = model(x)
        torch.manual_seed(seed)
        torch.testing.assert_close(exported(x), expected)


def test_another_batch_size_compiles_once_more_and_is_right():
    torch._dynamo.reset()
    counter, model = CompileCounter(), nn.Sequential(block(0.3), block(0.6))
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for count in (10, 7, 12, 9, 13):
        x = torch.randn(count, 4, 5, 5)
        torch.manual_seed(count)
        expected = model(x)
        torch.manual_seed(count)
        torch.testing.assert_close(compiled(x), expected)
    assert counter.frame_count == 2


def test_compiled_code_is_of_one_rate():
    torch._dynamo.reset()
    shapes, layer = Shapes(), block(0.0)
    compiled = torch.compile(layer, fullgraph=True, backend=shapes)
    schedule = dropact.schedules.anneal(layer, lambda progress: round(2 * progress) / 2, steps=8, peak=0.8)
    for _ in range(9):
        compiled(torch.randn(10, 4, 5, 5))
        schedule.step()
    assert shapes.rows == [10, 6, 2]


def test_nobody_waits_for_a_value():
    """On a device without values; and a fake tensor refuses to be read."""
    for mode in (torch.device("meta"), FakeTensorMode()):
        with mode:
            layer, x = block(), torch.randn(10, 4, 5, 5, requires_grad=True)
            y = layer(x)
            y.sum().backward()
        assert y.shape == x.grad.shape == (10, 4, 5, 5)


def test_tangents_are_carried_where_gradients_are_recorded_too():
    from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual

    x, t, branch = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3), nn.Linear(3, 3, bias=False)
    keep = torch.tensor([True, True, False, True, True])
    with dual_level():
        y = stochastic_depth(make_dual(x, t), branch, 0.3, "subset", mask=~keep)
        torch.testing.assert_close(unpack_dual(y).tangent, t + keep[:, None] * branch(t))


def kept_for_backward(model, x):
    """Bytes of the storages that autograd saves, parameters aside."""
    parameters, saved = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def pack(t):
        saved[t.untyped_storage().data_ptr()] = t  # and so none is freed and its place taken
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model(x)
    return sum(t.untyped_storage().nbytes() for place, t in saved.items() if place not in parameters)


def test_memory_falls_with_the_rate():
    """A ViT-small at survival 0.6; the block's inputs and the head stay whole."""
    model, x = pytest.importorskip("timm").create_model("vit_small_patch16_224"), torch.randn(5, 3, 224, 224)
    plain = kept_for_backward(model, x)
    receipt = dropact.add_stochastic_depth_(model, 0.6, mode="subset", scaling="train")
    assert 0.6 < kept_for_backward(model, x) / plain < 0.75
    receipt.undo()
    dropact.add_stochastic_depth_(model, 0.6, mode="subset", scaling="train", compute="masked")
    assert kept_for_backward(model, x) >= plain


def test_shared_decisions_are_those_of_the_number():
    one, other = (block(shared=7) for _ in range(2))
    other.load_state_dict(one.state_dict())
    x = torch.randn(10, 4, 5, 5)
    for _ in range(4):
        torch.manual_seed(0)
        y = one(x)
        torch.manual_seed(1)
        assert torch.equal(other(x), y)


def test_a_model_is_given_subsets():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.norm(self.conv(x))
            return torch.relu(x + y)

    model = nn.Sequential(Block(), Block())
    receipt = dropact.add_stochastic_depth_(
        model, [0.75, 0.5], mode="subset", scaling="train", inputs=torch.randn(2, 4, 3, 3)
    )
    seen = []
    for module in model:
        module.conv.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    step(model, torch.randn(8, 4, 3, 3), 0)
    assert seen == [6, 4]
    torch._dynamo.reset()
    torch.compile(model, fullgraph=True, backend="eager")(torch.randn(8, 4, 3, 3))
    receipt.undo()


def test_refusals():
    with pytest.raises(ValueError, match="mode 'subset' needs a tensor with a first dimension of samples"):
        stochastic_depth(torch.ones(()), lambda x: x, mode="subset")
    with pytest.raises(ValueError, match=r"in mode 'subset' the branch must return one row for each .* got \(\) for 2"):
        stochastic_depth(torch.ones(4, 1), lambda x: x.sum(), mode="subset")
