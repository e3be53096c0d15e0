"""Layers in the hands of others: traced by torch.fx, given nested tensors, a leaf to overwrite, or none of these."""

import copy
import pickle

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from dropact import (
    AID,
    GAAF,
    DropActivation,
    RandomizedReLU,
    StochA,
    StochasticActivation,
    StochasticDepth,
    SurrogateGradient,
    add_stochastic_depth_,
    convert_,
    fold_,
)

LAYERS = {
    "drop_activation": lambda: DropActivation(0.3),
    "drop_activation-gelu": lambda: DropActivation(0.3, "gelu"),
    "randomized_relu": RandomizedReLU,
    "gaaf": GAAF,
    "aid": lambda: AID(0.3),
    "stocha": lambda: StochA(0.3),
    "stochastic_activation": lambda: StochasticActivation(0.3, "relu", "silu"),
    "surrogate_gradient": lambda: SurrogateGradient("nelu"),
}
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:is_fx_tracing")


def drawn(call):
    torch.manual_seed(3)
    return call()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_a_leaf_to_a_tracer_and_keeps_its_mode(name):
    model, x = nn.Sequential(nn.Linear(4, 4), LAYERS[name]()), torch.randn(6, 4)
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0", "1"]
    for training in (True, False):
        model.train(training)
        traced.train(training)
        assert torch.equal(drawn(lambda: traced(x)), drawn(lambda: model(x)))


def test_residual_branches_can_be_traced_too():
    model = torchvision.models.resnet18(num_classes=10)
    add_stochastic_depth_(model, 0.5)
    block, x = nn.Sequential(StochasticDepth(nn.Linear(4, 4), 0.5)), torch.randn(6, 4)
    image = torch.randn(2, 3, 32, 32)
    for each, given in ((model.eval(), image), (block.eval(), x)):
        traced = torch.fx.symbolic_trace(each)
        torch.testing.assert_close(traced(given), each(given))
    traced = torch.fx.symbolic_trace(block).train()
    outcomes = {torch.equal(traced(x), x) for _ in range(40)}
    assert outcomes == {True, False}  # missed with a chance of 2 ** -39


@pytest.mark.parametrize("depth", [False, True])
def test_torchvision_extracts_features_of_a_converted_network(depth):
    model = torchvision.models.resnet50(num_classes=10)
    convert_(model, DropActivation(0.1))
    if depth:
        add_stochastic_depth_(model, 0.8)
    x = torch.randn(2, 3, 64, 64)
    extractor = create_feature_extractor(model, ["layer2", "layer4"]).eval()
    seen = {}
    for name in ("layer2", "layer4"):
        model.get_submodule(name).register_forward_hook(lambda module, given, y, name=name: seen.update({name: y}))
    model.eval()(x)
    for name, y in extractor(x).items():
        torch.testing.assert_close(y, seen[name])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_converted_network_is_prepared_for_quantisation():
    quantize = pytest.importorskip("torch.ao.quantization.quantize_fx")
    from torch.ao.quantization import get_default_qat_qconfig_mapping

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).train()
    convert_(model, DropActivation(0.1))
    x = torch.randn(2, 3, 16, 16)
    prepared = quantize.prepare_qat_fx(model, get_default_qat_qconfig_mapping("x86"), (x,))
    prepared(x).sum().backward()
    assert any(isinstance(module, DropActivation) for module in prepared.modules())


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.parametrize("name", LAYERS)
def test_a_nested_tensor_goes_through_as_through_relu(name, layout):
    parts = [torch.randn(n, 4, requires_grad=True) for n in (3, 5, 1)]
    layer = LAYERS[name]().eval()
    y = layer(torch.nested.as_nested_tensor(parts, layout=layout))
    assert y.layout == layout
    for part, came in zip(parts, y.unbind(), strict=True):
        torch.testing.assert_close(came, layer(part))
    torch.nested.to_padded_tensor(y, 0.0).sum().backward()
    expected = torch.autograd.grad(sum(layer(part).sum() for part in parts), parts)
    for part, grad in zip(parts, expected, strict=True):
        torch.testing.assert_close(part.grad, grad)


