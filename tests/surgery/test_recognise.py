"""What is an activation, and what is refused as a whole."""

import importlib

import nets
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dropact import DropActivation, add_stochastic_depth_, convert_, coverage, fold_
from dropact._activations import ELEMENTWISE_MODULES
from dropact.surgery._recognise import FUNCTIONS, kind_of, stock_module

X = torch.linspace(-4, 4, 24).view(2, 3, 4)


class Swish(nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


class Counting(nn.Module):
    """It must not count the trial."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return x.clamp(min=0).square()


class PerChannel(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.rand(3))

    def forward(self, x):
        return torch.where(x > 0, x, self.slope * x)


class Sorted(nn.Module):
    def forward(self, x):
        return x.sort(-1).values


class Affine(nn.Module):
    def forward(self, x):
        return 2 * x - 1


class SquashToOne(nn.Module):
    def forward(self, x):
        return 0.5 * (1 + torch.tanh(x / 2))


class EluPlusOne(nn.Module):
    """As linear attention has it: what divides by it relies on its being above 0."""

    def forward(self, x):
        return F.elu(x) + 1


class DropPath(nn.Module):
    def forward(self, x):
        return x.relu() * torch.rand(()).round() * 2


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (Swish(), "activation"),
        (Counting(), "activation"),
        (SquashToOne(), "gate"),
        (nn.Sigmoid(), "gate"),
        (nn.Softplus(), "gate"),
        (EluPlusOne(), "gate"),
        (nn.PReLU(5), "activation"),
        (PerChannel(), None),
        (Sorted(), None),
        (Affine(), None),
        (DropPath(), None),
        (nn.Softmax(-1), None),
        (nn.Identity(), None),
        (nn.Dropout(), None),
        (nn.Flatten(), None),
        (nn.BatchNorm1d(3), None),
        (nn.CrossEntropyLoss(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value,
)
def test_classes_are_recognised_by_what_they_do(module, kind):
    state = torch.get_rng_state()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert kind_of(module) == kind
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


class Shapeless(nn.Module):
    """A slope for each channel, of which it learns the number when it runs."""

    def __init__(self):
        super().__init__()
        self.slope = nn.UninitializedParameter()

    def forward(self, x):
        return torch.where(x > 0, x, self.slope * x)


def test_what_has_no_shape_yet_is_to_be_run_before():
    model = nn.Sequential(nn.Linear(3, 3), Shapeless(), nn.ReLU())
    for act in (lambda: convert_(model, DropActivation(0.1)), lambda: coverage(model, X)):
        with pytest.raises(ValueError, match="parameters without a shape yet: run it once before"):
            act()
    assert isinstance(model[2], nn.ReLU)
    for shapeless in (Shapeless(), nn.LazyConv2d(3, 1)):
        with pytest.raises(ValueError, match="parameters without a shape yet: run it once before"):
            add_stochastic_depth_(nn.Sequential(nn.Linear(3, 3), shapeless))
    assert len(convert_(nn.Sequential(nn.LazyLinear(3), nn.ReLU()), DropActivation(0.1))) == 1


def test_a_default_device_without_values_is_no_hindrance():
    class Shifted(nn.Module):
        def forward(self, x):
            return x.clamp(min=0).square() - torch.ones(())

    class DropPath(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = 0.1

        def forward(self, x):
            return x * (torch.rand(len(x), 1, 1, 1) >= self.rate) if self.training else x

    with torch.device("meta"):
        assert kind_of(Shifted()) == "activation"
        model = nn.Sequential(nn.Linear(3, 3), DropPath())
        receipt = add_stochastic_depth_(model, 0.75)
    assert model[1].rate == 0.25
    assert [change.name for change in receipt] == ["1"]


def test_activations_of_other_libraries_are_recognised():
    transformers = pytest.importorskip("transformers.activations")
    gates, others = {"sigmoid", "laplace", "sqrtsoftplus"}, {"linear"}
    for name in transformers.ACT2CLS:
        expected = "gate" if name in gates else None if name in others else "activation"
        assert kind_of(transformers.ACT2FN[name]) == expected, name


@pytest.mark.parametrize("module_name", ["timm.layers.activations"])
def test_activations_of_timm_are_recognised(module_name):
    module = pytest.importorskip(module_name)
    classes = {n: c for n, c in vars(module).items() if isinstance(c, type) and c.__module__ == module_name}
    assert len(classes) > 8
    kinds = {name: kind_of(cls()) for name, cls in classes.items()}
    assert {name for name, kind in kinds.items() if kind != "activation"} == {"Sigmoid", "HardSigmoid"}
    assert set(kinds.values()) == {"activation", "gate"}


def test_every_function_of_torch_is_what_its_module_does():
    """Each function against the stock module that is put in its place, with default arguments."""
    arguments = {nn.Threshold: (0.1, 0.5)}
    for function, (cls, inplace) in FUNCTIONS.items():
        args = arguments.get(cls, ())
        x = X.clone()
        y = function(x, *args)
        layer = stock_module(function, args, {})
        assert torch.equal(layer(X.clone()), y), function
        assert layer.inplace if inplace else not getattr(layer, "inplace", False), function
        assert torch.equal(x, y) == (inplace or torch.equal(X, y)), function
    assert {cls for cls, _ in FUNCTIONS.values()} == set(ELEMENTWISE_MODULES) - {nn.PReLU}
    for function in (torch.relu, torch.relu_, F.relu_, torch.Tensor.relu_, torch.selu, torch.celu_, F.softplus):
        assert function in FUNCTIONS


def wrappers():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    yield "a TorchScript module", torch.jit.trace(net, torch.randn(1, 3))
    yield "compiled by torch.compile", torch.compile(nn.Sequential(nn.ReLU()))
    yield "wrapped for data-parallel training", nn.DataParallel(nn.Sequential(nn.ReLU()))
    compiled = nn.Sequential(nn.ReLU())
    compiled.compile()
    yield r"compiled by its compile\(\)", compiled


@pytest.mark.parametrize("inside", [False, True])
def test_wrapped_models_are_refused_before_anything_is_touched(inside):
    for state, model in wrappers():
        whole = nn.Sequential(nn.ReLU(), model) if inside else model
        before = list(whole.modules())
        name = "'1', a " if inside else "the "
        for what, act in (
            ("convert_", lambda m: convert_(m, DropActivation(0.1))),
            ("coverage", lambda m: coverage(m, X)),
            ("fold_", fold_),
        ):
            with pytest.raises(TypeError, match=f"{what} needs a plain model, but {name}.* {state}"):
                act(whole)
        assert [id(m) for m in whole.modules()] == [id(m) for m in before]


def test_distributed_wrappers_are_refused(tmp_path):
    distributed = pytest.importorskip("torch.distributed")
    store = f"file://{tmp_path}/store"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        model = nn.Sequential(nets.Functions(), nets.Reused())
        with pytest.raises(TypeError, match="DistributedDataParallel is wrapped for data-parallel"):
            convert_(nn.parallel.DistributedDataParallel(model), DropActivation(0.1))
        convert_(model, DropActivation(0.1))
        wrapped = nn.parallel.DistributedDataParallel(model)  # in this order it works
        wrapped(torch.randn(2, 4)).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        fsdp = importlib.import_module("torch.distributed.fsdp")
        sharded = fsdp.fully_shard(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), mesh=_mesh())
        with pytest.raises(TypeError, match="is wrapped for distributed training"):
            convert_(sharded, DropActivation(0.1))
    finally:
        distributed.destroy_process_group()


def _mesh():
    return importlib.import_module("torch.distributed.device_mesh").init_device_mesh("cpu", (1,))


def test_what_is_no_module_is_named():
    with pytest.raises(TypeError, match=r"convert_ needs an nn\.Module, got function"):
        convert_(F.relu, DropActivation(0.1))


class Affine(nn.Module):
    """Of timm's HGNetV2: one scale and one shift."""

    def __init__(self):
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1) * 1.3), nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.scale * x + self.bias


