"""fuse_: the same network, masks and state, in fewer passes; taken where it is said to be, and nowhere else."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import dropact
from dropact.experiments import build_network
from dropact.kernels import cpu


@pytest.fixture
def passes(monkeypatch):
    """How often the extension writes the values of a BatchNorm, with an activation and without."""
    seen, real = {"relu": 0, "values": 0}, cpu.batch_norm

    def spy(x, added, mean, invstd, weight, bias, drop, out):
        seen["values" if drop is None else "relu"] += 1
        real(x, added, mean, invstd, weight, bias, drop, out)

    monkeypatch.setattr(cpu, "batch_norm", spy)
    return seen


def images(dtype=torch.float32, size=8):
    return torch.randn(16, 3, size, size, dtype=dtype).contiguous(memory_format=torch.channels_last)


def network(name="resnet-20", method=True):
    torch.manual_seed(0)
    made = build_network(name).to(memory_format=torch.channels_last)
    if method:
        dropact.convert_(made, dropact.DropActivation(0.2))
    return made


def step(model, x, seed=3):
    torch.manual_seed(seed)
    model.zero_grad()
    y = model(x)
    y.square().mean().backward()
    return y.detach()


def masks(model, x):
    """Which activations of each converted layer are zero, by layer, in the order of the calls."""
    zeros = []
    layers = [m for m in model.modules() if isinstance(m, dropact.DropActivation)]
    handles = [m.register_forward_hook(lambda m, args, out: zeros.append(out == 0)) for m in layers]
    step(model, x)
    for handle in handles:
        handle.remove()
    return zeros


def fusable(model):
    """The names of all BatchNorm layers, and of the convolutions whose weights the kernel has gradients of."""
    return {
        name
        for name, m in model.named_modules()
        if type(m) is nn.BatchNorm2d
        or (
            type(m) is nn.Conv2d
            and (m.kernel_size, m.groups, m.bias) == ((3, 3), 1, None)
            and m.in_channels % 16 == m.out_channels % 16 == 0
            and m.in_channels * m.out_channels <= 8192
        )
    }


# network: (fused passes, BatchNorm layers whose values are needed by themselves)
PASSES = {
    "resnet-20": (19, 2),  # 9 blocks of two and the stem; two projected shortcuts, which are added to the branch
    "preresnet-110": (109, 0),
    "simple": (3, 0),
    "wrn-16-8": (13, 0),
    "resnet-18": (17, 3),
    "densenet-bc-100-12": (99, 0),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_network_computes_what_it_did_in_one_pass_for_each_activation(name, passes):
    plain, x = network(name), images(size=8 if name != "simple" else 32)
    fused = copy.deepcopy(plain)
    receipt = dropact.fuse_(fused)
    assert sorted(change.name for change in receipt) == sorted(fusable(plain))
    expected, got = step(plain, x), step(fused, x)
    assert (passes["relu"], passes["values"]) == PASSES[name]
    # Rounding of statistics alone; hundreds of layers of it, and activations within it of zero that fall the other way.
    torch.testing.assert_close(got, expected, rtol=0.01, atol=0.01 * float(expected.abs().max()))
    one, other = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in (fused, plain))
    assert (one - other).norm() <= 0.02 * other.norm()
    assert fused.state_dict().keys() == plain.state_dict().keys()
    for (key, a), b in zip(fused.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3, msg=key)


def test_the_masks_are_those_of_the_separate_layers():
    """All but activations so near zero that the statistics' rounding decides: fewer than one in 10,000 each layer."""
    plain, x = network(), images(size=16)
    fused = copy.deepcopy(plain)
    dropact.fuse_(fused)
    for one, other in zip(masks(fused, x), masks(plain, x), strict=True):
        assert float((one != other).double().mean()) < 1e-4
        assert 0.2 < float(one.double().mean()) < 0.6


