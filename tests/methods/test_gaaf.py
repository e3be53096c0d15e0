"""GAAF against its formula: plain autodiff of the literal sawtooth is the oracle, as floor has no derivative."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dropact import GAAF, DropActivation, convert_, fold_
from dropact.functional import gaaf
from dropact.methods.gaaf import Gaussian, Logistic

K = 10_000
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
PHI = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
# The shapes of the paper's figure, and ours, written down again; and the largest slope of each.
S = {
    "relu": (lambda x: 1 / (1 + torch.exp(-5 * x - 2.5)), 5 / 4),
    "tanh": (lambda x: torch.exp(-(x**2) / 4), math.sqrt(1 / 2) * math.exp(-1 / 2)),
    "sigmoid": (lambda x: torch.exp(-(x**2) / 16) / 4, math.sqrt(1 / 8) * math.exp(-1 / 2) / 4),
}
NAMES = list(PHI)


def literal(x, name, k=K):
    """The formula, letter by letter."""
    s, _ = S[name]
    return PHI[name](x) + (x * k - torch.floor(x * k) - 0.5) / k * s(x)


def gradient(y, x):
    return torch.autograd.grad(y.sum(), x)[0]


@pytest.fixture
def x():
    return torch.linspace(-6, 6, 200_003, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("name", NAMES)
def test_exact_gradient_is_that_of_the_formula_within_the_amplitude(name, x):
    difference = (gradient(gaaf(x, name), x) - gradient(literal(x, name), x)).abs().max().item()
    bound = S[name][1] / (2 * K)
    assert 0.9 * bound < difference <= bound  # attained, so that the test can fail


@pytest.mark.parametrize("name", NAMES)
def test_sawtooth_is_the_formula(name, x):
    y, expected = gaaf(x, name, forward="sawtooth"), literal(x, name)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(gradient(y, x), gradient(expected, x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_central_differences_with_a_step_far_below_a_tooth_see_the_gradient(name):
    """In float64, away from the jumps: the slope is f' + s + g s', by the values alone."""
    x = torch.randn(5000, dtype=torch.float64) * 2
    step = 1e-3 / K
    place = (x * K) % 1
    x = x[(place > 0.01) & (place < 0.99) & (x.abs() > 1e-3)].requires_grad_()
    assert len(x) > 4500
    up, down = (gaaf(x + d, name, forward="sawtooth") for d in (step, -step))
    numeric = (up - down).detach() / (2 * step)
    rounding = 4 * torch.finfo(x.dtype).eps * 10 / step  # of values below 10, in each of the two
    torch.testing.assert_close(gradient(gaaf(x, name, forward="sawtooth"), x), numeric, rtol=0, atol=rounding)
    plain = gradient(PHI[name](x), x)
    assert ((numeric - plain)[x.abs() < 0.5] > 0.07).all()  # the acceleration is there


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_values(name, dtype):
    x = (torch.randn(20_000, dtype=torch.float64) * 4).to(dtype)
    for training in (True, False):
        assert torch.equal(gaaf(x, name, training=training), PHI[name](x))
    sawtooth = gaaf(x, name, forward="sawtooth").double()
    phi = PHI[name](x)
    rounding = torch.finfo(dtype).eps * phi.abs().double() + 2 * torch.finfo(torch.float32).eps / 2 * 10
    assert ((sawtooth - phi.double()).abs() <= 1 / (2 * K) + rounding).all()
    assert torch.equal(gaaf(x, name, forward="sawtooth", training=False), phi)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("forward", ["exact", "sawtooth"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_in_every_dtype(name, forward, dtype):
    x = (torch.randn(20_000, dtype=torch.float64) * 3).to(dtype).requires_grad_()
    got = gradient(gaaf(x, name, forward=forward), x).double()
    wide = x.detach().double().requires_grad_()
    exact = gradient(PHI[name](wide), wide) + S[name][0](wide.detach())
    unit = torch.finfo(dtype).eps
    tooth = S[name][1] / (2 * K) if forward == "sawtooth" else 0
    phi_in_low_precision = 4 * unit if forward == "sawtooth" else 0  # there autodiff takes f' in the dtype of x
    assert ((got - exact).abs() <= (unit / 2 + 1e-5) * exact + 1e-6 + tooth + phi_in_low_precision).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("forward", ["exact", "sawtooth"])
@pytest.mark.parametrize("name", NAMES)
def test_large_inputs_give_no_nan(name, forward, dtype):
    most = torch.finfo(dtype).max
    x = torch.tensor([7.0, -7.0, 300.0, -300.0, 6e4, -6e4, most, -most], dtype=dtype).requires_grad_()
    y = gaaf(x, name, forward=forward)
    got = torch.autograd.grad(y.sum(), x, create_graph=True)[0]
    again = torch.autograd.grad(got.sum(), x)[0]
    assert all(t.isfinite().all() for t in (y, got, again))
    saturated = torch.tensor([2.0, 0.0] * 4 if name == "relu" else [0.0] * 8, dtype=dtype)
    torch.testing.assert_close(got[2:], saturated[2:], rtol=0, atol=1e-6)


def test_infinite_inputs_give_no_nan():
    x = torch.tensor([torch.inf, -torch.inf]).requires_grad_()
    for name, slopes in (("relu", [2.0, 0.0]), ("tanh", [0.0, 0.0])):
        y = gaaf(x, name)
        assert torch.equal(y, PHI[name](x))
        torch.testing.assert_close(gradient(y, x), torch.tensor(slopes), rtol=0, atol=1e-30)
        assert not gaaf(x, name, forward="sawtooth").isnan().any()


def test_autocast_keeps_the_dtype_and_the_slope():
    linear, x = nn.Linear(8, 8), torch.randn(4, 8)
    for forward in ("exact", "sawtooth"):
        with torch.autocast("cpu", torch.bfloat16):
            hidden = linear(x)
            hidden.retain_grad()
            y = GAAF("tanh", forward=forward)(hidden)
        assert y.dtype == torch.bfloat16
        y.float().sum().backward()
        wide = hidden.detach().double()
        torch.testing.assert_close(
            hidden.grad.double(), 1 / wide.cosh() ** 2 + S["tanh"][0](wide), rtol=2**-7, atol=2**-6
        )
        assert linear.weight.grad.dtype == torch.float32


def test_saturated_units_get_gradient():
    """What the method is for: a ReLU at -0.3 and a tanh at 2 receive several times the gradient of the plain ones."""
    for name, value, least in (("relu", -0.3, 0.7), ("tanh", 2.0, 0.07 + 0.36)):
        x = torch.tensor(value, requires_grad=True)
        assert gradient(gaaf(x, name), x) > least


def test_active_relus_double_the_gradient_layer_by_layer_unless_capped():
    x = torch.tensor(5.0, requires_grad=True)
    for cap, expected in ((None, 2.0**8), (1.0, 1.0), (1.5, 1.5**8)):
        y = x
        for _ in range(8):
            y = gaaf(y, cap=cap)
        assert gradient(y, x).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [None, lambda x: torch.exp(-x.abs())])
@pytest.mark.parametrize("name", NAMES)
def test_cap_limits_the_slope_and_nothing_else(name, shape, x):
    cap = 1.3 if name != "sigmoid" else 0.3
    free, capped = (gradient(gaaf(x, name, shape=shape, cap=c), x) for c in (None, cap))
    assert free.max() > cap
    torch.testing.assert_close(capped, free.clamp(max=cap), rtol=1e-14, atol=0)


def test_constants_of_the_shapes_are_arguments(x):
    for name, shape, s in (
        ("relu", Logistic(1.0, 0.0), torch.sigmoid),  # those of the public re-implementation
        ("tanh", Gaussian(3**0.5), lambda x: torch.exp(-(x**2) / 3)),
    ):
        expected = gradient(PHI[name](x), x) + s(x.detach())
        torch.testing.assert_close(gradient(gaaf(x, name, shape=shape), x), expected, rtol=1e-12, atol=1e-14)
        single = x.detach().float().requires_grad_()  # the kernel
        got = gradient(gaaf(single, name, shape=shape), single).double()
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_any_activation_takes_a_shape_of_its_own_and_trains_its_parameters():
    prelu = nn.PReLU(3).double()
    plain = copy.deepcopy(prelu)
    layer = GAAF(prelu, shape=lambda x: torch.exp(-(x**2)))
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    y, expected = layer(x), plain(x)
    assert torch.equal(y, expected)
    grad = torch.randn_like(y)
    got = torch.autograd.grad(y, (x, prelu.weight), grad)
    base = torch.autograd.grad(expected, (x, plain.weight), grad)
    torch.testing.assert_close(got[0], base[0] + grad * torch.exp(-(x.detach() ** 2)), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(got[1], base[1])
    assert list(layer.state_dict()) == ["weight"]
    layer.load_state_dict(plain.state_dict())


def test_every_spelling_of_relu_tanh_and_sigmoid_has_the_default_shape():
    x = torch.randn(50, requires_grad=True)
    for name, spellings in {
        "relu": (F.relu, torch.relu, nn.ReLU(), nn.ReLU(inplace=True)),
        "tanh": (torch.tanh, F.tanh, nn.Tanh()),
        "sigmoid": (torch.sigmoid, nn.Sigmoid()),
    }.items():
        for spelling in spellings:
            assert torch.equal(gradient(gaaf(x, spelling), x), gradient(gaaf(x, name), x))


@pytest.mark.parametrize("forward", ["exact", "sawtooth"])
def test_transforms_of_torch_func(forward):
    x = torch.randn(6, 50, dtype=torch.float64)
    per_sample = torch.func.vmap(torch.func.grad(lambda t: gaaf(t, "tanh", forward=forward).sum()))(x)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(per_sample, gradient(gaaf(leaf, "tanh", forward=forward), leaf), rtol=1e-13, atol=1e-14)
    hessian = torch.func.hessian(lambda t: gaaf(t, "tanh", forward=forward).sum())
    twice = torch.func.grad(lambda t: torch.func.grad(lambda u: gaaf(u, "tanh", forward=forward).sum())(t).sum())
    slope = torch.autograd.functional.hessian(lambda t: gaaf(t, "tanh", forward=forward).sum(), x[0]).diagonal()
    torch.testing.assert_close(twice(x[0]), slope, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(hessian(x[0]), slope.diag(), rtol=1e-12, atol=1e-13)  # forward over backward mode


def test_second_derivative_of_exact_is_the_slope_of_the_slope(x):
    for name in NAMES:
        first = torch.autograd.grad(gaaf(x, name).sum(), x, create_graph=True)[0]
        other = x.detach().requires_grad_()
        phi = torch.autograd.grad(PHI[name](other).sum(), other, create_graph=True)[0]
        expected = gradient(phi + S[name][0](other), other)
        torch.testing.assert_close(gradient(first, x), expected, rtol=1e-9, atol=1e-12)


def test_sawtooth_compiles_and_works_in_place():
    torch._dynamo.reset()
    layer = GAAF("tanh", forward="sawtooth")
    compiled = torch.compile(layer, fullgraph=True)
    x = torch.randn(500, requires_grad=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-6)
    hidden = x * 1
    y = GAAF("tanh", forward="sawtooth", inplace=True)(hidden)
    assert y.data_ptr() == hidden.data_ptr()
    torch.testing.assert_close(gradient(y, x), gradient(compiled(x), x), rtol=1e-5, atol=2e-4)


def test_convert_gives_each_activation_its_own_shape_and_leaves_those_that_have_none():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Tanh(), nn.GELU(), DropActivation(0.1))
    plain = copy.deepcopy(model)
    receipt = convert_(model, GAAF(cap=1.5))
    assert [change.name for change in receipt] == ["1", "2", "4"]
    assert [repr(model[i]) for i in (1, 2)] == [
        "GAAF(activation=relu, shape=Logistic(slope=5.0, centre=-0.5), cap=1.5, inplace=True)",
        "GAAF(activation=tanh, shape=Gaussian(width=2.0, height=1.0), cap=1.5)",
    ]
    assert len(convert_(model, GAAF(cap=1.5))) == 0
    assert len(convert_(model, GAAF(cap=1.4))) == 3
    model.load_state_dict(plain.state_dict())
    fold_(model)
    assert [type(module) for module in model] == [nn.Linear, nn.ReLU, nn.Tanh, nn.GELU, nn.ReLU]
    assert model[1].inplace


def test_convert_with_a_shape_reaches_only_the_activation_it_was_made_for():
    model = nn.Sequential(nn.ReLU(), nn.GELU(), nn.Tanh())
    convert_(model, GAAF("gelu", shape=Gaussian()))
    assert [type(module) for module in model] == [nn.ReLU, GAAF, nn.Tanh]
    convert_(model, GAAF("tanh", shape=Gaussian(3.0)))
    assert [type(module) for module in model] == [nn.ReLU, GAAF, GAAF]


def test_repr_says_what_matters():
    assert repr(GAAF("tanh", 500, forward="sawtooth")) == (
        "GAAF(activation=tanh, shape=Gaussian(width=2.0, height=1.0), forward=sawtooth, frequency=500)"
    )


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "no shape is known for activation gelu, only for relu, tanh, sigmoid", {"activation": "gelu"}),
        (ValueError, "unknown activation 'rellu'", {"activation": "rellu"}),
        (ValueError, "forward must be one of 'exact', 'sawtooth', got 'exactly'", {"forward": "exactly"}),
        (ValueError, "frequency must be positive, got 0", {"frequency": 0}),
        (ValueError, "frequency must lie in .* got nan", {"frequency": math.nan}),
        (ValueError, "frequency=500 needs forward='sawtooth', got .*'exact'.* at 10000", {"frequency": 500}),
        (TypeError, "shape must be a function of a tensor, got 3", {"shape": 3}),
        (ValueError, "cap must be positive, got -1", {"cap": -1}),
        (ValueError, "cap needs forward='exact'.* got forward='sawtooth'", {"cap": 1, "forward": "sawtooth"}),
        (ValueError, "cap needs .* and gelu", {"cap": 1, "activation": "gelu", "shape": torch.exp}),
    ],
)
def test_bad_arguments_are_named(error, message, arguments):
    for make in (lambda **k: GAAF(**k), lambda **k: gaaf(torch.ones(2), **k)):
        with pytest.raises(error, match=message):
            make(**arguments)


def test_shapes_that_are_not_elementwise_are_named():
    x = torch.ones(2, 3, requires_grad=True)
    for shape in (torch.sum, lambda x: 1.0):
        with pytest.raises(ValueError, match=r"must be elementwise: it turned shape \(2, 3\) into"):
            gaaf(x, shape=shape).sum().backward()
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        Gaussian(0)
