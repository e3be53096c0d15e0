"""Our networks against independent implementations carrying the same weights, in double precision.

Weights go from one network to the other by the order in which their layers are called; layers of another kind or shape
at the same place fail the test.
"""

import pytest
import torch
from makers import config, tiny_data
from torch import nn

from dropact.experiments import build_network
from dropact.experiments.errors import ConfigError
from dropact.experiments.models import check_network
from dropact.experiments.models import external as external_module
from dropact.experiments.validation import check_runnable

LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
SHORTCUTS = ("shortcut", "identity", "downsample")


def called_layers(network, images):
    """Layers with weights in the order of their calls: first those of all branches, then those of all shortcuts."""
    branches, shortcuts = [], []

    def watch(module, called):
        return module.register_forward_hook(lambda module, inputs, output: called.append(module))

    hooks = [
        watch(module, shortcuts if any(word in name for word in SHORTCUTS) else branches)
        for name, module in network.named_modules()
        if isinstance(module, LAYERS)
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return branches + shortcuts


def assert_same_function(ours, theirs, size=32):
    """Equal parameters in number, equal outputs within rounding, from random weights and BatchNorm statistics."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64)
    ours, theirs = ours.double().eval(), theirs.double().eval()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    pairs = zip(called_layers(ours, images), called_layers(theirs, images), strict=True)
    for mine, other in pairs:
        assert type(mine) is type(other)
        with torch.no_grad():
            for (name, value), target in zip(mine.state_dict().items(), other.state_dict().values(), strict=True):
                if value.is_floating_point():
                    spread = torch.rand(value.shape, generator=generator, dtype=torch.float64)
                    if isinstance(mine, nn.BatchNorm2d):  # away from 0 and 1, so that a swapped pair shows
                        value.copy_(0.5 + spread)
                    elif name == "bias":
                        value.copy_(spread)
                    target.copy_(value)
    with torch.no_grad():
        expected, output = theirs(images), ours(images)
    assert expected.std() > 0
    assert (output - expected).abs().max() <= 1e-9 * expected.abs().max()


def pytorchcv_network(family, maker, **arguments):
    models = pytest.importorskip(f"pytorchcv.models.{family}", reason="needs pytorchcv, in the extra dev")
    return getattr(models, maker)(**arguments)


@pytest.mark.parametrize(
    ("name", "family", "maker"),
    [
        ("resnet-20", "resnet_cifar", "resnet20_cifar10"),
        ("resnet-56", "resnet_cifar", "resnet56_cifar10"),
        ("resnet-110", "resnet_cifar", "resnet110_cifar10"),
        ("resnet-164", "resnet_cifar", "resnet164bn_cifar10"),
        ("wrn-16-8", "wrn_cifar", "get_wrn_cifar"),
        ("densenet-bc-100-12", "densenet_cifar", "densenet100_k12_bc_cifar10"),
        ("resnext-29-8x64d", "resnext_cifar", "get_resnext_cifar"),
        ("wrn-28-10", "wrn_cifar", "wrn28_10_cifar10"),
        ("densenet-bc-190-40", "densenet_cifar", "densenet190_k40_bc_cifar10"),
    ],
)
def test_pytorchcv_computes_the_same(name, family, maker):
    arguments = {
        "wrn-16-8": {"num_classes": 10, "blocks": 16, "width_factor": 8},
        "resnext-29-8x64d": {"num_classes": 10, "blocks": 29, "cardinality": 8, "bottleneck_width": 64},
    }
    assert_same_function(build_network(name), pytorchcv_network(family, maker, **arguments.get(name, {})))


@pytest.mark.parametrize(
    ("name", "maker"), [("preresnet-110", "preresnet110_cifar10"), ("preresnet-164", "preresnet164bn_cifar10")]
)
def test_pytorchcvs_preresnets_differ_in_the_shortcuts_input_only(name, maker):
    """pytorchcv feeds the shortcut relu(bn(x)), the code base behind the paper x."""
    theirs = pytorchcv_network("preresnet_cifar", maker)

    class OfTheInput(type(theirs.features.stage1.unit1)):
        def forward(self, x):
            branch, _ = self.body(x)
            return branch + (self.identity_conv(x) if self.resize_identity else x)

    for module in theirs.modules():
        if type(module) is OfTheInput.__base__:
            module.__class__ = OfTheInput
    assert_same_function(build_network(name), theirs)
    for module in theirs.modules():
        if type(module) is OfTheInput:
            module.__class__ = OfTheInput.__base__
    with pytest.raises(AssertionError):
        assert_same_function(build_network(name), theirs)


def test_torchvisions_resnet_18_with_a_small_stem_computes_the_same():
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    assert_same_function(build_network("resnet-18"), theirs)


def test_torchvisions_densenet_with_a_small_stem_computes_the_same():
    from torchvision.models import DenseNet

    theirs = DenseNet(growth_rate=12, block_config=(16, 16, 16), num_init_features=24, num_classes=10)
    theirs.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    theirs.features.norm0 = theirs.features.relu0 = theirs.features.pool0 = nn.Identity()
    assert_same_function(build_network("densenet-bc-100-12"), theirs)


@pytest.mark.parametrize(
    ("name", "size", "parameters"),
    [("resnet18", 64, 11_176_512 + 513 * 7), ("googlenet", 64, None), ("vit_b_32", 64, None), ("maxvit_t", 224, None)],
)
def test_torchvisions_networks_by_name(name, size, parameters):
    network = build_network(f"torchvision:{name}", 7, image_size=size).train()
    if parameters:
        assert sum(p.numel() for p in network.parameters()) == parameters
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize(("name", "channels", "size"), [("resnet18", 1, 32), ("vit_tiny_patch16_224", 3, 32)])
def test_timms_networks_by_name(name, channels, size):
    pytest.importorskip("timm", reason="needs timm, in the extra dev")
    network = build_network(f"timm:{name}", 7, in_channels=channels, image_size=size).train()
    assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "sizes", "word"),
    [
        ("torchvision:resnet51", {}, "got 'torchvision:resnet51'.*torchvision .*resnet50"),
        ("torchvision:fcn_resnet50", {}, "classification networks"),
        ("torchvision:resnet18", {"in_channels": 1}, "in_channels: got 1.*accepted: 3"),
        ("torchvision:vit_b_16", {"image_size": 50}, "50 pixels"),
        ("timm:resnet5o", {}, "got 'timm:resnet5o'.*timm .*resnet50"),
        ("timm:hf-hub:somebody/something", {}, "classification networks of timm"),
    ],
)
def test_names_and_sizes_that_the_packages_do_not_have_are_refused(name, sizes, word):
    pytest.importorskip(name.partition(":")[0])
    with pytest.raises(ConfigError, match=word) as caught:
        build_network(name, **sizes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["torchvision:", ":resnet50", "keras:resnet50", ""])
def test_names_of_other_packages_have_a_form(name):
    with pytest.raises(ConfigError, match="network: got"):
        check_network(name)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(external_module, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match="timm is not installed; say: pip install timm"):
        build_network("timm:resnet50")


def test_a_package_that_is_only_elsewhere_is_asked_for_only_there(monkeypatch):
    monkeypatch.setattr(external_module, "find_spec", lambda name: None)
    made = config(network="timm:resnet18")
    check_runnable([made], [tiny_data()], None)
    with pytest.raises(ConfigError, match="timm is not installed"):
        check_runnable([made], [tiny_data()], torch.device("cpu"))
