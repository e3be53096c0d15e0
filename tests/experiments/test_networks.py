import re
from pathlib import Path

import pytest
import torch
from torch import nn

from dropact.experiments import build_network
from dropact.experiments.errors import ConfigError
from dropact.experiments.methods import METHODS, apply_to_network, complete_options
from dropact.experiments.models import NETWORKS
from dropact.methods import ResidualSum


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


ACTIVATIONS = (nn.ReLU, nn.Tanh)


def activation_calls(network, images):
    """Calls of each activation module in one forward."""
    calls = {}
    for name, module in network.named_modules():
        if isinstance(module, ACTIVATIONS):
            calls[name] = 0

            def count(module, inputs, output, name=name):
                calls[name] += 1

            module.register_forward_hook(count)
    network(images)
    return calls


def on_paper(name, num_classes=10, **sizes):
    """The network without memory for its weights: shapes and calls only."""
    with torch.device("meta"):
        return build_network(name, num_classes, **sizes).eval()


# Parameters for 10 and 100 classes, and activation call sites: the specification's, counted in the code base behind the
# Drop-Activation paper.
PAPER = {
    "resnet-110": (1_730_714, 1_736_564, 109),
    "preresnet-164": (1_703_258, 1_726_388, 163),
    "wrn-28-10": (36_479_194, 36_536_884, 25),
    "densenet-bc-100-12": (769_162, 800_032, 99),
    "densenet-bc-190-40": (25_624_430, 25_821_620, 189),
    "resnext-29-8x64d": (34_426_698, 34_518_948, 28),
}
# ResNet-20 and -32: one ReLU per convolution outside the shortcuts; the others likewise.
SITES = {name: sites for name, (_, _, sites) in PAPER.items()} | {
    "resnet-18": 17,
    "resnet-20": 19,
    "resnet-32": 31,
    "resnet-56": 55,
    "resnet-164": 163,
    "preresnet-110": 109,
    "wrn-16-1": 13,
    "wrn-16-2": 13,
    "wrn-16-4": 13,
    "wrn-16-8": 13,
    "wrn-20-10": 19,
    "simple": 4,
    "simple-small": 4,
    "simple-half": 4,
    "simple-double": 4,
    "simple-plain": 4,
    "cnn": 7,
    "cnn-bn": 7,
    "mlp-1000-800-200": 3,
    "mlp-800-800": 2,
    "mlp-1024-1024-1024": 3,
    "mlp-tanh-256-256-256": 3,
}


@pytest.mark.parametrize("name", PAPER)
def test_parameters_are_those_of_the_papers_code(name):
    assert (parameters(on_paper(name)), parameters(on_paper(name, 100))) == PAPER[name][:2]


def test_the_table_in_the_documentation_is_what_is_built():
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \| ([\d,]+) \| ([\d,]+) \| (\d+) \|", page, flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(NETWORKS)
    for name, ten, hundred, sites in rows:
        built = (parameters(on_paper(name)), parameters(on_paper(name, 100)), SITES[name])
        assert (f"{built[0]:,}", f"{built[1]:,}", str(built[2])) == (ten, hundred, sites)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_activation_call_has_a_module_of_its_own(name):
    network = on_paper(name)
    calls = activation_calls(network, torch.zeros(1, 3, 32, 32, device="meta"))
    assert list(calls.values()) == [1] * SITES[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_activation_is_called_but_through_those_modules(name):
    """With every activation module made the identity, no activation is left in the graph."""
    network = on_paper(name)
    for module in network.modules():
        if isinstance(module, ACTIVATIONS):
            module.forward = lambda x: x
    called = set()

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            called.add(getattr(function, "__name__", str(function)))
            return function(*args, **(kwargs or {}))

    with Watch():
        network(torch.zeros(1, 3, 32, 32, device="meta"))
    assert not called & {"tanh", "relu", "relu_", "threshold", "clamp", "clamp_min", "maximum", "where"}
    assert called & {"conv2d", "linear"}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32)])
