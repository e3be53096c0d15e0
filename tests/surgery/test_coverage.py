"""What coverage reports of a run, and what a conversion without and with inputs makes of it."""

import copy
import functools
import math
import random

import pytest
import torch
from nets import Functions, Plain, Reused
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from dropact import DropActivation, RandomizedReLU, convert_, coverage, fold_
from dropact.functional import drop_activation

X = torch.linspace(-2, 2, 12).view(3, 4)


def swish(x):
    return x * torch.sigmoid(x)


def gelu_new(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def linear_relu(layer, x):
    return F.relu(layer(x))


class Helpers(Plain):
    """Elementwise functions of the author's own, each of several of torch's: one site each."""

    def forward(self, x):
        return gelu_new(self.two(swish(self.one(x))))


class Lambda(Plain):
    def __init__(self):
        super().__init__()
        self.act = lambda x: torch.relu(x) * 2

    def forward(self, x):
        return self.act(self.one(x))


class Local(Plain):
    def forward(self, x):
        act = F.gelu if x.dim() > 5 else F.relu
        return act(self.one(x))


class Several(Plain):
    def forward(self, x):
        for f in (F.relu, F.gelu):
            x = f(self.one(x))
        return x


class Slopes(Plain):
    def forward(self, x):
        for slope in (0.1, 0.2):
            x = F.leaky_relu(self.one(x), slope)
        return x


class PassedOn(Plain):
    def forward(self, x):
        return checkpoint(F.relu, self.one(x), use_reentrant=False)


class Helper(Plain):
    def forward(self, x):
        return linear_relu(self.one, x)


class TensorSlope(Plain):
    def forward(self, x):
        return F.prelu(self.one(x), torch.full((1,), 0.1))


class Starred(Plain):
    def forward(self, x):
        return F.relu(*(self.one(x),))


class Children(Plain):
    def forward(self, x):
        for layer in self.children():
            x = F.relu(layer(x))
        return x


class Integers(Plain):
    def forward(self, x):
        return self.one(x) * F.relu(torch.ones(1, dtype=torch.long))


class Unused(Plain):
    def forward(self, x):
        x = self.one(x)
        F.relu(x)
        return x


class UnusedInside(Plain):
    """An assignment in the inner function would make the variable one of its own."""

    def forward(self, x):
        h = self.one(x)

        def body():
            F.relu_(h)

        body()
        return h


class OtherSelf(Plain):
    def forward(self, x):
        def body(self, x):
            return F.relu(self(x))

        return body(self.one, x)


class InsideOwn(Plain):
    """What of this kind can be converted."""

    def forward(self, x):
        h = self.one(x)

        def changed(h):
            F.relu_(h)
            return h

        def declared():
            nonlocal h
            h.relu_()

        declared()
        return self.two(changed(h)) + sum(F.relu(self) for self in ())


class Parameter(Plain):
    def forward(self, x):
        return self.one(x) * F.mish(self.one.bias) * self.two.bias.tanh()


class OfParameters(Plain):
    """Expressions of parameters and modules in between."""

    def __init__(self):
        super().__init__()
        self.rho, self.plus, self.eps = nn.Parameter(torch.zeros(4)), nn.Mish(), 1e-3

    def forward(self, x):
        scale = F.mish(self.rho.float()) + self.plus(self.rho * 2 + self.eps)
        return self.one(x) * scale * self.plus(input=-self.rho).sqrt() * F.elu(torch.exp(self.two.bias[:4]))


class OfParametersAsWell(OfParameters):
    def forward(self, x):
        return self.plus(self.rho.float()) * self.plus(self.one(x))


class Parametrized(Plain):
    def __init__(self):
        super().__init__()
        parametrize.register_parametrization(self.one, "weight", nn.Mish())
        parametrize.register_parametrization(self.one, "weight", Exponential())

    def forward(self, x):
        return self.one(x) * F.mish(self.one.weight[0])


class Exponential(nn.Module):
    def forward(self, x):
        return F.relu(x.float()).exp()


class Stateful(Plain):
    def forward(self, x):
        self.state = self.one(x)
        return F.relu(self.state) + F.relu(self.two(self.two.bias))


class Gates(Plain):
    def forward(self, x):
        return self.one(x) * torch.sigmoid(self.two(x)) * F.hardsigmoid(x)


class Ours(Plain):
    def forward(self, x):
        return drop_activation(self.one(x), activation="gelu", training=self.training)


class Listed(Plain):
    """The modules that it runs through stand in plain containers as well."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.steps = [self.one, (self.act, {"last": self.two})]

    def forward(self, x):
        one, (act, rest) = self.steps
        return rest["last"](act(one(x)))


def checked(function):
    """As type checkers decorate: what runs is made by exec and holds the function as a default."""
    scope = {"function": function}
    exec("def run(*args, __function=function, **kwargs): return __function(*args, **kwargs)", scope)
    run = scope["run"]

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        assert callable(function)
        return run(*args, **kwargs)

    return wrapped


def registered(function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        assert callable(function)
        return REGISTERED[function.__qualname__](*args, **kwargs)

    REGISTERED[function.__qualname__] = function
    return wrapped


REGISTERED = {}


class Checked(Plain):
    @checked
    def forward(self, x):
        return self.two(F.relu(self.one(x)))


class Registered(Plain):
    @registered
    def forward(self, x):
        return self.two(F.relu(self.one(x)))


FOUND_BY_A_RUN = {Helpers: ["swish_call1", "gelu_new_call1"], Lambda: ["function_call1"], Local: ["relu_call1"]}
MISSED = {
    Several: "the same expression is ReLU() and GELU(approximate='none')",
    Slopes: "the same expression is LeakyReLU(negative_slope=0.1) and LeakyReLU(negative_slope=0.2)",
    PassedOn: "checkpoint() calls it: write the call out here, or make it a module",
    Helper: r"no method of a module, and linear_relu() as a whole is no elementwise function",
    TensorSlope: "its slope is a tensor: use nn.PReLU",
    Starred: "it is called with *args or **kwargs",
    Children: "Children runs through its own children",
    Integers: "it is applied to a tensor of torch.int64",
    Unused: "its result is not used",
    UnusedInside: "its result is not used, and h is not a variable of the function that it stands in",
    OtherSelf: "it stands in a function inside the method in which self is something else",
}


@pytest.mark.parametrize("cls", FOUND_BY_A_RUN, ids=lambda cls: cls.__name__)
def test_a_run_finds_what_the_source_does_not_tell(cls):
    torch.manual_seed(0)
    model = cls()
    expected = model(X)
    seen = coverage(model, X)
    assert [(s.name, s.calls, s.status) for s in seen] == [(n, 1, "convertible") for n in FOUND_BY_A_RUN[cls]]
    with pytest.raises(ValueError, match=r"no activation was converted.*give inputs"):
        convert_(model, DropActivation(0.0))
    receipt = convert_(model, DropActivation(0.0), inputs=X)
    assert [c.name for c in receipt] == FOUND_BY_A_RUN[cls]
    assert torch.equal(model(X), expected)
    assert coverage(model, X).complete
    receipt.undo()
    convert_(model, DropActivation(1.0), inputs=X)
    x, y = torch.randn(2, 3, 4)
    torch.testing.assert_close(model((x + y) / 2), (model(x) + model(y)) / 2)


@pytest.mark.parametrize("cls", MISSED, ids=lambda cls: cls.__name__)
def test_what_cannot_be_converted_is_missed_with_a_reason(cls):
    model = nn.Sequential(cls(), nn.ReLU())
    expected = model(X)
    missed = coverage(model, X).having("missed")
    assert len(missed) == 1
    assert MISSED[cls] in missed[0].reason
    assert missed[0].location.startswith("test_coverage.py:")
    with pytest.warns(UserWarning, match="1 activation could not be converted, the first of them 0"):
        receipt = convert_(model, DropActivation(0.0), inputs=X)
    assert [c.name for c in receipt] == ["1"]
    assert [s.reason for s in receipt.skipped if s.missed] == [missed[0].reason]
    seen = coverage(model, X)
    assert not seen.complete
    assert str(seen).startswith("1 of 2 call sites converted, 1 missed")
    assert torch.equal(model(X), expected)


@pytest.mark.parametrize("inputs", [None, X], ids=["by source", "by a run"])
def test_statements_in_inner_functions_are_converted_where_they_can_be(inputs):
    model = InsideOwn()
    with pytest.warns(UserWarning, match="1 activation could not be converted.*self is something else"):
        receipt = convert_(model, DropActivation(1.0), inputs=inputs)
    assert len(receipt) == 2
    torch.testing.assert_close(model(X), model.two(model.one(X)))


@pytest.mark.parametrize(
    "cls", [Several, PassedOn, Helper, TensorSlope, Starred, Children, Local, Helpers, UnusedInside]
)
def test_without_inputs_the_doubt_is_told(cls):
    model = nn.Sequential(cls(), nn.ReLU())
    with pytest.warns(UserWarning, match="could not be converted"):
        receipt = convert_(model, DropActivation(0.1))
    assert all(s.name.startswith("0") and s.missed for s in receipt.skipped)


@pytest.mark.parametrize("inputs", [None, X], ids=["by source", "by a run"])
def test_plain_containers_get_the_layer_too(inputs):
    model = Listed()
    before = model.steps, *model.steps, model.steps[1][1]
    receipt = convert_(model, DropActivation(1.0), inputs=inputs)
    assert [change.name for change in receipt] == ["act"]
    torch.testing.assert_close(model(X), model.two(model.one(X)))
    assert coverage(model, X).complete
    fold_(model).undo()
    receipt.undo()
    after = model.steps, *model.steps, model.steps[1][1]
    assert all(one is other for one, other in zip(before, after, strict=True))
    convert_(model, DropActivation(1.0), inputs=inputs)
    fold_(model)
    assert coverage(model, X).having("converted") == ()
    assert model.steps[1][0] is model.act


def test_a_decorator_that_keeps_the_function_is_named():
    model = nn.Sequential(Checked(), nn.ReLU())
    with pytest.warns(
        UserWarning, match=r"first of them 0.relu_call1 .*a decorator of Checked.forward keeps the function"
    ):
        receipt = convert_(model, DropActivation(0.1))
    assert [change.name for change in receipt] == ["1"]


@pytest.mark.parametrize("cls", [Checked, Registered])
def test_a_layer_that_the_run_does_not_reach_is_not_called_converted(cls):
    model = nn.Sequential(cls(), nn.ReLU())
    expected = model(X)
    with pytest.warns(UserWarning, match="1 activation could not be converted, the first of them 0.relu_call1"):
        receipt = convert_(model, DropActivation(0.0), inputs=X)
    assert [change.name for change in receipt] == ["1"]
    assert type(model[0]) is cls
    assert torch.equal(model(X), expected)
    with pytest.raises(ValueError, match=r"no activation was converted.*relu_call1"):
        convert_(cls(), DropActivation(0.0), inputs=X)


def test_what_is_no_activation_is_not_listed():
    for cls in (Parameter, OfParameters, Parametrized, Ours):
        for mode in (True, False):
            assert len(coverage(cls().train(mode), X)) == 0


@pytest.mark.parametrize("inputs", [None, X], ids=["by source", "by a run"])
@pytest.mark.parametrize("cls", [Parameter, OfParameters, Parametrized], ids=lambda cls: cls.__name__)
def test_weights_stay_what_they_are(cls, inputs):
    torch.manual_seed(0)
    model = nn.Sequential(cls(), nn.ReLU())
    expected = model(X)
    receipt = convert_(model, DropActivation(1.0), inputs=inputs)
    assert [change.name for change in receipt] == ["1"]
    assert not receipt.skipped
    assert torch.equal(F.relu(model(X)), expected)


@pytest.mark.parametrize("split_shared", [True, False])
@pytest.mark.parametrize("inputs", [None, X], ids=["by source", "by a run"])
def test_a_module_that_is_applied_to_parameters_as_well_stays_there(inputs, split_shared):
    model = OfParametersAsWell()
    receipt = convert_(model, DropActivation(1.0), inputs=inputs, split_shared=split_shared)
    assert [change.name for change in receipt] == ["plus"]
    assert [(skip.name, skip.reason) for skip in receipt.skipped] == [("plus_call2", "it is applied to parameters")]
    assert torch.equal(model(X), F.mish(model.rho) * model.one(X))
    assert coverage(model, X).complete
    assert len(convert_(model, DropActivation(1.0), inputs=inputs)) == 0
    receipt.undo()
    assert torch.equal(model(X), F.mish(model.rho) * F.mish(model.one(X)))


@pytest.mark.parametrize("ran", [False, True])
def test_what_a_module_keeps_of_a_pass_is_no_parameter(ran):
    model = Stateful()
    if ran:
        model(X)
    assert len(convert_(model, DropActivation(0.1))) == 2


def test_gates_are_left_unless_asked_for():
    model = nn.Sequential(Gates(), nn.Sigmoid(), nn.Hardsigmoid(), nn.ReLU())
    names = {"0.sigmoid_call1", "0.hardsigmoid_call1", "1", "2"}
    seen = coverage(model, X)
    assert {s.name for s in seen.having("gate")} == names
    receipt = convert_(model, DropActivation(0.1))
    assert {s.name for s in receipt.skipped} == names
    assert {s.reason for s in receipt.skipped} == {"a gate: gates=True converts it"}
    seen = coverage(model, X)
    assert seen.complete
    assert str(seen).splitlines()[0] == "1 of 1 call sites converted, 4 gates"
    assert {c.name for c in convert_(model, DropActivation(0.1), gates=True)} == names


def test_order_calls_and_places_of_a_shared_block():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.block = nn.ReLU(), Functions()
            self.never = nn.Tanh()

        def forward(self, x):
            return self.late(self.block(self.block(x)))

    seen = coverage(Net(), X)
    assert [(s.name, s.calls) for s in seen] == [
        ("block.relu_call1", 2),
        ("block.relu_call2", 2),
        ("late", 1),
        ("never", 0),
    ]
    assert str(seen).splitlines()[0] == "0 of 3 call sites converted, 3 convertible, 1 not called"
    assert not seen.complete


def test_one_module_in_two_places_of_a_container():
    act = nn.ReLU()
    seen = coverage(nn.Sequential(act, nn.Linear(4, 4), act), X)
    assert [(s.name, s.calls) for s in seen] == [("0", 1), ("2", 1)]


def test_a_module_called_from_three_places_is_three_sites_also_through_forward():
    model = Reused()
    assert [(s.name, s.calls) for s in coverage(model, X)] == [("act", 1), ("act_call2", 1), ("act_call3", 1)]
    convert_(model, DropActivation(0.1), split_shared=False)
    assert [s.status for s in coverage(model, X)] == ["converted"] * 3


def test_hooks_and_patched_forwards_are_seen():
    model = nn.Sequential(nn.Linear(4, 4))
    handle = model[0].register_forward_hook(lambda module, args, out: F.relu(out))
    (site,) = coverage(model, X)
    assert "no method of a module" in site.reason
    handle.remove()
    model[0].forward = lambda x: F.relu(x)
    (site,) = coverage(model, X)
    assert site.status == "missed"
    model = nn.Sequential(Functions())
    model[0].forward = model[0].forward
    assert {s.reason for s in coverage(model, X)} == {"the forward of this Functions was patched on the instance"}


def test_an_exported_program_is_not_called_complete():
    model = torch.export.export(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LogSigmoid()), (X,)).module()
    seen = coverage(model, X)
    assert not seen.complete
    assert [site.status for site in seen] == ["missed", "missed"]
    assert "convert before tracing" in seen.sites[0].reason
    with pytest.raises(ValueError, match=r"no activation was converted.*convert before tracing"):
        convert_(model, DropActivation(0.1))


def test_misses_that_are_accepted_by_name():
    model = nn.Sequential(Functions(), PassedOn(), PassedOn())
    with pytest.warns(UserWarning, match="2 activations"):
        convert_(model, DropActivation(0.1))
    seen = coverage(model, X)
    assert not seen.complete
    assert not seen.without("1.*").complete
    assert seen.without("1.relu_call1", "2.*").complete
    assert len(seen.without("*.relu_call1")) == len(seen) - 3
    with pytest.raises(
        ValueError, match=r"'3\.\*' matches no site; there are 0.relu_call1, 0.relu_call2, 1.relu_call1"
    ):
        seen.without("1.*", "3.*")


def test_graph_modules_and_random_activations_are_missed():
    seen = coverage(torch.fx.symbolic_trace(Functions()), X)
    assert {s.status for s in seen} == {"missed"}
    assert len(seen) == 2
    (site,) = coverage(nn.Sequential(nn.RReLU()), X)
    assert site.reason == "it is random itself: use dropact.RandomizedReLU"


def test_a_class_without_source_says_so():
    scope = {}
    exec(  # as in `python -c`
        "import torch.nn.functional as F\nfrom nets import Plain\n"
        "class Typed(Plain):\n    def forward(self, x):\n        return F.relu(self.one(x))\n",
        scope,
    )
    (site,) = coverage(scope["Typed"](), X)
    assert "is not at hand" in site.reason


def test_a_run_leaves_no_trace():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.drop, self.act = nn.BatchNorm1d(4), nn.Dropout(), nn.ReLU(inplace=True)
            self.register_buffer("counter", torch.zeros(()))

        def forward(self, x):
            self.counter = self.counter + random.random()
            return self.act(x) + self.norm(self.drop(x))

    model, x = Noisy(), torch.randn(5, 4)
    counter, given = model.counter, x.clone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, python = torch.get_rng_state(), random.getstate()
    coverage(model, x)
    convert_(model, DropActivation(0.1), inputs=(x,))
    assert torch.equal(x, given)
    assert model.counter is counter
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python
    assert not any("forward" in vars(m) for m in model.modules())
    assert model.training
    assert all(p.grad is None for p in model.parameters())


class FirstRun(nn.Module):
    """What a first run sets, in every place where one may be: as ActNorm, observers and lazy caches do."""

    def __init__(self):
        super().__init__()
        self.scale, self.moved = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(2))
        self.inner, self.initialised, self.cache = nn.Identity(), False, []
        self.register_buffer("adjacency", torch.eye(4).to_sparse())
        self.register_buffer("minimum", torch.tensor([]))
        self.register_buffer("positions", None)

    def forward(self, x):
        if not self.initialised:
            self.scale.data.copy_(1 / x.std(0))
            self.moved.data = torch.zeros(3)
            self.initialised, self.more = True, 1
            self.minimum.resize_(4).copy_(x.amin(0))
            self.positions = torch.arange(4)
            self.cache.append(x)
            self.adjacency.mul_(2)
            self.added = nn.Linear(4, 4)
            self.inner.register_forward_hook(lambda module, args, output: output + 1)
        return F.relu(self.inner(torch.sparse.mm(self.adjacency, (x * self.scale).T).T))


def test_a_first_run_is_still_the_first():
    model, x = FirstRun(), torch.randn(5, 4)
    twin, held = copy.deepcopy(model), dict(vars(model))
    scale, memory, minimum = model.scale, model.scale.data_ptr(), model.minimum
    assert coverage(model, x).having("convertible")
    convert_(model, DropActivation(0.0), inputs=x)
    assert vars(model).keys() == held.keys()
    assert list(model._modules) == ["inner", "relu_call1"]
    assert (model.initialised, model.cache, model.positions, len(model.inner._forward_hooks)) == (False, [], None, 0)
    assert model.scale is scale
    assert scale.data_ptr() == memory
    assert torch.equal(scale, torch.ones(4))
    assert model.minimum is minimum
    assert (minimum.shape, model.moved.shape) == ((0,), (2,))
    assert torch.equal(model.adjacency.to_dense(), torch.eye(4))
    assert torch.equal(model(x), twin(x))
    assert torch.equal(model(x), twin(x))


def test_a_failing_run_leaves_no_trace_either():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(3, 3))
    mean = model[0].running_mean.clone()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        convert_(model, DropActivation(0.1), inputs=X)
    assert isinstance(model[1], nn.ReLU)
    assert "forward" not in vars(model[1])
    assert torch.equal(model[0].running_mean, mean)


def test_inputs_by_position_and_by_name():
    class Two(nn.Module):
        def forward(self, x, scale):
            return F.relu(x) * scale

    for inputs in ((X, 2), {"x": X, "scale": 2}):
        assert len(convert_(Two(), DropActivation(0.1), inputs=inputs)) == 1
    assert len(coverage(Two(), X, scale=2)) == 1
    with pytest.raises(TypeError, match=r"inputs must be a tensor, a tuple .* got list"):
        convert_(Two(), DropActivation(0.1), inputs=[X])
    with pytest.raises(ValueError, match="run it once before"):
        coverage(nn.Sequential(nn.LazyLinear(3), nn.ReLU()), X)


def test_another_method_takes_what_it_can():
    model = nn.Sequential(Functions(), nn.GELU())
    receipt = convert_(model, RandomizedReLU())
    assert [c.name for c in receipt] == ["0.relu_call1", "0.relu_call2"]
    assert receipt.skipped[0].reason == "the method does not replace this activation"
    assert not receipt.skipped[0].missed


def test_buffers_that_are_views_of_one_number_are_left_and_those_after_them_put_back():
    class Normalise(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor(0.5).expand(3))

        def forward(self, x):
            return x - self.mean

    model = nn.Sequential(Normalise(), nn.BatchNorm1d(3), nn.ReLU())
    mean = model[1].running_mean.clone()
    coverage(model, torch.randn(8, 3))
    assert torch.equal(model[1].running_mean, mean)
    assert model[0].mean.stride() == (0,)
