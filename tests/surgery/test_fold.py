import pickle

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import dropact
from dropact import DropActivation, RandomizedReLU, fold_

ACTIVATIONS = ["relu", "gelu", "silu", "tanh", "sigmoid", "elu", nn.PReLU(), nn.ELU(0.3, inplace=True), torch.sin]


def build(activation, drop_prob=0.2):
    return nn.Sequential(nn.Linear(6, 6), DropActivation(drop_prob, activation), nn.Linear(6, 6), RandomizedReLU())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
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
