"""Stochastic depth beyond the contract: what is computed, what it equals, and what trains it."""

import copy
import re
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import dropact
from dropact.functional import stochastic_depth
from dropact.methods import ResidualSum


class Counted(nn.Module):
    """A branch that keeps rows apart and notes how many it is given."""

    def __init__(self, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return self.conv(x).tanh()


def masks(mode):
    rows = [[0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    return (
        [torch.tensor(r, dtype=torch.bool) for r in rows] if mode == "row" else [torch.tensor(k) for k in (True, False)]
    )


@pytest.mark.parametrize("mode", ["batch", "row"])
@pytest.mark.parametrize("scaling", ["test", "train"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_skipping_is_masking_without_the_work(mode, scaling, memory_format):
    branch = Counted().double().to(memory_format=memory_format)
    base = torch.randn(5, 3, 4, 6, dtype=torch.float64).to(memory_format=memory_format)
    for mask in masks(mode):
        results = []
        for compute in ("masked", "skip"):
            branch.zero_grad()
            branch.seen.clear()
            x = base.clone().requires_grad_()
            y = stochastic_depth(x, branch, 0.3, mode, scaling, compute, residual_scale=0.5, mask=mask)
            assert y.is_contiguous(memory_format=memory_format)
            y.square().sum().backward()
            results.append((y.detach(), x.grad, *(p.grad for p in branch.parameters())))
        survivors = int((~mask).sum()) if mode == "row" else 5 * int(not mask)
        assert branch.seen == [survivors] * bool(survivors)
        for masked, skipped in zip(*results, strict=True):
            torch.testing.assert_close(skipped, masked, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("mode", ["batch", "row"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masking_rounds_no_more_than_skipping(mode, dtype):
    base = torch.randn(5, 3, dtype=dtype)
    for mask in masks(mode):
        masked, skipped = (
            stochastic_depth(base, torch.tanh, 0.05, mode, "train", compute, residual_scale=0.3, mask=mask)
            for compute in ("masked", "skip")
        )
        assert torch.equal(masked, skipped)


@pytest.mark.parametrize("compute", ["skip", "masked"])
def test_seeds_are_refused_alike(compute):
    x = torch.ones(2, 3)
    for seed, error in ((2**63, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="seed must"):
            stochastic_depth(x, torch.tanh, 0.5, compute=compute, seed=seed)


def test_the_default_device_at_import_does_not_decide_where_python_draws():
    code = (
        "import torch; torch.set_default_device('meta'); import dropact; torch.set_default_device('cpu');"
        "print(dropact.functional.stochastic_depth(torch.ones(3), torch.tanh, 0.5, seed=None).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "torch.Size([3])\n", done.stderr


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_masking_is_what_timm_and_torchvision_do(mode):
    drop_path = pytest.importorskip("timm.layers").drop_path
    theirs = pytest.importorskip("torchvision").ops.stochastic_depth
    x, branch = torch.randn(64, 3, 2, 2), nn.Conv2d(3, 3, 1)
    y = branch(x)
    for seed in range(4):
        torch.manual_seed(seed)
        dropped = theirs(y, 0.25, mode)
        mask = (dropped == 0).flatten(1).all(1) if mode == "row" else (dropped == 0).all()
        ours = stochastic_depth(x, branch, 0.25, mode, "train", "masked", mask=mask)
        torch.testing.assert_close(ours, x + dropped, rtol=1e-6, atol=1e-6)
        if mode == "row":
            torch.manual_seed(seed)
            dropped = drop_path(y, 0.25, training=True)
            mask = (dropped == 0).flatten(1).all(1)
            ours = stochastic_depth(x, branch, 0.25, mode, "train", "masked", mask=mask)
            torch.testing.assert_close(ours, x + dropped, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("scaling", "factor"), [("test", 0.7 * 0.5), ("train", 0.5)])
def test_evaluation_is_the_closed_form(scaling, factor):
    x, branch = torch.randn(5, 4, dtype=torch.float64), nn.Linear(4, 4).double()
    layer = dropact.StochasticDepth(branch, 0.3, scaling=scaling, residual_scale=0.5).eval()
    torch.testing.assert_close(layer(x), x + factor * branch(x), rtol=1e-13, atol=0)


@pytest.mark.parametrize("scaling", ["test", "train"])
def test_the_mean_in_training_is_the_output_in_evaluation(scaling):
    """z-test over 4,000 draws for the batch, |z| < 5.5."""
    layer = dropact.StochasticDepth(nn.Identity(), 0.3, scaling=scaling)
    x = torch.ones(1, dtype=torch.float64)
    ys = torch.stack([layer(x) for _ in range(4000)])
    expected = layer.eval()(x)
    height = 1.0 if scaling == "test" else 1 / 0.7
    assert abs(ys.mean() - expected).item() < 5.5 * (0.21 / 4000) ** 0.5 * height
    assert set(ys.flatten().tolist()) == {1.0, 1.0 + height}
    one, other = ys[:-1].flatten(), ys[1:].flatten()  # successive draws
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 5.5 / 4000**0.5


def test_a_batchnorm_that_is_skipped_learns_nothing_and_else_sees_the_survivors():
    x = torch.arange(4.0).view(4, 1)
    norm = nn.BatchNorm1d(1, momentum=1.0)
    stochastic_depth(x, norm, mask=torch.tensor(True))
    assert int(norm.num_batches_tracked) == 0
    stochastic_depth(x, norm, mode="row", mask=torch.tensor([True, False, True, False]))
    assert norm.running_mean.item() == 2.0
    stochastic_depth(x, norm, mode="row", compute="masked", mask=torch.tensor([True, False, True, False]))
    assert norm.running_mean.item() == 1.5


def test_a_dropped_branch_trains_like_a_masked_one():
    """Gradients of 0 rather than None: momentum and weight decay go on."""
    trained = []
    for compute in ("skip", "masked"):
        torch.manual_seed(0)
        layer = dropact.StochasticDepth(nn.Linear(3, 3), 0.5, compute=compute)
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        for _ in range(8):
            optimiser.zero_grad()
            layer(torch.ones(2, 3)).square().mean().backward()
            assert all(p.grad is not None for p in layer.parameters())
            optimiser.step()
        trained.append(layer.branch.weight)
    torch.testing.assert_close(*trained)


def test_what_comes_out_may_be_overwritten():
    x = torch.randn(3, 3, requires_grad=True)
    for mask in (True, False):
        hidden = x * 1
        y = torch.relu_(stochastic_depth(hidden, nn.Linear(3, 3), mask=torch.tensor(mask)))
        assert torch.equal(hidden, x)
        y.sum().backward()


def test_more_arguments_follow_their_rows():
    class Gated(nn.Module):
        def forward(self, x, gate, *, bias, table):
            assert len(x) == len(gate) == len(bias[0])
            return x * gate + bias[0] + table.sum()

    layer = dropact.StochasticDepth(Gated(), 0.5, "row")
    x, gate, bias, table = torch.randn(6, 2), torch.randn(6, 1), torch.randn(6, 1), torch.ones(3)
    for seed in range(5):
        torch.manual_seed(seed)
        y = layer(x, gate, bias=(bias,), table=table)
        full = x * gate + bias + 3
        assert all(torch.equal(a, b) or torch.allclose(a, b + c) for a, b, c in zip(y, x, full, strict=True))


def test_the_shortcut_may_be_a_projection():
    layer = dropact.StochasticDepth(nn.Linear(4, 2), 1.0, shortcut=nn.Linear(4, 2))
    x = torch.randn(3, 4)
    assert torch.equal(layer(x), layer.shortcut(x))


def test_autocast():
    for mode in ("batch", "row", "subset"):
        layer = dropact.StochasticDepth(nn.Linear(8, 8), 0.5, mode)
        for _ in range(4):
            x = torch.randn(6, 8, requires_grad=True)
            with torch.autocast("cpu", torch.bfloat16):
                y = layer(x)
            assert y.dtype == torch.float32
            y.sum().backward()
            assert torch.isfinite(layer.branch.weight.grad).all()


@pytest.mark.parametrize("shared", [None, 5])
@pytest.mark.parametrize("mode", ["batch", "row", "subset"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_recomputation_takes_the_same_decisions(shared, mode, use_reentrant):
    net = nn.Sequential(
        *(dropact.StochasticDepth(nn.Linear(4, 4), 0.5, mode, shared=shared and shared + i) for i in range(6))
    )
    x = torch.randn(8, 4, requires_grad=True)
    gradients = []
    for run in (copy.deepcopy(net), net):
        torch.manual_seed(1)
        for _ in range(3):
            run.zero_grad()
            y = run(x) if run is not net else checkpoint(run, x, use_reentrant=use_reentrant)
            y.square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in run.parameters()]))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    if shared:
        assert [layer.sum.shared.count for layer in net] == [3] * 6


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_compiled_code_breaks_where_it_skips_and_is_right(mode):
    torch._dynamo.reset()
    layer = dropact.StochasticDepth(nn.Linear(3, 3), 0.5, mode)
    x = torch.randn(4, 3)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(layer, fullgraph=True, backend="eager")(x)
    compiled = torch.compile(layer, backend="eager")
    for seed in range(6):
        torch.manual_seed(seed)
        expected = layer(x)
        torch.manual_seed(seed)
        torch.testing.assert_close(compiled(x), expected)


def test_a_limit_on_recompilation_leaves_blocks_eager_where_the_graph_breaks():
    """What docs/large-models.md says of modes that Python decides in, and that a subset's graph is one."""
    widths = range(3, 15)

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

        def forward(self, x):
            return x + self.linear(self.norm(x))

    def compiled(mode, limit):
        compiled = []

        def backend(graph, inputs):
            compiled.extend(n for n in graph.graph.nodes if n.target is torch._C._nn.linear)
            return graph.forward

        torch._dynamo.reset()
        blocks = nn.ModuleList(Block(width) for width in widths)
        dropact.add_stochastic_depth_(blocks, 0.999, mode=mode)
        with torch._dynamo.config.patch(recompile_limit=limit):
            run = torch.compile(lambda xs: [block(x) for block, x in zip(blocks, xs, strict=True)], backend=backend)
            torch.manual_seed(0)
            run([torch.randn(2, width) for width in widths])
        return len(compiled)

    assert compiled("batch", 8) < compiled("batch", 64) == compiled("subset", 8) == len(widths)


def test_shared_decisions_break_compiled_code_no_more_often():
    from torch._dynamo.testing import CompileCounter

    pieces = []
    for shared in (None, 3):
        torch._dynamo.reset()
        counter = CompileCounter()
        layer = dropact.StochasticDepth(nn.Linear(3, 3), 0.0, shared=shared)
        torch.compile(layer, backend=counter)(torch.randn(4, 3))
        pieces.append(counter.frame_count)
    assert pieces[0] == pieces[1]
    assert layer.sum.shared.count == 1


def test_a_schedule_recompiles_nothing():
    torch._dynamo.reset()
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    layer = dropact.StochasticDepth(nn.Linear(3, 3), 0.0, "row", compute="masked")
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    schedule = dropact.schedules.anneal(layer, "late", steps=4, peak=1.0)
    x = torch.randn(4, 3)
    for step in range(5):
        assert torch.equal(compiled(x), x) == (step >= 2)
        schedule.step()
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda x, f: stochastic_depth(x.long(), f), TypeError, "floating-point tensor"),
        (lambda x, f: stochastic_depth(x, f, 1.5), ValueError, "drop_prob must lie in [0, 1], got 1.5"),
        (lambda x, f: stochastic_depth(x, f, 1.0, scaling="train"), ValueError, "must be below 1 with scaling='train'"),
        (
            lambda x, f: stochastic_depth(x, f, mode="sample"),
            ValueError,
            "mode must be one of 'batch', 'row', 'subset'",
        ),
        (lambda x, f: stochastic_depth(x, f, scaling="keep"), ValueError, "scaling must be one of 'test', 'train'"),
        (lambda x, f: stochastic_depth(x, f, compute="no"), ValueError, "compute must be one of 'skip', 'masked'"),
        (lambda x, f: stochastic_depth(x, f, mask=torch.tensor([True])), ValueError, "must have the shape ()"),
        (lambda x, f: stochastic_depth(x, f, mask=torch.ones(())), TypeError, "boolean tensor, got torch.float32"),
        (lambda x, f: stochastic_depth(x, f, seed=1, mask=torch.tensor(True)), ValueError, "seed and mask both given"),
        (lambda x, f: stochastic_depth(x[0, 0], f, mode="row"), ValueError, "got one of shape ()"),
        (
            lambda x, f: stochastic_depth(x, lambda x: x.sum(), mode="row", mask=torch.tensor([True, False])),
            ValueError,
            "one row for each that it is given: got () for 1",
        ),
        (lambda x, f: dropact.StochasticDepth(torch.tanh), TypeError, "branch must be an nn.Module, got builtin"),
        (lambda x, f: dropact.StochasticDepth(f, shared="x"), TypeError, "seed must be an int"),
        (
            lambda x, f: dropact.StochasticDepth(f, compute="masked", shared=3),
            ValueError,
            "shared=3 needs compute='skip', got compute='masked'",
        ),
        (lambda x, f: ResidualSum(0.5, scaling="train").__setattr__("drop_prob", 1.0), ValueError, "must be below 1"),
    ],
)
def test_refusals(call, error, says):
    with pytest.raises(error, match=re.escape(says)):
        call(torch.ones(2, 3), nn.Linear(3, 3))