def test_bfloat16_under_autocast(passes):
    plain, x = network(), images(torch.bfloat16, 16)
    fused = copy.deepcopy(plain)
    dropact.fuse_(fused)
    with torch.autocast("cpu", torch.bfloat16):
        expected, got = step(plain, x), step(fused, x)
    assert passes["relu"] == 19
    assert got.dtype == torch.bfloat16
    # as far apart as two roundings of 20 layers in bfloat16 may be
    assert (got - expected).float().norm() <= 20**0.5 * 2**-8 * 4 * expected.float().norm()


def test_evaluation_and_contiguous_images_are_torchs_own(passes):
    plain = network()
    fused = copy.deepcopy(plain)
    dropact.fuse_(fused)
    x = images()
    assert torch.equal(fused.eval()(x), plain.eval()(x))
    for model in (fused, plain):
        model.train().to(memory_format=torch.contiguous_format)
    assert torch.equal(step(fused, x.contiguous()), step(plain, x.contiguous()))
    assert passes == {"relu": 0, "values": 0}


def test_compiled_code_is_torchs_own(passes):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), dropact.DropActivation(0.2))
    model.to(memory_format=torch.channels_last)
    dropact.fuse_(model)
    step(torch.compile(model, fullgraph=True), images())
    assert passes == {"relu": 0, "values": 0}


@pytest.mark.filterwarnings("ignore")  # torch's, of tracing
def test_a_traced_model_is_torchs_own(passes):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    dropact.fuse_(model)
    traced, x = torch.jit.trace(model, images(), check_trace=False), images() * 3 + 1
    assert passes == {"relu": 0, "values": 0}
    torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-5)


def test_recomputed_activations_have_the_same_masks_and_gradients():
    for reentrant in (False, True):
        for cut in (3, 2):  # behind the activation, and between BatchNorm and activation
            model = network("simple")[0]  # convolution, BatchNorm, activation, pool
            dropact.fuse_(model)
            gradients = []
            for recomputed in (False, True):
                x = images(size=7).fill_(0.3).add_(torch.arange(7.0)).requires_grad_()
                torch.manual_seed(5)
                y = checkpoint(model[:cut], x, use_reentrant=reentrant) if recomputed else model[:cut](x)
                model[cut:](y).square().sum().backward()
                gradients.append(x.grad)
            torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
            assert float(gradients[0].abs().max()) > 1e-3


def test_momentum_none_and_untracked_statistics_keep_torchs_rules():
    for settings in ({"momentum": None}, {"track_running_stats": False}, {"affine": False}, {"momentum": 0.5}):
        plain = nn.Sequential(nn.BatchNorm2d(3, **settings), nn.ReLU())
        fused = copy.deepcopy(plain)
        dropact.fuse_(fused)
        for _ in range(3):
            x = images()
            torch.testing.assert_close(fused(x), plain(x), rtol=1e-4, atol=1e-5)
        for model in (fused, plain):
            model.eval()
        torch.testing.assert_close(fused(x), plain(x), rtol=1e-4, atol=1e-5)
        for (key, a), b in zip(fused.state_dict().items(), plain.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=key)


def test_other_ranks_of_inputs(passes):
    for layer, x in (
        (nn.BatchNorm1d(6), torch.randn(9, 6)),
        (nn.BatchNorm3d(6), torch.randn(2, 6, 3, 4, 5).contiguous(memory_format=torch.channels_last_3d)),
    ):
        plain = nn.Sequential(layer, nn.ReLU())
        fused = copy.deepcopy(plain)
        dropact.fuse_(fused)
        torch.testing.assert_close(fused(x), plain(x), rtol=1e-4, atol=1e-5)
    assert passes == {"relu": 2, "values": 0}
    with pytest.raises(ValueError, match="expected 4D input"):
        dropact.fuse_(model := nn.Sequential(nn.BatchNorm2d(6))) and model(torch.randn(9, 6))


def test_receipt_undo_fold_and_fusing_twice():
    model = network("simple")
    kinds = [type(m) for m in model.modules()]
    receipt = dropact.fuse_(model)
    assert [change.name for change in receipt] == ["stage1.1", "stage2.0", "stage2.1", "stage3.0", "stage3.1"]
    assert "BatchNorm2d" in str(receipt)
    assert type(receipt.changes[0].before) is nn.BatchNorm2d
    assert type(receipt.changes[1].before) is nn.Conv2d
    assert len(dropact.fuse_(model)) == 0
    receipt.undo()
    assert [type(m) for m in model.modules()] == kinds
    dropact.fuse_(model)
    dropact.fold_(model)
    assert not any(type(m).__module__.startswith("dropact") for m in model.modules())


