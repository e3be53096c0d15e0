"""The primitive, AID and StochA: values by the papers' equations in float64, and the moments of their draws."""

import copy
import math
import pickle
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dropact import AID, DropActivation, StochA, StochasticActivation, convert_, coverage, fold_, schedules
from dropact.functional import aid, drop_activation, stocha, stochastic_activation


def aid_by_its_equation(x, m):
    return m * x.clamp(min=0) + (1 - m) * -(-x).clamp(min=0)


def stocha_by_its_figure(x, p):
    """One number at a time, in Python: ``p`` says SiLU."""
    values = [v if v >= 0 else (v / (1 + math.exp(-v)) if s else 0.0) for v, s in zip(x.tolist(), p, strict=True)]
    return torch.tensor(values, dtype=torch.float64)


def test_values_with_a_given_mask_are_those_of_the_papers():
    x = torch.randn(1000, dtype=torch.float64) * 3
    mask = torch.rand(1000) < 0.3
    assert torch.equal(aid(x, mask=mask), aid_by_its_equation(x, (~mask).double()))
    torch.testing.assert_close(stocha(x, mask=mask), stocha_by_its_figure(x, mask.tolist()), rtol=1e-14, atol=0)
    generic = stochastic_activation(x, 0.3, "tanh", torch.sin, mask=mask)
    assert torch.equal(generic, torch.where(mask, x.sin(), x.tanh()))
    for y in (aid(x[:6].view(2, 3), mask=mask[:3]), aid(x[:6].view(2, 3), mask=mask[:3].expand(2, 3))):
        assert torch.equal(y, aid_by_its_equation(x[:6].view(2, 3), (~mask[:3]).double()))