class Times255(nn.Module):
    def forward(self, x):
        return x * 255


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_does_not_bend_a_line(dtype):
    assert kind_of(Affine().to(dtype)) is None
    assert kind_of(Times255().to(dtype)) is None
    assert kind_of(nn.Sequential(nn.PReLU())[0].to(dtype)) == "activation"


class Overwriting(nn.Module):
    """Works in place, and does not say so."""

    def forward(self, x):
        return x.clamp_(min=0).square_()


def overwriting(x):
    return x.mul_(torch.sigmoid(x))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.act = nn.Linear(4, 4), Overwriting()

    def forward(self, x):
        return self.act(self.linear(overwriting(self.act(self.linear(x)))))


def test_what_works_in_place_unsaid_is_missed_until_it_says_so(monkeypatch):
    model, x = Twice(), torch.randn(3, 4)
    names = {"act", "act_call2", "overwriting_call1"}
    assert {site.name: site.status for site in coverage(model, x)} == dict.fromkeys(names, "missed")
    with pytest.raises(ValueError, match="act: it writes into its input and does not say so: set"):
        convert_(model, DropActivation(0.3), inputs=x)
    model.act.inplace = True
    monkeypatch.setattr(overwriting, "inplace", True, raising=False)
    receipt = convert_(model, DropActivation(1.0), inputs=x)
    assert {change.name for change in receipt} == names
    assert torch.equal(model(x), model.linear(model.linear(x)))  # every nonlinearity dropped
    receipt.undo()
    convert_(model, DropActivation(0.3), inputs=x)
    expected = model.eval()(x)
    fold_(model)
    torch.testing.assert_close(model(x), expected)


class StateSpace(nn.Module):
    """A step size above 0, as of Mamba's kind."""

    def __init__(self):
        super().__init__()
        self.step, self.activation = nn.Linear(4, 4), nn.SiLU()

    def forward(self, x):
        return self.activation(x) * F.softplus(self.step(x)).log()


@pytest.mark.parametrize("given", [False, True])
def test_what_must_stay_positive_is_left_unless_asked_for(given):
    model, x = StateSpace(), torch.randn(64, 4)
    options = {"inputs": x} if given else {}
    receipt = convert_(model, DropActivation(0.5), **options)
    assert [change.name for change in receipt] == ["activation"]
    assert model(x).isfinite().all()
    receipt.undo()
    assert len(convert_(model, DropActivation(0.5), gates=True, **options)) == 2
