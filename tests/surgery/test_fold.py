import copy
import pickle
from functools import partial

import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropact
from dropact import AID, GAAF, DropActivation, RandomizedReLU, StochA, StochasticActivation, SurrogateGradient, fold_

ACTIVATIONS = ["relu", "gelu", "silu", "tanh", "sigmoid", "elu", nn.PReLU(), nn.ELU(0.3, inplace=True), torch.sin]


def build(activation, drop_prob=0.2):
    return nn.Sequential(nn.Linear(6, 6), DropActivation(drop_prob, activation), nn.Linear(6, 6), RandomizedReLU())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda value: getattr(value, "__name__", str(value)))
@pytest.mark.parametrize("drop_prob", [0.0, 0.05, 1.0])
def test_folded_model_is_stock_and_gives_the_eval_outputs(activation, drop_prob):
    model = build(activation, drop_prob)
    x = torch.randn(50, 6)
    expected = model.eval()(x)
    receipt = fold_(model.train())
    assert len(receipt) == 2
    assert not any(type(m).__module__.startswith("dropact") for m in model.modules())
    # the same operations in the same order: within one unit in the last place
    torch.testing.assert_close(model(x), expected, rtol=torch.finfo(x.dtype).eps, atol=1e-7)
    receipt.undo()
    assert torch.equal(model.eval()(x), expected)


def test_relu_folds_to_leaky_relu_of_slope_drop_prob():
    model = build("relu")
    fold_(model)
    assert repr(model[1]) == "LeakyReLU(negative_slope=0.2)"
    assert model[3].negative_slope == 11 / 48


def test_folded_model_pickles_without_dropact():
    model = build("gelu")
    fold_(model)
    assert b"dropact" not in pickle.dumps(model)


class Beta(nn.Module):
    """Swish, whose constant is part of the checkpoints."""

    def __init__(self):
        super().__init__()
        self.register_buffer("beta", torch.full((), 1.5))

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


class Plus:
    def __init__(self, constant):
        self.constant = constant

    def __call__(self, x):
        return F.mish(x) + self.constant


class Discarding(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.linear, self.act = nn.Linear(4, 4), act

    def forward(self, x):
        h = self.linear(x)
        self.act(h)
        return h


def in_place():
    return {
        "aid": (nn.ReLU(inplace=True), AID(0.3)),
        "stocha": (nn.ReLU(inplace=True), StochA(0.3)),
        "relu": (nn.ReLU(inplace=True), DropActivation(0.3)),
        "rrelu": (nn.ReLU(inplace=True), RandomizedReLU()),
        "gaaf": (nn.ReLU(inplace=True), GAAF()),
        "surrogate": (nn.ReLU(inplace=True), SurrogateGradient()),
        "silu": (nn.SiLU(inplace=True), DropActivation(0.3)),
        "silu kept": (nn.SiLU(inplace=True), DropActivation(0.0)),
        "elu": (nn.ELU(0.3, inplace=True), DropActivation(0.3)),
        "identity": (nn.SiLU(inplace=True), DropActivation(1.0)),
        "mean": (nn.SiLU(inplace=True), StochasticActivation(0.3, "silu", "tanh")),
        "evaluation": (nn.SiLU(inplace=True), StochasticActivation(0.3, "silu", "tanh", evaluation="tanh")),
    }


@pytest.mark.parametrize("case", in_place())
def test_what_works_in_place_does_so_when_folded(case):
    act, method = in_place()[case]
    model, x = Discarding(act), torch.randn(5, 4)
    dropact.convert_(model, method)
    expected = model.eval()(x)
    fold_(model.train())
    assert not any(type(m).__module__.startswith("dropact") for m in model.modules())
    y = model(x)
    torch.testing.assert_close(y, expected)
    assert case == "identity" or not torch.equal(y, model.linear(x))
    y.sum().backward()
    assert model.linear.weight.grad is not None


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_a_function_in_place_without_a_module_of_its_kind_stays_so(name):
    model, x = Discarding(DropActivation(0.0, name, inplace=True)), torch.randn(5, 4)
    fold_(model)
    torch.testing.assert_close(model(x), getattr(torch.nn.functional, name)(model.linear(x)))


def test_what_does_not_work_in_place_does_not_when_folded():
    model, x = Discarding(DropActivation(0.0, nn.ELU(0.3, inplace=True))), torch.randn(5, 4)
    fold_(model)
    assert torch.equal(model(x), model.linear(x))


WRAPPED = {
    "drop": DropActivation,
    "stochastic": lambda p, f: StochasticActivation(p, f, "tanh"),
    "surrogate": lambda p, f: SurrogateGradient("b_silu", f),
    "gaaf": lambda p, f: GAAF(f, shape=torch.sigmoid),
}


@pytest.mark.parametrize("drop_prob", [0.0, 0.3])
@pytest.mark.parametrize(
    ("layer", "activation"),
    # the other two take no activation with parameters
    [(WRAPPED[name], nn.PReLU()) for name in ("drop", "gaaf")] + [(layer, Beta()) for layer in WRAPPED.values()],
    ids=["drop-prelu", "gaaf-prelu", *(f"{name}-buffer" for name in WRAPPED)],
)
def test_checkpoints_of_the_plain_model_load_whatever_becomes_of_it(activation, drop_prob, layer):
    plain = nn.Sequential(nn.Linear(4, 4), activation)
    model = copy.deepcopy(plain)
    inner = model[1]
    dropact.convert_(model, lambda name, act: layer(drop_prob, act))
    assert list(model.state_dict()) == list(plain.state_dict())
    x = torch.randn(5, 4)
    expected = model.eval()(x)
    fold_(model.train())
    assert list(model.state_dict()) == list(plain.state_dict())
    model.load_state_dict(plain.state_dict(), strict=True)
    torch.testing.assert_close(model(x), expected)
    assert all(any(p is q for q in model.parameters()) for p in inner.parameters())
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(twin(x), model(x))
    assert b"dropact" not in pickle.dumps(model)


def test_folding_calls_no_activation():
    class Counting(Beta):
        def forward(self, x):
            self.beta += 1
            return super().forward(x)

    model = nn.Sequential(DropActivation(0.3, Counting()))
    fold_(model)
    assert model[0].activation.beta == 1.5


@pytest.mark.parametrize(
    "activation",
    [partial(F.leaky_relu, negative_slope=0.3), Plus(0.5), lambda x: x.square()],
    ids=["partial", "object", "lambda"],
)
@pytest.mark.parametrize(
    "layer", [DropActivation, lambda p, f: StochasticActivation(p, f, f), lambda p, f: SurrogateGradient("nelu", f)]
)
def test_whatever_can_be_called_folds(activation, layer):
    torch._dynamo.reset()
    model, x = nn.Sequential(nn.Linear(4, 4), layer(0.3, activation)), torch.randn(5, 4)
    expected = model.eval()(x)
    fold_(model)
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(copy.deepcopy(model)(x), expected)
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), expected)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.act = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x, scale=1.0, *, shift=None):
        y = self.act(self.linear(x)) * scale
        return y if shift is None else y + shift


