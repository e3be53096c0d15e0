"""The laws, as functions of a row: `test_laws` runs them on the methods, `test_traps` on known mistakes.

Random laws are z-tests at |z| < 5.5 (false-alarm rate 4e-8 each; with about 200 of them, under 1e-5 for the suite).
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from rows import Row
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

Z = 5.5
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def assert_same(got: Tensor, expected: Tensor, rtol: float = 2e-6, atol: float = 4e-7) -> None:
    """Same masks: another mask is off by O(1). The tolerance is for f alone, which torch rounds otherwise."""
    torch.testing.assert_close(got, expected, rtol=rtol, atol=atol)


def training_mean_is_the_formula(row: Row, dtype: torch.dtype) -> None:
    # Powers of two: the activations' values carry no rounding of x, and slope * x only that of the slope.
    for value in (-0.5, -1.0, -2.0):
        x = torch.full((1024, 1024), value, dtype=dtype)
        y = row.call(x, training=True)
        exact = torch.tensor(value, dtype=torch.float64)
        mean, variance = row.mean(exact).item(), row.variance(exact).item()
        # f(x) and slope * x are rounded to the dtype, and f may miss that by as much again; 0 and x are not
        rounding = torch.finfo(dtype).eps * abs(value) if row.rounds else 0.0
        distance = abs((y.double() - mean).mean().item())
        assert distance <= Z * (variance / x.numel()) ** 0.5 + rounding, (value, dtype, distance)


def masks_are_independent(row: Row) -> None:
    """Rows and columns of a batch of equal inputs scatter as independent draws do: chi-squared over their means."""
    n = 256
    y = row.call(torch.full((n, n), -1.0, dtype=torch.float64), training=True)
    one = torch.tensor(-1.0, dtype=torch.float64)
    standard_error = (row.variance(one).item() / n) ** 0.5
    for dim in (0, 1):
        chi2 = ((y.mean(dim) - row.mean(one)) / standard_error).square().sum().item()
        # chi-squared(n) has mean n and variance 2n + (excess kurtosis of one row mean) <= 2n + n / (n * p)
        assert abs(chi2 - n) < Z * (2 * n + 1 / 0.001) ** 0.5, (dim, chi2)


def evaluation_is_the_formula(row: Row) -> None:
    x = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    layer = row.layer().eval()
    assert_same(layer(x), row.evaluated(x), rtol=1e-12, atol=1e-14)
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(row.call(x, training=False), layer(x))


def positive_side_of_relus_is_untouched(row: Row) -> None:
    x = torch.rand(1000) + 0.01
    assert torch.equal(row.call(x, training=True), x)


def shape_dtype_and_layout_are_kept(row: Row, dtype: torch.dtype) -> None:
    base = torch.randn(4, 3, 6, 5).to(dtype)
    inputs = {
        "contiguous": base,
        "channels_last": base.to(memory_format=torch.channels_last),
        "transposed": base.transpose(1, 3),
        "sliced": base[:, :, ::2, 1:],
        "offset": base.flatten()[1:],
        "expanded": base[:, :1].expand(4, 3, 6, 5),
        "scalar": torch.tensor(-1.0, dtype=dtype),
        "one": base[:1, 0, 0, 0],
        "empty": base[:0],
    }
    for layout, x in inputs.items():
        for training in (True, False):
            y = row.call(x, training=training)
            assert (y.shape, y.dtype) == (x.shape, dtype), layout
            strides = zip(x.shape, torch.empty_like(x).stride(), y.stride(), strict=True)
            assert all(want == got for size, want, got in strides if size > 1 and x.numel()), (layout, training)


def mask_follows_storage_order(row: Row) -> None:
    """A dense tensor in whatever format, and a slice of one, get the bits of the same memory walked once."""
    x = -torch.rand(4, 3, 6, 5)
    flat = row.call(x.flatten(), training=True, seed=3)
    assert_same(row.call(x, training=True, seed=3).flatten(), flat)
    last = x.to(memory_format=torch.channels_last)
    walked = row.call(last.permute(0, 2, 3, 1).flatten(), training=True, seed=3)
    assert_same(row.call(last, training=True, seed=3).permute(0, 2, 3, 1).flatten(), walked)
    sliced = x[:, :, ::2]
    assert_same(row.call(sliced, training=True, seed=3), row.call(sliced.clone(), training=True, seed=3))


def seed_determines_the_mask(row: Row) -> None:
    x = -torch.rand(50_000)
    assert torch.equal(row.call(x, training=True, seed=11), row.call(x, training=True, seed=11))
    assert torch.equal(row.call(x, training=True, seed=11), row.call(x, training=True, seed=torch.tensor(11)))
    assert not torch.equal(row.call(x, training=True, seed=11), row.call(x, training=True, seed=12))
    assert not torch.equal(row.call(x, training=True, seed=1), row.call(x, training=True, seed=1 + 2**32))


def default_generator_is_the_source(row: Row) -> None:
    layer, x = row.layer(), -torch.rand(50_000)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    with torch.random.fork_rng():
        inside = layer(x)
    assert torch.equal(layer(x), inside)
    assert torch.equal(inside, second)


def gradients_are_right(row: Row) -> None:
    # Away from 0, where ReLU has a kink.
    x = (torch.rand(3, 7, dtype=torch.float64) + 0.2) * torch.where(torch.rand(3, 7) < 0.5, -1, 1)
    x.requires_grad_()
    for training in (True, False):
        if training and row.slope is not None:
            (got,) = torch.autograd.grad(row.call(x, training=True).sum(), x)
            assert_same(got, row.slope(x.detach()), rtol=1e-12, atol=1e-14)
            # Of the output itself: a square would meet the slope once as a value and once as a derivative.
            assert torch.autograd.gradgradcheck(lambda t: row.call(t, training=True), (x,))
        else:
            assert torch.autograd.gradcheck(lambda t, k=training: row.call(t, training=k, seed=5), (x,))
            assert torch.autograd.gradgradcheck(lambda t, k=training: row.call(t, training=k, seed=5).pow(2), (x,))


def gradients_come_in_any_form(row: Row) -> None:
    """Many at once, zeros that were never written, and views that say "negate": autograd hands over all of these."""
    x = torch.randn(5, 8, requires_grad=True)
    for training in (True, False):
        y = row.call(2 * x, training=training, seed=5)
        grads = torch.randn(3, *x.shape)
        together = torch.autograd.grad(y, x, grads, is_grads_batched=True, retain_graph=True)[0]
        one_by_one = [torch.autograd.grad(y, x, grad, retain_graph=True)[0] for grad in grads]
        assert_same(together, torch.stack(one_by_one))
        assert torch.equal(torch.autograd.grad(torch.sgn(y).sum(), x, retain_graph=True)[0], torch.zeros_like(x))
        negated = torch.complex(grads[1], -grads[0]).conj().imag  # a view of -grads[0] that says: negate
        assert negated.is_neg()
        assert_same(torch.autograd.grad(y, x, negated)[0], one_by_one[0])
        assert_same(row.call(negated, training=training, seed=5), row.call(grads[0], training=training, seed=5))


def forward_mode_is_backward_mode(row: Row) -> None:
    """Tangents are carried, with and without a graph: outputs depend on their own inputs alone."""
    x, tangent = torch.randn(5, 8, requires_grad=True), torch.randn(5, 8)
    for training in (True, False):
        (slope,) = torch.autograd.grad(row.call(x, training=training, seed=5).sum(), x)
        for graph in (True, False):
            with torch.set_grad_enabled(graph), forward_ad.dual_level():
                y = row.call(forward_ad.make_dual(x.detach(), tangent), training=training, seed=5)
                carried = forward_ad.unpack_dual(y).tangent
            assert carried is not None, (training, graph)
            assert_same(carried, slope * tangent)


def infinite_inputs_are_evaluated_at_both_ends(row: Row) -> None:
    """0 times infinity is no number: at drop_prob 0 and 1 one function serves alone, as in the folded layer."""
    x = torch.tensor([-torch.inf, -1.0, torch.inf])
    layer = row.layer().eval()
    for drop_prob in (0.0, 1.0):
        layer.drop_prob = drop_prob
        evaluated, folded = layer(x), layer.folded()(x)
        number = ~folded.isnan()  # torch's own GELU of infinity is none
        assert_same(evaluated[number], folded[number])


def inplace_equals_out_of_place(row: Row) -> None:
    x = torch.randn(64, 9)
    for training in (True, False):
        gradients = []
        for inplace in (False, True):
            torch.manual_seed(2)
            leaf = x.clone().requires_grad_()
            hidden = leaf * 1.5
            y = row.layer(inplace=inplace).train(training)(hidden)
            assert (y.data_ptr() == hidden.data_ptr()) == inplace
            y.square().sum().backward()
            gradients.append((y.detach().clone(), leaf.grad))
        assert torch.equal(gradients[0][0], gradients[1][0])
        assert_same(gradients[0][1], gradients[1][1])


def vmap_draws_as_it_is_told(row: Row) -> None:
    x = -torch.rand(1, 500).expand(6, 500)
    layer = row.layer()
    different = torch.func.vmap(layer, randomness="different")(x)
    assert any(not torch.equal(different[0], other) for other in different[1:])
    same = torch.func.vmap(layer, randomness="same")(x)
    for other in same[1:]:
        assert_same(other, same[0])


def vmap_batches(row: Row) -> None:
    x = -torch.rand(6, 500)
    seeded = torch.func.vmap(lambda t: row.call(t, training=True, seed=4))(x)
    for got, sample in zip(seeded, x, strict=True):
        assert_same(got, row.call(sample, training=True, seed=4))
    loss = torch.func.vmap(torch.func.grad(lambda t: row.call(t, training=True, seed=4).sum()))
    single = x[2].clone().requires_grad_()
    row.call(single, training=True, seed=4).sum().backward()
    assert_same(loss(x)[2], single.grad)


def copies_behave_alike(row: Row) -> None:
    layer, x = row.layer(), -torch.rand(10_000)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.manual_seed(3)
        expected = layer(x)
        torch.manual_seed(3)
        assert torch.equal(twin(x), expected)
        assert repr(twin) == repr(layer)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    assert not state, "state_dict keys must be those of the plain activation"
    row.stock().load_state_dict(state)
    layer.load_state_dict(row.stock().state_dict())


def dtype_casts_keep_the_law(row: Row) -> None:
    x = torch.linspace(-3, 3, 101, dtype=torch.float64)
    for cast in (nn.Module.half, nn.Module.bfloat16, nn.Module.double):
        layer = cast(row.layer()).double().eval()
        assert_same(layer(x), row.evaluated(x), rtol=1e-12, atol=1e-14)
    empty = row.layer().to("meta").to_empty(device="cpu").eval()
    assert_same(empty(x), row.evaluated(x), rtol=1e-12, atol=1e-14)


def it_trains_wherever_it_was_made(row: Row) -> None:
    """On the meta device, its weights assigned afterwards; in inference mode, its rate set afterwards."""
    plain, x = nn.Linear(4, 4), torch.randn(8, 4)
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(4, 4), row.layer())
    net.load_state_dict({f"0.{name}": value for name, value in plain.state_dict().items()}, assign=True)
    results = []
    for model in (net, nn.Sequential(plain, row.layer())):
        torch.manual_seed(4)
        results.append(model(x))
    assert torch.equal(*results)
    with torch.inference_mode():
        layer = row.layer()
    if hasattr(layer, "drop_prob"):
        layer.drop_prob = 0.0
    assert layer(x.clone()).shape == x.shape


def compiles_without_graph_break(row: Row) -> None:
    """fullgraph, and from the same torch.manual_seed the masks of eager mode."""
    torch._dynamo.reset()
    layer = row.layer()
    compiled = torch.compile(layer, fullgraph=True)
    x = torch.randn(8, 3, 16, 16)
    results = []
    for forward in (layer, compiled):
        torch.manual_seed(9)
        leaf = x.clone().requires_grad_()
        forward(leaf)  # consumes one seed, so that the second call compares a later draw
        y = forward(leaf)
        y.square().sum().backward()
        results.append((y.detach(), leaf.grad))
    assert_same(results[1][0], results[0][0], rtol=1e-5, atol=2e-6)
    assert_same(results[1][1], results[0][1], rtol=1e-5, atol=1e-5)
    layer.eval()
    assert_same(compiled(x), layer(x), rtol=1e-5, atol=2e-6)


def checkpointing_repeats_the_mask(row: Row) -> None:
    net = nn.Sequential(nn.Linear(20, 40), row.layer(), nn.Linear(40, 40), row.layer())
    x = torch.randn(30, 20, requires_grad=True)
    gradients = []
    for run in (
        net,
        lambda t: checkpoint(net, t, use_reentrant=False),
        lambda t: checkpoint(net, t, use_reentrant=True),
    ):
        torch.manual_seed(6)
        net.zero_grad()
        run(x).square().sum().backward()
        gradients.append(net[0].weight.grad.clone())
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


def exports(row: Row) -> None:
    net = nn.Sequential(nn.Linear(5, 5), row.layer())
    x = torch.randn(4, 5)
    evaluated = torch.export.export(net.eval(), (x,)).module()
    assert_same(evaluated(x), net(x))
    trained = torch.export.export(net.train(), (x,)).module()
    torch.manual_seed(8)
    expected = net(x)
    torch.manual_seed(8)
    assert_same(trained(x), expected)


def refuses_what_is_not_floating(row: Row) -> None:
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=rf"floating-point tensor \(.*float32.*\), got {dtype}"):
            row.call(torch.ones(3, dtype=dtype), training=True)


PER_DTYPE = (training_mean_is_the_formula, shape_dtype_and_layout_are_kept)
LAWS = [
    evaluation_is_the_formula,
    positive_side_of_relus_is_untouched,
    gradients_are_right,
    gradients_come_in_any_form,
    forward_mode_is_backward_mode,
    infinite_inputs_are_evaluated_at_both_ends,
    inplace_equals_out_of_place,
    vmap_batches,
    copies_behave_alike,
    dtype_casts_keep_the_law,
    it_trains_wherever_it_was_made,
    checkpointing_repeats_the_mask,
    compiles_without_graph_break,
    exports,
    refuses_what_is_not_floating,
]
LAWS_OF_DRAWING = [
    masks_are_independent,
    mask_follows_storage_order,
    seed_determines_the_mask,
    default_generator_is_the_source,
    vmap_draws_as_it_is_told,
]


def of(row: Row) -> list[tuple[Callable[..., None], tuple[torch.dtype, ...]]]:
    """The laws that say something of a method, each with what to call it with beside the row."""
    laws = [*LAWS, *(LAWS_OF_DRAWING if row.slope is None else [])]
    if row.stock is not nn.ReLU:
        laws.remove(positive_side_of_relus_is_untouched)
    if not (hasattr(layer := row.layer(), "drop_prob") and hasattr(layer, "folded")):
        laws.remove(infinite_inputs_are_evaluated_at_both_ends)
    cases: list[tuple[Callable[..., None], tuple[torch.dtype, ...]]] = [(law, ()) for law in laws]
    cases += [(law, (dtype,)) for law in PER_DTYPE for dtype in DTYPES]
    return [(law, arguments) for law, arguments in cases if law.__name__ not in row.exempt]
