"""What becomes of a folded model: the eval outputs to one unit in the last place, torch.export, ONNX, int8."""

import onnx
import onnxruntime
import pytest
import torch
import torchvision
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from dropact import DropActivation, RandomizedReLU, convert_, fold_
from dropact._activations import BY_NAME, fused, is_relu

# the exporter's own deprecations, of torch.jit and of its own arguments
EXPORTER_WARNS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def units_apart(a, b):
    """How many numbers of the dtype lie between two tensors, elementwise; 0 of either sign are one number."""
    word = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    bits = [t.view(word).long() for t in (a, b)]
    a, b = (torch.where(t < 0, -(t & torch.iinfo(word).max), t) for t in bits)
    return (a - b).abs()


def test_units_apart_counts_neighbours():
    one = torch.tensor([1.0, -1.0, 0.0, 1e-45])
    assert units_apart(one, torch.nextafter(one, torch.tensor(torch.inf))).tolist() == [1, 1, 1, 1]
    assert units_apart(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0 + 2**-22])).tolist() == [0, 2]
    assert units_apart(torch.tensor([-1e-45]), torch.tensor([1e-45])).tolist() == [2]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "activation",
    [*BY_NAME, nn.PReLU(), nn.Hardshrink(0.3), torch.sin],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_folded_layer_is_the_evaluation_to_rounding(activation, dtype):
    """To one unit in the last place; but where a kernel computes the mean, rounded once, to what torch's operations
    round: f (GELU's tail to a unit of 1), both products and the sum."""
    x = torch.randn(10_000, dtype=torch.float64).mul(3).to(dtype)
    plain = DropActivation(0.0, activation).to(dtype).folded()(x).abs().double()
    for q in (0.0, 0.05, 0.37, 1.0):
        layer = DropActivation(q, activation).to(dtype).eval()
        evaluated, folded = layer(x), layer.folded()(x)
        if fused(activation) is None or is_relu(activation) or dtype == torch.float64:
            assert units_apart(evaluated, folded).max() <= 1, layer
        else:
            terms = (1 - q) * plain + q * x.abs().double()
            info = torch.finfo(dtype)
            allowed = 2 * info.eps * (terms + info.smallest_normal) + 2.0**-21 * x.abs().double()
            assert ((evaluated.double() - folded.double()).abs() <= allowed).all(), layer
    layer = RandomizedReLU().eval()
    assert units_apart(layer(x), layer.folded()(x)).max() <= 1


NETWORKS = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
    "shufflenet_v2_x0_5": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_exports_with_stock_operations_and_the_eval_outputs(name):
    network = NETWORKS[name]()
    convert_(network, DropActivation(0.1))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network.eval()(x)
        fold_(network)
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-6)
        program = torch.export.export(network, (x,))
        assert units_apart(program.module()(x), network(x)).max() <= 1
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert operators
    assert all(operator.startswith(("aten.", "<built-in function getitem")) for operator in operators), operators


class Small(nn.Sequential):
    """Convolutions with BatchNorm behind each activation, and a linear head."""

    def __init__(self, *activations):
        widths = (3, 16, 24, 32, 32, 32)
        layers = []
        for i, activation in enumerate(activations):
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(widths[i + 1]), activation]
        super().__init__(*layers, nn.Flatten(), nn.Linear(64 * widths[len(activations)], 10))


def folded_and_plain():
    """The same weights under folded activations and under the plain ones."""
    plain = Small(nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.ReLU())
    folded = Small(nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.ReLU())
    folded.load_state_dict(plain.state_dict())
    convert_(folded, DropActivation(0.1), where=lambda name, module: name != "14")
    convert_(folded, RandomizedReLU(), where=lambda name, module: name == "14")
    for network in (folded, plain):
        with torch.no_grad():
            network.train()(torch.randn(64, 3, 8, 8))  # gives BatchNorm its statistics
    fold_(folded)
    return folded.eval(), plain.eval()


def to_onnx(network, x, path):
    torch.onnx.export(network, (x,), dynamo=True, verbose=False).save(str(path))
    return path


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(y)


class Batches(quantization.CalibrationDataReader):
    def __init__(self, name, batches):
        self.left = [{name: batch.numpy()} for batch in batches]

    def get_next(self):
        return self.left.pop() if self.left else None


def quantize(path, kind, shape):
    prepared, target = path.with_suffix(".pre.onnx"), path.with_suffix(f".{kind}.onnx")
    quant_pre_process(str(path), str(prepared))
    if kind == "dynamic":
        # unsigned activations are all that dynamic convolution takes
        quantization.quantize_dynamic(prepared, target, weight_type=quantization.QuantType.QUInt8)
    else:
        name = onnx.load(str(path)).graph.input[0].name
        quantization.quantize_static(prepared, target, Batches(name, torch.randn(8, *shape)))
    return target


def decibels(noisy, exact):
    """Signal to noise, the signal being what differs from sample to sample."""
    return 10 * torch.log10(exact.var(0).mean() / (noisy - exact).square().mean()).item()


@EXPORTER_WARNS
@pytest.mark.filterwarnings("ignore:Please consider to run pre-processing")
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_int8_costs_a_folded_model_no_more_than_the_plain_one(kind, tmp_path):
    x = torch.randn(64, 3, 8, 8)
    heard = []
    for name, network in zip(("folded", "plain"), folded_and_plain(), strict=True):
        exact = network(x).detach()
        path = to_onnx(network, x, tmp_path / f"{name}.onnx")
        assert decibels(run(path, x), exact) > 100  # float32 through five layers: 1e-5
        target = quantize(path, kind, x.shape)
        operators = {node.op_type for node in onnx.load(str(target)).graph.node}
        assert operators & {"QLinearConv", "QuantizeLinear", "ConvInteger", "DynamicQuantizeLinear"}
        assert not {op for op in operators if "Random" in op or op in ("Dropout", "Bernoulli")}
        heard.append(decibels(run(target, x), exact))
    # 8 bits over a range of 8 sd leave noise of (8/256)**2/12, -41 dB, in the weights and the inputs of six layers: -30
    assert heard[0] > 20
    assert heard[0] > heard[1] - 3
