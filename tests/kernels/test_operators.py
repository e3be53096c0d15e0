"""The operators as torch sees them: layouts, autograd, fake tensors, modes, what is kept, what happens without C."""

import importlib
import warnings

import pytest
import torch
from extension import watched
from inputs import DTYPES, FORMATS, PROBABILITIES, awkward, same_bits
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dropact import AID, DropActivation, RandomizedReLU, kernels
from dropact.functional import aid, drop_activation, randomized_relu, stocha
from dropact.kernels import _dispatch, cpu, reference

SEED = torch.tensor(1234)
P = torch.tensor(0.3, dtype=torch.float64)
ops = torch.ops.dropact

CALLS = {
    "drop_relu": lambda x: (x, SEED, P),
    "drop_relu_backward": lambda x: (x, x.detach().relu()),
    "pair": lambda x: (x, SEED, P, "elu", [0.5, 1.0, 1.0], "identity", [], False),
    "randomized_relu": lambda x: (x, SEED, 0.125, 0.3),
    "randomized_relu_backward": lambda x: (x, x.detach(), SEED, 0.125, 0.3),
    "choose": lambda x: (x, x.flip(0), SEED, P),
    "choose_backward": lambda x: (x, SEED, P),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
# opcheck looks at the gradient of whatever it finds
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_opcheck(name, layout):
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    x = {"contiguous": x, "channels_last": x.to(memory_format=torch.channels_last), "sliced": x[:, :, ::2]}[layout]
    torch.library.opcheck(getattr(ops, name).default, CALLS[name](x.detach().requires_grad_()))


@pytest.mark.parametrize("forward", FORMATS)
@pytest.mark.parametrize("backward", FORMATS)
@pytest.mark.parametrize("activation", ["relu", "tanh", "rrelu", "aid", "stocha"])
def test_mixed_layouts_of_gradient_and_output(forward, backward, activation):
    """The gradient comes in any layout; its elements must meet their own mask, and leave in the output's layout."""
    x = FORMATS[forward](torch.randn(6, 5, 4, 3, dtype=torch.float64))
    grad = FORMATS[backward](torch.randn(6, 5, 4, 3, dtype=torch.float64))

    def call(t):
        if activation == "rrelu":
            return randomized_relu(t, seed=7)
        if activation == "aid":
            return aid(t, 0.4, seed=7)
        if activation == "stocha":
            return stocha(t, 0.4, seed=7)
        return drop_activation(t, 0.4, activation, seed=7)

    leaf = x.detach().requires_grad_()
    y = call(leaf)
    y.backward(grad)
    # The oracle: the definition, differentiated by autograd on the same logical values.
    plain = x.detach().requires_grad_()
    if activation == "rrelu":
        expected = reference.randomized_relu(plain, torch.tensor(7), 1 / 8, 1 / 3)
    elif activation == "relu":
        expected = reference.drop_relu(plain, torch.tensor(7), 0.4)
    elif activation == "aid":
        expected = reference.choose(plain.clamp(max=0), plain.clamp(min=0), torch.tensor(7), 0.4)
    elif activation == "stocha":
        expected = reference.choose(
            torch.where(plain < 0, nn.functional.silu(plain), plain), plain.clamp(min=0), torch.tensor(7), 0.4
        )
    else:
        expected = reference.choose(plain, plain.tanh(), torch.tensor(7), 0.4)
    (to_plain,) = torch.autograd.grad(expected, plain, grad)
    assert torch.equal(y, expected)
    torch.testing.assert_close(leaf.grad, to_plain, rtol=1e-14, atol=1e-15)
    (handed_on,) = torch.autograd.grad(call(leaf), leaf, grad)  # leaf.grad itself has the strides of the leaf
    assert torch.equal(handed_on, leaf.grad)
    assert handed_on.stride() == torch.empty_like(y).stride()


def saved_beyond(module, x):
    """Bytes that autograd keeps, other than the output's and the input's own memory; and those of the input."""
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = module(x)
    output = kept.pop(y.untyped_storage().data_ptr(), 0)
    kept_input = kept.pop(x.untyped_storage().data_ptr(), 0)
    return output, kept_input, sum(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_kept_for_backward(dtype):
    x = torch.randn(64, 1024).to(dtype).requires_grad_()
    size = x.untyped_storage().nbytes()
    scalars = 8 * 2  # the seed and the probability
    assert saved_beyond(nn.ReLU(), x) == (size, 0, 0)
    assert saved_beyond(DropActivation(0.05), x) == (size, 0, 0)
    assert saved_beyond(AID(0.05), x) == (size, 0, 0)
    output, kept_input, rest = saved_beyond(RandomizedReLU(), x)
    assert (output, kept_input) == (size, 0)
    assert rest <= scalars
    for activation in ("gelu", "silu", "tanh"):
        output, kept_input, rest = saved_beyond(DropActivation(0.05, activation), x)
        assert (output, kept_input) == (0, size), activation
        assert rest <= scalars, activation


def test_eager_calls_reach_the_c_extension(monkeypatch):
    calls = watched(monkeypatch)
    for inplace in (False, True):
        for layer, expected in (
            (DropActivation(0.05, inplace=inplace), [0, 1]),
            (RandomizedReLU(inplace=inplace), [4, 5]),
            (AID(0.05, inplace=inplace), ["pair", 1]),
        ):
            calls.clear()
            x = torch.randn(8, 16, requires_grad=True)
            layer(x * 1).sum().backward()
            assert calls == expected
    calls.clear()
    x = torch.randn(8, 16, requires_grad=True)
    DropActivation(0.05, "gelu")(x).sum().backward()
    assert calls == ["pair", "pair"]
    calls.clear()
    DropActivation(0.05, torch.sin)(x).sum().backward()
    assert calls == [2, 3]
    calls.clear()
    with torch.no_grad():
        DropActivation(0.05)(x)
    assert calls == [0]


def test_what_compilers_trace_has_the_values_of_the_definition():
    traced = importlib.import_module("dropact.kernels.drop_relu")._traced
    for dtype in DTYPES:
        for p in PROBABILITIES:
            x = awkward(5000, dtype)
            got, expected = traced(x, SEED, p), reference.drop_relu(x, SEED, p)
            torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


def test_modes_see_the_operators():
    class Watch(TorchDispatchMode):
        seen = ()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen = (*self.seen, func.name())
            return func(*args, **(kwargs or {}))

    with Watch() as watch:
        x = torch.randn(5, requires_grad=True)
        DropActivation(0.05)(x).sum().backward()
    assert "dropact::drop_relu" in watch.seen
    assert "dropact::drop_relu_backward" in watch.seen


def test_fake_tensors_have_shape_and_layout():
    with torch._subclasses.FakeTensorMode():
        x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
        for layer in (DropActivation(0.1), DropActivation(0.1, "gelu"), RandomizedReLU()):
            y = layer(x)
            assert y.stride() == x.stride()
            y.sum().backward()
            assert x.grad.shape == x.shape


@pytest.mark.parametrize("layer", [DropActivation(0.1), DropActivation(0.1, "gelu"), RandomizedReLU()], ids=repr)
def test_autocast_keeps_the_dtype(layer):
    linear = nn.Linear(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(linear(torch.randn(4, 8)))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert linear.weight.grad.dtype == torch.float32


def test_in_place_writes_into_the_input_without_another_pass():
    x = torch.randn(64, 64)
    expected = drop_activation(x, 0.3, seed=3)
    version = x._version
    y = drop_activation(x, 0.3, inplace=True, seed=3)
    assert y.data_ptr() == x.data_ptr()
    assert same_bits(y, expected)
    assert x._version == version + 1


def test_in_place_on_a_view_or_a_leaf_behaves_as_in_torch():
    base = torch.randn(4, 6, requires_grad=True)
    hidden = base * 2
    part = hidden[:, :3]
    drop_activation(part, 0.5, inplace=True, seed=1)
    hidden.sum().backward()
    expected = drop_activation((base * 2)[:, :3].detach(), 0.5, seed=1) != 0
    assert torch.equal(base.grad[:, :3] != 0, expected)
    assert (base.grad[:, 3:] == 2).all()
    with pytest.raises(RuntimeError, match="leaf"):
        drop_activation(torch.randn(3, requires_grad=True), inplace=True)


def test_without_the_extension_the_definition_serves_with_one_warning(monkeypatch):
    x = torch.randn(3, 500)
    fast = [drop_activation(x, 0.3, f, seed=5) for f in ("relu", "tanh")] + [randomized_relu(x, seed=5)]
    monkeypatch.setattr(cpu, "extension", None)
    monkeypatch.setattr(cpu, "description", "no compiler at build time")
    monkeypatch.setattr(_dispatch, "_warned", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        slow = [drop_activation(x, 0.3, f, seed=5) for f in ("relu", "tanh")] + [randomized_relu(x, seed=5)]
        leaf = x.clone().requires_grad_()
        DropActivation(0.1, inplace=True)(leaf * 1).sum().backward()
    assert len(caught) == 1
    assert "no compiler at build time" in str(caught[0].message)
    assert all(torch.equal(a, b) for a, b in zip(fast[::2], slow[::2], strict=True))
    torch.testing.assert_close(fast[1], slow[1], rtol=1e-6, atol=0)  # tanh, rounded by whoever computes it
    assert kernels.backend("cpu") == "torch (no compiler at build time)"


def test_cuda_tensors_would_take_triton():
    assert kernels.backend("cuda") == "Triton"
    assert kernels.backend("meta") == "torch"