def test_a_fused_model_is_copied_pickled_and_synchronised():
    model = network("simple")
    dropact.fuse_(model)
    x = images(size=32)
    expected = step(model, x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(step(other, x), expected, rtol=0, atol=0)
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert sum(type(m) is nn.SyncBatchNorm for m in synchronised.modules()) == 3


def test_only_torchs_own_classes_are_fused_and_wrapped_models_refused():
    class Mine(nn.BatchNorm2d):
        pass

    model = nn.Sequential(Mine(3), nn.BatchNorm2d(3))
    assert [change.name for change in dropact.fuse_(model)] == ["1"]
    with pytest.raises(TypeError, match="fuse_ needs a plain model"):
        dropact.fuse_(torch.compile(model))


def test_hooks_on_the_layers_see_and_may_replace_the_output(passes):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    dropact.fuse_(model)
    seen = []
    model[0].register_full_backward_hook(lambda m, to_input, of_output: seen.append(of_output[0].shape))
    model[0].register_forward_hook(lambda m, args, out: out * 2)
    x = images().requires_grad_()
    plain = nn.functional.relu(2 * nn.functional.batch_norm(x, None, None, training=True))
    got = model(x)
    torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-5)
    got.sum().backward()
    assert passes == {"relu": 0, "values": 1}
    assert seen == [x.shape]


# ---- convolutions ----


@pytest.fixture
def gradients_of_weights(monkeypatch):
    """Output channels and stride of each gradient that the extension makes."""
    if not cpu.has_weights_gradient():
        pytest.skip("torch's own gradient serves on this processor")
    seen, real = [], cpu.weights_gradient

    def spy(x, grad, stride, out):
        seen.append((grad.shape[1], stride))
        real(x, grad, stride, out)

    monkeypatch.setattr(cpu, "weights_gradient", spy)
    return seen


def convolution(*settings, **more):
    torch.manual_seed(0)
    layer = nn.Conv2d(*settings, **{"padding": 1, "bias": False, **more}).to(memory_format=torch.channels_last)
    fused = nn.Sequential(copy.deepcopy(layer))
    return layer, fused, dropact.fuse_(fused)


def pictures(channels=16, size=8):
    x = torch.randn(6, channels, size, size, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    return x.requires_grad_()


def gradients(layer, x, weight):
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    return y, *torch.autograd.grad(y.float().square().sum(), (x, weight))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_keeps_its_output_and_rounds_its_gradient_less(stride, gradients_of_weights):
    layer, fused, _ = convolution(16, 32, 3, stride=stride)
    x = pictures()
    expected, got = gradients(layer, x, layer.weight), gradients(fused, x, fused[0].weight)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])
    behind, pixels = 2 * expected[0].detach().double(), x.detach().double()
    exact, absolute = (
        torch.nn.grad.conv2d_weight(a, layer.weight.shape, b, stride=stride, padding=1)
        for a, b in ((pixels, behind), (pixels.abs(), behind.abs()))
    )
    assert got[2].dtype == torch.float32
    assert got[2].stride() == layer.weight.stride()
    # one rounding for each of up to 6 * 8 * 8 products; torch's is rounded to bfloat16 after that
    assert ((got[2] - exact).abs() <= 400 * 2.0**-24 * absolute).all()
    assert ((expected[2] - exact).abs() <= 2.0**-8 * exact.abs() + 400 * 2.0**-24 * absolute).all()
    assert gradients_of_weights == [(32, stride)]