def test_gradient_with_a_given_mask_is_that_of_the_function_drawn():
    x = torch.tensor([-1.5, -1.5, 0.0, 0.0, 2.0, 2.0], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([True, False, True, False, True, False])
    (grad,) = torch.autograd.grad(aid(x, mask=mask).sum(), x)
    assert grad.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # at 0 both of its functions have ReLU's derivative, 0
    (grad,) = torch.autograd.grad(stocha(x, mask=mask).sum(), x)
    s = 1 / (1 + math.exp(1.5))
    assert grad.tolist() == pytest.approx([s - 1.5 * s * (1 - s), 0.0, 1.0, 0.0, 1.0, 1.0], rel=1e-14)


def test_evaluation_is_by_the_rule_of_each_paper():
    x = torch.randn(1000, dtype=torch.float64)
    torch.testing.assert_close(aid(x, 0.3, training=False), torch.where(x >= 0, 0.7 * x, 0.3 * x), rtol=1e-15, atol=0)
    assert torch.equal(stocha(x, 0.3, training=False), F.relu(x))


@pytest.mark.parametrize("drop_prob", [0.001, 0.3, 0.9])
@pytest.mark.parametrize("method", [aid, stocha])
def test_moments_of_the_draw_on_both_sides(method, drop_prob):
    """Mean and variance over 10**6 draws of a Bernoulli variable times a step, in closed form: |z| < 5.5."""
    n, q = 1_000_000, drop_prob
    for value in (-1.25, 0.75):
        kept, replaced = max(value, 0.0), min(value, 0.0)
        if method is stocha:
            replaced = value if value > 0 else value / (1 + math.exp(-value))
        step = replaced - kept
        y = method(torch.full((n,), value, dtype=torch.float64), q)
        if step == 0:
            assert torch.equal(y, torch.full_like(y, kept))
            continue
        share = ((y - kept) / step).mean().item()  # of those replaced
        assert abs(share - q) < 5.5 * (q * (1 - q) / n) ** 0.5
        assert torch.allclose(((y - kept) / step) * (1 - (y - kept) / step), torch.zeros(()).double(), atol=1e-12)


def test_both_sides_of_aid_are_one_draw():
    """Kept, an element passes where it is positive; replaced, where it is negative: of x and -x always one."""
    x = torch.randn(10_000)
    assert (x != 0).all()
    assert ((aid(x, 0.3, seed=5) != 0) ^ (aid(-x, 0.3, seed=5) != 0)).all()


def test_drop_activation_is_the_one_whose_replacement_is_the_identity():
    x = torch.randn(64, 33)
    for activation in ("relu", "gelu"):
        ours = stochastic_activation(x, 0.3, activation, nn.Identity(), seed=11)
        torch.testing.assert_close(ours, drop_activation(x, 0.3, activation, seed=11), rtol=2e-6, atol=1e-6)


def test_ends_of_drop_prob_are_the_two_functions():
    x = torch.randn(1000)
    assert torch.equal(aid(x, 0.0), F.relu(x))
    assert torch.equal(aid(x, 1.0), x.clamp(max=0))
    assert torch.equal(stocha(x, 0.0), F.relu(x))
    # an exponential of its own: see tests/kernels/test_pair.py
    torch.testing.assert_close(stocha(x, 1.0), torch.where(x < 0, F.silu(x), x), rtol=2e-6, atol=0)


def test_nan_is_not_swallowed():
    x = torch.full((1000,), math.nan)
    for method in (aid, stocha):
        assert method(x, 0.5).isnan().all()
        assert method(x, 0.5, training=False).isnan().all()


def test_a_functions_own_inplace_leaves_the_other_its_input():
    x = torch.tensor([-2.0, -2.0])
    y = stochastic_activation(x, 0.5, nn.ReLU(inplace=True), nn.SiLU(inplace=True), mask=torch.tensor([True, False]))
    assert y.tolist() == [F.silu(torch.tensor(-2.0)).item(), 0.0]
    assert x.tolist() == [-2.0, -2.0]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.act, self.gelu = nn.Linear(6, 20), nn.Linear(20, 3), nn.ReLU(inplace=True), nn.GELU()

    def forward(self, x):
        return self.gelu(self.two(self.act(self.one(x)))) + F.relu(self.two(self.one(x)))


@pytest.mark.parametrize("method", [AID, StochA])
def test_conversion_replaces_relus_and_is_idempotent_and_folds_to_stock(method):
    model, x = Net(), torch.randn(7, 6)
    receipt = convert_(model, method(0.2))
    assert len(receipt) == 2
    assert isinstance(model.gelu, nn.GELU)
    assert model.act.inplace
    assert coverage(model, x).complete is False  # the GELU
    assert len(convert_(model, method(0.2))) == 0
    assert len(convert_(copy.deepcopy(model), method(0.2))) == 0
    assert len(convert_(model, method(0.3))) == 2
    expected = model.eval()(x)
    fold_(model)
    assert not any(isinstance(module, StochasticActivation) for module in model.modules())
    torch.testing.assert_close(model.train()(x), expected, rtol=1e-6, atol=1e-7)


def test_another_method_takes_its_place_and_undoes():
    model = nn.Sequential(nn.Linear(2, 2), AID(0.2))
    receipt = convert_(model, DropActivation(0.05))
    assert repr(model[1]) == "DropActivation(drop_prob=0.05, activation=relu)"
    receipt.undo()
    assert convert_(model, StochA())
    assert repr(model[1]) == repr(StochA())


@pytest.mark.parametrize("layer", [AID(0.2), StochA(), StochasticActivation(0.3, "gelu", torch.tanh)])
def test_folded_needs_nothing_of_dropact(layer):
    folded, words = layer.folded(), pickle.dumps(layer.folded())
    assert b"dropact" not in words
    x = torch.randn(100, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript's own
        scripted = torch.jit.script(folded)
    for module in (folded, pickle.loads(words), scripted):
        torch.testing.assert_close(module(x), layer.eval()(x), rtol=1e-15, atol=0)


def test_a_schedule_reaches_it_and_ends_at_relu():
    model = nn.Sequential(nn.Linear(2, 50), StochA(0.5))
    schedule = schedules.anneal(model, "linear", steps=2, start=0.5, peak=0.0)
    for _ in range(2):
        schedule.step()
    assert model[1].drop_prob == 0.0
    x = torch.randn(9, 2)
    assert torch.equal(model(x), F.relu(model[0](x)))


def test_bad_arguments_are_named():
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"drop_prob must lie in \[0, 1\], got 1.5"):
        AID(1.5)
    with pytest.raises(ValueError, match="unknown activation 'rellu'"):
        StochasticActivation(0.1, "relu", "rellu")
    with pytest.raises(TypeError, match="activation must be a name or an elementwise callable, got 3"):
        StochasticActivation(0.1, "relu", "silu", evaluation=3)
    with pytest.raises(ValueError, match=r"PReLU.* has parameters, which every layer"):
        StochasticActivation(0.1, "relu", nn.PReLU())
    with pytest.raises(ValueError, match="must be elementwise"):
        stochastic_activation(x, 0.1, "relu", lambda t: t.sum())
    with pytest.raises(ValueError, match="seed and mask both given"):
        stocha(x, seed=1, mask=x > 0)
    with pytest.raises(TypeError, match="mask must be a boolean tensor"):
        aid(x, mask=x)


def overwriting(x):
    return x.relu_()


@pytest.mark.parametrize(
    "activation", [torch.relu_, overwriting, partial(F.elu, inplace=True)], ids=["torch", "own", "partial"]
)
@pytest.mark.parametrize("training", [True, False])
def test_what_overwrites_its_input_unsaid_is_refused(activation, training):
    """Source and value would be one tensor: nothing would ever be dropped."""
    for call in (
        lambda x: drop_activation(x, 0.5, activation, training=training),
        lambda x: stochastic_activation(x, 0.5, "tanh", activation, training=training),
    ):
        with pytest.raises(ValueError, match=r"wrote into its input, .* attribute inplace to True"):
            call(torch.tensor([-1.0, 2.0]))


class Overwriting(nn.Module):
    inplace = True

    def forward(self, x):
        return x.relu_()


def test_what_says_that_it_overwrites_its_input_gets_a_copy():
    x = torch.randn(64)
    before = x.clone()
    assert torch.equal(drop_activation(x, 0.5, Overwriting(), seed=3), drop_activation(x, 0.5, torch.relu, seed=3))
    assert torch.equal(x, before)
    for layer in (StochasticActivation(0.3, Overwriting(), "silu"), DropActivation(0.3, Overwriting())):
        model = nn.Sequential(layer.eval())
        expected = model(x)
        fold_(model)
        torch.testing.assert_close(model(x), expected)
        assert torch.equal(x, before)


def test_a_function_that_says_so_folds_to_the_same():
    def function(x):
        return x.relu_()

    function.inplace = True
    x = torch.randn(64)
    for layer in (StochasticActivation(0.3, function, "silu"), DropActivation(0.0, function, inplace=True)):
        model = nn.Sequential(layer.eval())
        expected = model(x.clone())
        fold_(model)
        torch.testing.assert_close(model(x.clone()), expected)


WAYS = {
    "compiled": lambda f: torch.compile(f, fullgraph=True, backend="eager"),
    "vmap": torch.func.vmap,
    "inference": lambda f: f,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("activation", [overwriting, nn.PReLU()], ids=["overwriting", "prelu"])
def test_where_no_write_can_be_seen_nothing_is_overwritten(activation, way):
    def dropping(activation):
        return WAYS[way](lambda x: drop_activation(x, 0.5, activation, seed=3))

    torch._dynamo.reset()
    slope = 0.0 if activation is overwriting else 0.25
    with torch.inference_mode(way == "inference"):
        x = torch.randn(4, 16)
        before = x.clone()
        assert torch.equal(dropping(activation)(x), dropping(lambda x: F.leaky_relu(x, slope))(x.clone()))
        assert torch.equal(x, before)


class Copies(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.clone.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("layer", "copies"),
    [(AID(0.3), 0), (StochA(0.3), 0), (DropActivation(0.3, F.gelu), 0), (DropActivation(0.3, lambda x: x.relu()), 1)],
    ids=["aid", "stocha", "torch's", "a user's"],
)
def test_where_no_write_can_be_seen_only_a_users_function_gets_a_copy(layer, copies):
    with torch.inference_mode(), Copies() as made:
        layer.eval()(torch.randn(8))
    assert made.count == copies
