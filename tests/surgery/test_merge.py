"""Merged layers compute what the separate ones do; what has no exact product is refused and does differ."""

import copy

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import dropact
from dropact.experiments import build_network
from dropact.surgery._merging.affine import Affine, CannotMerge, product, total

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MODES = ("zeros", "zeros", "reflect", "circular", "replicate")
EXACT = {"rtol": 1e-9, "atol": 1e-9}


@st.composite
def convolutions(draw, dimensions, inputs, outputs, same_shape=False):
    kernel = draw(st.sampled_from((1, 1, 2, 3)))
    layer = CONVOLUTIONS[dimensions](
        inputs,
        outputs,
        kernel,
        stride=1 if same_shape else draw(st.integers(1, 3)),
        padding="same" if same_shape and kernel != 2 else draw(st.integers(0, 2)),
        dilation=draw(st.integers(1, 2)),
        groups=draw(st.sampled_from((1, 2, 4))),
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(MODES)),
    )
    return layer.double()


@st.composite
def pairs(draw):
    dimensions = draw(st.integers(1, 2))
    return draw(convolutions(dimensions, 4, 8)), draw(convolutions(dimensions, 8, 4))


def image(layer, size=23):
    dimensions = layer.weight.dim() - 2
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, layer.in_channels, *[size + i for i in range(dimensions)], generator=generator).double()


@given(pairs())
@settings(max_examples=150, deadline=None)
def test_a_product_is_exact_or_refused(pair):
    first, second = pair
    x = image(first)
    try:
        one = product(Affine.of(first), Affine.of(second)).layer()
    except CannotMerge:
        assert any(second.padding)
        return
    torch.testing.assert_close(one(x), second(first(x)), **EXACT)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_sum_is_exact_or_refused(data):
    one, other = (data.draw(convolutions(2, 4, 8, same_shape=data.draw(st.booleans()))) for _ in range(2))
    x = image(one)
    try:
        both = total(Affine.of(one), Affine.of(other)).layer()
    except CannotMerge:
        return
    torch.testing.assert_close(both(x), one(x) + other(x), **EXACT)


def test_what_is_refused_at_the_border_differs_there_and_nowhere_else():
    first, second = nn.Conv2d(3, 4, 3, padding=1).double(), nn.Conv2d(4, 2, 3, padding=1).double()
    with pytest.raises(CannotMerge, match=r"at the border"):
        product(Affine.of(first), Affine.of(second))
    unpadded = copy.deepcopy(second)
    unpadded.padding = (0, 0)
    one = product(Affine.of(first), Affine.of(unpadded)).layer()
    one.padding = (2, 2)
    x = image(first)
    difference = (one(x) - second(first(x))).detach().abs().amax((0, 1))
    assert float(difference[1:-1, 1:-1].max()) < 1e-12
    assert float(difference.max()) > 1e-3


def randomised(network):
    """In evaluation, with BatchNorm statistics that show where they are left out."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.double().eval()


@pytest.mark.parametrize(("name", "norms"), [("resnet18", 20), ("vgg11_bn", 8), ("mobilenet_v2", 52)])
def test_torchvisions_networks_keep_their_outputs_and_lose_their_norms(name, norms):
    network = randomised(torchvision.models.get_model(name, weights=None, num_classes=10))
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before, keys = network(x), list(network.state_dict())
    receipt = dropact.merge_(network)
    assert len(receipt) == norms
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(network(x), before, **EXACT)
    plain = copy.deepcopy(network)
    plain.load_state_dict(network.state_dict(), strict=True)
    receipt.undo()
    assert torch.equal(network(x), before)
    assert list(network.state_dict()) == keys


def test_mobilenets_linear_bottlenecks_merge_where_that_saves():
    """Behind its last 1×1 convolution a block has no activation, and so a 1×1 convolution follows the next block's."""
    network = randomised(torchvision.models.mobilenet_v2(num_classes=10))
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before = network(x)
    free = dropact.merge_(copy.deepcopy(network), only_where_faster=False)
    receipt = dropact.merge_(network)
    assert len(free) < len(receipt)
    torch.testing.assert_close(free.model(x), before, **EXACT)
    assert any("multiply-adds" in skip.reason for skip in receipt.skipped)