def test_networks_take_the_images_of_every_data_set(name, channels, size):
    network = on_paper(name, 7, in_channels=channels, image_size=size)
    assert network(torch.zeros(2, channels, size, size, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet-20", "resnet-164", "preresnet-110", "wrn-16-8", "densenet-bc-100-12"])
def test_a_fresh_network_neither_dies_nor_explodes(name):
    """The initialisation keeps the scale: logits of a batch of noise spread by more than 0.01 and less than 100."""
    torch.manual_seed(0)
    network = build_network(name)
    with torch.no_grad():
        spread = network(torch.randn(4, 3, 32, 32)).std()
    assert 0.01 < spread < 100


@pytest.mark.parametrize("name", ["resnet-20", "preresnet-110", "wrn-16-8", "densenet-bc-100-12", "resnext-29-8x64d"])
def test_convolutions_start_with_hes_variance(name):
    """Each weight's mean square is χ² around 2 / (k² · outputs); 6 standard deviations: 2·10⁻⁹ per layer."""
    torch.manual_seed(0)
    for module in build_network(name).modules():
        if isinstance(module, nn.Conv2d):
            expected = 2 / (module.kernel_size[0] ** 2 * module.out_channels)
            n = module.weight.numel()
            assert abs(module.weight.square().mean().item() / expected - 1) < 6 * (2 / n) ** 0.5


@pytest.mark.parametrize(("name", "places"), [("wrn-28-10", 12), ("wrn-16-8", 6), ("densenet-bc-100-12", 48)])
def test_dropout_stands_in_every_block_and_changes_no_names(name, places):
    plain, with_dropout = on_paper(name), on_paper(name, dropout=0.3)
    assert list(plain.state_dict()) == list(with_dropout.state_dict())
    assert not any(isinstance(module, nn.Dropout) for module in plain.modules())
    assert [module.p for module in with_dropout.modules() if isinstance(module, nn.Dropout)] == [0.3] * places


@pytest.mark.parametrize(("name", "before"), [("wrn-16-8", True), ("densenet-bc-100-12", False)])
def test_wide_blocks_drop_before_the_last_convolution_and_dense_layers_after_it(name, before):
    network = build_network(name, dropout=0.5)
    seen = {}
    block = network.stage1[1]
    block.conv2.register_forward_hook(lambda module, inputs, output: seen.update(conv=(inputs[0], output)))
    block.dropout.register_forward_hook(lambda module, inputs, output: seen.update(dropout=(inputs[0], output)))
    with torch.no_grad():
        network(torch.randn(2, 3, 32, 32))
    first, second = ("dropout", "conv") if before else ("conv", "dropout")
    assert seen[first][1] is seen[second][0]


def test_simple_has_the_widths_it_says():
    shapes = [tuple(p.shape) for n, p in build_network("simple").named_parameters() if p.ndim > 1]
    assert shapes == [(32, 3, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (256, 2048), (10, 256)]


def test_unknown_network_lists_the_known():
    with pytest.raises(ConfigError, match=r"resnet-111.*simple-small.*resnet-110.*torchvision:NAME"):
        build_network("resnet-111")


@pytest.mark.parametrize(("name", "rate"), [("resnet-20", 0.3), ("wrn-28-10", 1.0), ("torchvision:vgg11", 0.1)])
def test_dropout_where_there_is_no_place_for_it_is_refused(name, rate):
    with pytest.raises(ConfigError, match=f"dropout: got {rate}"):
        build_network(name, dropout=rate)


def test_the_regression_network_maps_a_number_to_a_number():
    network = build_network("mlp-1000-800-200", 1, in_channels=1, image_size=1)
    assert [tuple(p.shape) for p in network.parameters() if p.ndim == 2] == [
        (1000, 1),
        (800, 1000),
        (200, 800),
        (1, 200),
    ]
    assert network(torch.zeros(20, 1)).shape == (20, 1)


@pytest.mark.parametrize("sizes", [{"num_classes": 0}, {"in_channels": 0}, {"image_size": 7}])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ConfigError, match=next(iter(sizes))):
        build_network("simple", **sizes)


def sample():
    return torch.randn(6, 1, 8, 8), torch.arange(6)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_keeps_the_plain_networks_weights_and_their_names(method):
    name = "resnet-20" if METHODS[method].drops_branches else "simple-small"
    torch.manual_seed(1)
    plain = build_network(name, in_channels=1, image_size=8)
    torch.manual_seed(1)
    changed = build_network(name, in_channels=1, image_size=8)
    apply_to_network(changed, method, complete_options(method, {}, "cifar10"), sample)
    state = changed.state_dict()
    assert list(state) == list(plain.state_dict())
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("stochastic-depth", {}, 6.5),  # (3 L - 1) / 4
        ("depth-uniform", {"uniform_budget": 0.3}, 2.7),
        ("depth-linear", {"linear_budget": 0.5}, 4.5),
        ("depth-sensitivity", {"sensitive_budget": 0.3}, 2.7),
    ],
)
def test_the_budget_of_a_stochastic_depth(method, options, expected):
    network = build_network("resnet-20", in_channels=1, image_size=8)
    apply_to_network(network, method, complete_options(method, options, "cifar10"), sample)
    rates = [1 - layer.drop_prob for layer in network.modules() if isinstance(layer, ResidualSum)]
    assert len(rates) == 9
    assert sum(rates) == pytest.approx(expected)