def test_each_convolution_of_a_step_is_served_that_can_be(gradients_of_weights):
    model = network()
    dropact.fuse_(model)
    with torch.autocast("cpu", torch.bfloat16):
        step(model, images(torch.bfloat16, 16))
    # all but the stem, with 3 channels, and the projections of 1 pixel
    assert sorted(gradients_of_weights) == sorted([(16, 1)] * 6 + [(32, 2)] + [(32, 1)] * 5 + [(64, 2)] + [(64, 1)] * 5)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 1, "padding": 0},
        {"kernel_size": 3, "padding": 0},
        {"kernel_size": 3, "bias": True},
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "stride": 3},
        {"kernel_size": 3, "padding_mode": "circular"},
    ],
    ids=str,
)
def test_other_convolutions_keep_their_class(settings):
    assert len(convolution(32, 32, **settings)[2]) == 0


def test_where_the_kernel_is_not_for_it_a_convolution_is_torchs_own(gradients_of_weights):
    layer, fused, receipt = convolution(16, 16, 3)
    assert len(receipt) == 1
    contiguous, odd, wide = pictures().contiguous(), pictures(size=7), pictures().float()
    for x in (contiguous, odd, wide):
        x = x.detach().requires_grad_()
        if x.dtype == torch.bfloat16:
            assert torch.equal(gradients(fused, x, fused[0].weight)[2], gradients(layer, x, layer.weight)[2])
    y, z = fused(wide), layer(wide)  # no autocast: float32
    assert torch.equal(y, z)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        x = pictures()
        assert torch.equal(fused(x), layer(x))
    fused[0].weight.requires_grad_(False)
    x = pictures()
    with torch.autocast("cpu", torch.bfloat16):
        fused(x).sum().backward()
    assert x.grad is not None
    assert gradients_of_weights == []


@pytest.mark.parametrize(
    "changes",
    [{"padding": (0, 0)}, {"dilation": (2, 2)}, {"padding_mode": "reflect"}, {"bias": nn.Parameter(torch.ones(16))}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_setting_changed_after_fusing_is_heeded(changes, gradients_of_weights):
    layer, fused, _ = convolution(16, 16, 3)
    for name, value in changes.items():
        setattr(layer, name, value)
        setattr(fused[0], name, value)
    x = pictures()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fused(x), layer(x))
    assert gradients_of_weights == []


def test_a_gradient_of_a_gradient_is_torchs_own(gradients_of_weights):
    layer, fused, _ = convolution(16, 16, 3)
    penalties = []
    x = pictures()
    for model, weight in ((layer, layer.weight), (fused, fused[0].weight)):
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x)
        (to_x,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
        penalties.append(torch.autograd.grad(to_x.float().square().sum(), weight)[0])
    torch.testing.assert_close(*penalties, rtol=2.0**-7, atol=2.0**-7 * float(penalties[0].abs().max()))
    assert gradients_of_weights == [(16, 1)]  # of the outermost gradient, which nobody differentiates


def test_weights_in_bfloat16_and_images_without_gradient(gradients_of_weights):
    _, fused, _ = convolution(16, 16, 3)
    fused.to(torch.bfloat16)
    x = pictures().detach()
    fused(x).float().square().sum().backward()
    assert fused[0].weight.grad.dtype == torch.bfloat16
    assert gradients_of_weights == [(16, 1)]


def test_gradients_of_a_convolution_come_in_any_form(gradients_of_weights):
    """Zeros that were never written, and many at once: torch's own, as no memory holds their values."""
    _, fused, _ = convolution(16, 16, 3)
    fused.to(torch.bfloat16)
    x, weight = pictures(), fused[0].weight
    y = fused(x)
    assert torch.autograd.grad(torch.sgn(y).sum(), weight, retain_graph=True)[0].count_nonzero() == 0
    grads = torch.randn(3, *y.shape, dtype=torch.bfloat16)
    (together,) = torch.autograd.grad(y, weight, grads, is_grads_batched=True, retain_graph=True)
    assert gradients_of_weights == []
    for got, grad in zip(together, grads, strict=True):
        (expected,) = torch.autograd.grad(y, weight, grad, retain_graph=True)
        torch.testing.assert_close(got, expected, rtol=2.0**-6, atol=2.0**-7 * float(expected.abs().max()))
    assert gradients_of_weights == [(16, 1)] * 3