class Starred(Branch):
    def forward(self, *args):
        return super().forward(*args)


class Block(nn.Module):
    """Two branches, of which the second stands in a test."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        y = self.one(x)
        y = self.act(y)
        y += x
        if self.act is not None:
            y = y + self.act(self.two(y))
        return y


class Functional(Block):
    def forward(self, x):
        return x + self.two(F.relu(self.one(x)))


def ours(model):
    return [type(m).__name__ for m in model.modules() if type(m).__module__.startswith("dropact")]


SETTINGS = pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mode": "row", "scaling": "train"},
        {"compute": "masked", "residual_scale": 0.5},
        {"scaling": "train", "shared": 3},
    ],
    ids=["test", "train", "scaled", "shared"],
)


def folded_is_evaluation(model, *args, left=(), **kwargs):
    keys, expected = list(model.state_dict()), model.eval()(*args, **kwargs)
    flags, classes = [(m, m.training) for m in model.modules()], [type(m) for m in model.modules()]
    receipt = fold_(model)
    assert ours(model) == list(left)
    for mode in (True, False):
        torch.testing.assert_close(model.train(mode)(*args, **kwargs), expected)
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(copy.deepcopy(model)(*args, **kwargs), expected)
    torch._dynamo.reset()
    compiled = torch.compile(model.train(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*args, **kwargs), expected)
    model.eval()
    receipt.undo()
    assert [(m, m.training) for m in model.modules()] == flags
    assert [type(m) for m in model.modules()] == classes
    assert torch.equal(model(*args, **kwargs), expected)
    fold_(model)
    return receipt


@SETTINGS
@pytest.mark.parametrize("shortcut", [None, nn.Linear(4, 4)], ids=["", "projected"])
def test_stochastic_depth_folds_into_stock_modules(settings, shortcut):
    branch = nn.Sequential(Branch(), DropActivation(0.1))
    inner = dropact.StochasticDepth(branch, 0.3, shortcut=shortcut, **settings)
    nested = dropact.StochasticDepth(dropact.StochasticDepth(DropActivation(0.2), 0.5, **settings), 0.4)
    model, x = nn.Sequential(nn.Linear(4, 4), inner, nested), torch.randn(6, 4)
    receipt = folded_is_evaluation(model, x)
    assert {change.name for change in receipt} == {"1", "1.branch.1", "2"}
    assert b"dropact" not in pickle.dumps(nn.Sequential(model[1].branch[1], model[2]))


def test_arguments_of_a_branch_stay_those_of_the_block():
    model, x = nn.ModuleDict({"block": dropact.StochasticDepth(Branch(), 0.3)}), torch.randn(6, 4)
    block = model["block"].eval()
    expected = [block(x), block(x, 2.0), block(x, scale=3.0), block(x, shift=x)]
    fold_(model.train())
    block = model["block"]
    for one, other in zip([block(x), block(x, 2.0), block(x=x, scale=3.0), block(x, shift=x)], expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("alone", [True, False])
def test_a_block_that_stands_alone_or_takes_anything_is_fixed(alone):
    block = dropact.StochasticDepth(Branch() if alone else Starred(), 0.3)
    model = block if alone else nn.Sequential(block)
    receipt = folded_is_evaluation(model, torch.randn(6, 4), left=["StochasticDepth", "FixedSum"])
    assert [change.name for change in receipt] == ["sum" if alone else "0.sum"]


def test_flags_and_hooks_of_a_folded_block_stay():
    model, seen = nn.Sequential(dropact.StochasticDepth(nn.Sequential(nn.BatchNorm1d(4)), 0.3)), []
    model[0].branch[0].eval()
    model[0].register_forward_hook(lambda module, args, out: seen.append(module))
    receipt = fold_(model)
    assert model[0].training
    assert not model[0].branch[0].training
    model(torch.randn(6, 4))
    assert seen == [model[0]]
    receipt.undo()
    assert model[0].training
    assert not model[0].branch[0].training


@SETTINGS
def test_residual_sums_fold_into_the_plain_block_where_that_is_the_evaluation(settings):
    model, x = nn.Sequential(Block(), Block()), torch.randn(6, 4)
    dropact.convert_(model, DropActivation(0.1))
    dropact.add_stochastic_depth_(model, 0.7, **settings)
    plain = settings.get("scaling") == "train"
    receipt = folded_is_evaluation(model, x, left=[] if plain else ["FixedSum"] * 4)
    assert len(receipt) == 8
    assert {"0.residual", "0.residual_2"} < {change.name for change in receipt}
    assert (type(model[0]) is Block) == plain
    if plain:
        assert list(model[0]._modules) == ["one", "two", "act"]
        assert b"dropact" not in pickle.dumps(model)


@pytest.mark.parametrize("first", ["convert", "depth"])
def test_calls_of_functions_stay_edited_beside_folded_sums(first):
    model, x = nn.Sequential(Functional()), torch.randn(6, 4)
    acts = [
        lambda: dropact.convert_(model, DropActivation(0.1)),
        lambda: dropact.add_stochastic_depth_(model, 0.7, scaling="train"),
    ]
    for act in acts if first == "convert" else acts[::-1]:
        act()
    folded_is_evaluation(model, x, left=[] if first == "convert" else ["FixedSum"])
    assert repr(model[0].relu_call1) == "LeakyReLU(negative_slope=0.1)"


def test_a_bare_sum_is_refused():
    with pytest.raises(ValueError, match="itself a ResidualSum"):
        fold_(dropact.methods.ResidualSum())


def test_nothing_to_fold_gives_an_empty_receipt():
    model = nn.Sequential(nn.ReLU())
    assert len(fold_(model)) == 0
    assert isinstance(model[0], nn.ReLU)


def test_bare_layer_is_refused():
    with pytest.raises(ValueError, match="itself a DropActivation"):
        fold_(DropActivation())


@pytest.mark.parametrize("folded", [False, True])
# the exporter's own deprecations, of torch.jit and of its own arguments
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_export_in_eval_mode_agrees_with_onnx_runtime(folded, tmp_path):
    layers = [
        DropActivation(0.05),
        DropActivation(0.3, "gelu"),
        DropActivation(0.1, "tanh", "channel"),
        RandomizedReLU(),
    ]
    model = nn.Sequential(nn.Linear(6, 6), *layers).eval()
    x = torch.randn(7, 6)
    expected = model(x)
    if folded:
        dropact.fold_(model)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(str(path))
    assert not any("Random" in node.op_type for node in onnx.load(str(path)).graph.node)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), expected.detach(), rtol=1e-5, atol=1e-6)


class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x > 0)


def test_the_apply_of_an_autograd_function_is_folded():
    model = nn.Sequential(nn.Linear(3, 3), DropActivation(0.2, Clipped.apply)).eval()
    x = torch.randn(5, 3)
    expected = model(x)
    fold_(model)
    torch.testing.assert_close(model(x), expected)