def test_stochastic_depth_needs_residual_branches():
    for method in [name for name, entry in METHODS.items() if entry.drops_branches]:
        network = build_network("simple-small", in_channels=1, image_size=8)
        options = complete_options(method, {}, "cifar10")
        with pytest.raises(ConfigError, match="no residual branch was found"):
            apply_to_network(network, method, options, sample)


@pytest.mark.parametrize(
    ("network", "method", "words"),
    [
        (
            "resnet-20",
            "hidden-dropout",
            "fully connected layers after the first, but the network has none",
        ),
        ("mlp-tanh-256-256-256", "rrelu", "replaces activations, but no activation"),
        ("mlp-tanh-256-256-256", "aid", "replaces activations, but no activation"),
    ],
)
def test_a_method_that_would_do_nothing_is_refused(network, method, words):
    built = build_network(network)
    with pytest.raises(ConfigError, match=words):
        apply_to_network(built, method, complete_options(method, {}, "cifar10"))


@pytest.mark.parametrize("method", ["rrelu", "drop-activation"])
def test_conversion_reaches_every_relu(method):
    network = build_network("resnet-20")
    apply_to_network(network, method, complete_options(method, {}, "cifar10"))
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())


def test_drop_activation_in_eval_mode_has_slope_drop_prob():
    network = build_network("simple-small", in_channels=1, image_size=8)
    apply_to_network(network, "drop-activation", {"drop_prob": 0.2})
    x = torch.tensor([-2.0, 3.0])
    assert torch.allclose(network.eval().relu(x), torch.tensor([-0.4, 3.0]))


def test_dropout_acts_on_the_input_of_the_last_linear_and_in_training_only():
    network = build_network("simple-small", in_channels=1, image_size=8)
    seen = {}
    apply_to_network(network, "dropout", {"rate": 0.5})
    network.classifier.register_forward_hook(lambda module, inputs, output: seen.update(x=inputs[0]))
    network.relu.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
    network.train()(torch.rand(400, 1, 8, 8))
    assert set(seen["x"].unique().tolist()) == {0.0, 2.0}
    assert 0.47 < (seen["x"] == 0).float().mean() < 0.53  # 25,600 units: 9 standard deviations
    network.eval()(torch.rand(4, 1, 8, 8))
    assert torch.equal(seen["x"], torch.ones(4, 64))


def test_hidden_dropout_acts_on_the_input_of_every_linear_but_the_first_and_in_training_only():
    network = build_network("mlp-tanh-256-256-256", in_channels=1, image_size=8)
    seen = {}
    apply_to_network(network, "hidden-dropout", {"hidden_rate": 0.2})
    for name in ("hidden1", "hidden2", "hidden3", "classifier"):
        network.get_submodule(name).register_forward_hook(
            lambda m, inputs, y, name=name: seen.update({name: inputs[0]})
        )
    images = 1 + torch.rand(400, 1, 8, 8)
    network.train()(images)
    assert torch.equal(seen["hidden1"], images.flatten(1))
    for name in ("hidden2", "hidden3", "classifier"):
        assert 0.18 < (seen[name] == 0).float().mean() < 0.22  # 102,400 units: 16 standard deviations
    network.eval()(images)
    assert all((x != 0).all() for x in seen.values())


@pytest.mark.parametrize("name", ["cnn", "cnn-bn", "mlp-tanh-256-256-256"])
def test_gaaf_keeps_the_values_and_changes_the_gradient(name):
    networks = []
    for method in ("baseline", "gaaf"):
        torch.manual_seed(2)
        network = build_network(name, image_size=8)
        apply_to_network(network, method, {})
        networks.append(network.double())
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    plain, accelerated = (network(x) for network in networks)
    assert torch.equal(plain, accelerated)
    first = []
    for network, y in zip(networks, (plain, accelerated), strict=True):
        y.square().sum().backward()
        first.append(next(network.parameters()).grad.norm())
    assert first[1] > 1.5 * first[0]