def test_a_nested_tensor_is_masked_as_the_memory_of_its_values():
    parts = [-torch.ones(n, 4) for n in (30, 50)]
    layer = DropActivation(0.3)
    expected = drawn(lambda: layer(torch.cat(parts)))
    for layout in (torch.strided, torch.jagged):
        y = drawn(lambda: layer(torch.nested.as_nested_tensor(parts, layout=layout)))  # noqa: B023
        assert torch.equal(torch.cat(y.unbind()), expected)
    x = torch.nested.as_nested_tensor(parts, layout=torch.jagged)
    assert (x + layer(x)).shape == x.shape


def test_channels_of_a_nested_tensor_are_refused():
    x = torch.nested.as_nested_tensor([torch.randn(2, 3)], layout=torch.jagged)
    with pytest.raises(TypeError, match="granularity='channel' needs a dense tensor, got a nested one"):
        DropActivation(0.3, granularity="channel")(x)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("method", ["convert", "depth", "fold"])
def test_an_encoder_in_evaluation_is_its_own_slow_path_whatever_it_is_masked_by(method, padding, masked):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential()
    model.encoder = nn.TransformerEncoder(layer, 2)
    slow = copy.deepcopy(model.encoder)
    for each in slow.layers:
        each.activation = nn.LeakyReLU(0.3)
        each.activation_relu_or_gelu = 0
    slow.use_nested_tensor = False
    x = torch.randn(3, 5, 8)
    options = {}
    if padding:
        options["src_key_padding_mask"] = torch.arange(5) >= torch.tensor([5, 3, 4])[:, None]
    if masked:
        options["mask"] = nn.Transformer.generate_square_subsequent_mask(5)
        if padding:
            options["src_key_padding_mask"] = torch.zeros(3, 5).masked_fill(options["src_key_padding_mask"], -torch.inf)
    receipts = []
    if method == "depth":
        receipts.append(add_stochastic_depth_(model, 1.0))
        for each in slow.layers:
            each.activation = nn.ReLU()
    else:
        receipts.append(convert_(model, DropActivation(0.3)))
    if method == "fold":
        receipts.append(fold_(model))
    seen = ~options["src_key_padding_mask"] if padding and not masked else torch.ones(3, 5, dtype=torch.bool)
    with torch.no_grad():
        y = model.encoder.eval()(x, **options)
        expected = slow.eval()(x, **options)
    torch.testing.assert_close(y[seen], expected[seen])
    for receipt in reversed(receipts):
        receipt.undo()
    assert model.encoder.use_nested_tensor is True


@pytest.mark.parametrize("make", [lambda: DropActivation(0.0, inplace=True), lambda: AID(0.5, inplace=True)])
def test_a_leaf_that_may_not_be_overwritten_stays_as_it_is(make):
    leaf = torch.tensor([-1.0, 2.0], requires_grad=True)
    for layer in (make(), RandomizedReLU(inplace=True)):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            layer(leaf)
        assert leaf.tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("make", [lambda: DropActivation(0.5, inplace=True), lambda: AID(0.5, inplace=True)])
def test_what_is_overwritten_comes_back_as_itself(make):
    for layer in (make(), RandomizedReLU(inplace=True)):
        leaf = torch.randn(8, requires_grad=True)
        with torch.no_grad():
            assert layer(leaf) is leaf
        inner = leaf * 1.0
        assert layer(inner) is inner


@pytest.mark.parametrize("make", [lambda: AID(0.2), lambda: StochA(0.2)])
def test_presets_are_classes(make):
    layer = make()
    assert isinstance(layer, type(make()))
    assert type(layer).__name__ in ("AID", "StochA")
    twin = pickle.loads(pickle.dumps(layer))
    assert (type(twin), twin.drop_prob) == (type(layer), 0.2)
    model = nn.Sequential(nn.ReLU(), nn.GELU())
    convert_(model, layer)
    assert type(model[0]) is type(layer)
    assert type(model[1]) is nn.GELU
    assert len(convert_(model, layer)) == 0


@pytest.mark.parametrize("given", [None, 3, "x", [1.0]])
def test_what_is_no_tensor_is_refused(given):
    with pytest.raises(TypeError, match="DropActivation needs a tensor, got"):
        DropActivation(0.1)(given)