def test_a_residual_block_whose_inside_is_linear_becomes_one_convolution():
    network = randomised(build_network("resnet-20"))
    dropact.convert_(network, dropact.DropActivation(1.0), where=lambda name, module: name == "stage1.0.relu1")
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    before = network(x)
    receipt = dropact.merge_(network, x, border="move", only_where_faster=False)
    block = network.stage1[0]
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.ReLU]
    assert block[0].kernel_size == (5, 5)
    found = float((network(x) - before).detach().abs().max())
    assert receipt.notes == (f"padding was moved: outputs differ by at most {found:.3g} on the inputs given",)
    receipt.undo()
    assert torch.equal(network(x), before)


class Pointwise(nn.Module):
    """A residual block of 1×1 convolutions: exact without moving anything."""

    def __init__(self, shortcut=False):
        super().__init__()
        self.conv1, self.act, self.conv2 = nn.Conv2d(4, 16, 1), dropact.DropActivation(1.0), nn.Conv2d(16, 4, 1)
        self.shortcut = nn.Conv2d(4, 4, 1) if shortcut else nn.Identity()

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.conv2(self.act(self.conv1(x))))


@pytest.mark.parametrize("shortcut", [False, True])
def test_sums_outside_a_sequence_become_a_graph_of_stock_layers(shortcut):
    network = nn.Sequential(Pointwise(shortcut), nn.Conv2d(4, 2, 1)).double().eval()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    before = network(x)
    dropact.merge_(network)
    assert isinstance(network[0], torch.fx.GraphModule)
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 2
    torch.testing.assert_close(network(x), before, **EXACT)


def test_one_layer_is_exported_and_counted():
    network = nn.Sequential(nn.Linear(6, 32), dropact.DropActivation(1.0), nn.Linear(32, 6), nn.ReLU()).eval()
    x = torch.randn(3, 6)
    before = network(x)
    dropact.merge_(network)
    assert [type(m) for m in network] == [nn.Linear, nn.Identity, nn.Identity, nn.ReLU]
    torch.testing.assert_close(network(x), before)
    assert dropact.coverage(network, x).having("convertible")
    assert len(dropact.fold_(network)) == 0
    torch.testing.assert_close(torch.export.export(network, (x,)).module()(x), before)


def refused(network, **options):
    receipt = dropact.merge_(network.eval(), **options)
    return {skip.name: skip.reason for skip in receipt.skipped}


def test_what_stays_apart_is_named():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            y = self.a(x)
            return self.b(y) * y + self.c(x)

    assert refused(Twice()) == {"b": "what comes before it is read 2 times"}
    narrow = nn.Sequential(nn.Linear(64, 2), nn.Linear(2, 64))
    assert refused(narrow) == {"1": "one layer takes 16.00 times their multiply-adds"}
    assert refused(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)), only_where_faster=False) == {
        "1": "at the border: the second layer pads what the first has made of a larger part of it"
    }
    training = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    assert dropact.merge_(training).skipped[0].reason.endswith("call eval() first")
    rated = nn.Sequential(nn.Linear(4, 4), dropact.DropActivation(0.9), nn.Linear(4, 4))
    assert len(dropact.merge_(rated.eval())) == 0


def test_a_layer_that_is_called_twice_or_watched_is_left_alone():
    shared = nn.Linear(4, 4)
    network = nn.Sequential(shared, shared, nn.Linear(4, 4)).eval()
    assert len(dropact.merge_(network)) == 0
    watched = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).eval()
    watched[0].register_forward_hook(lambda *args: None)
    assert len(dropact.merge_(watched)) == 0


def test_the_clock_decides_where_there_are_inputs():
    """A 1×1 convolution to many channels and back: one layer has a hundredth of the multiply-adds."""
    network = nn.Sequential(nn.Conv2d(8, 512, 1), nn.Conv2d(512, 8, 1)).eval()
    assert len(dropact.merge_(network, torch.randn(8, 8, 32, 32))) == 1


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"border must be .*exact.*move"):
        dropact.merge_(nn.Sequential(nn.Linear(2, 2)), border="exakt")

    class Asks(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"torch\.fx cannot follow Asks"):
        dropact.merge_(Asks())
    with pytest.raises(TypeError, match=r"merge_ needs an nn\.Module"):
        dropact.merge_(3)
