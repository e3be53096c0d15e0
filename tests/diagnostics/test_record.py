"""Recording: what it measures is so, and training does not notice it."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropact
from dropact import DropActivation, RandomizedReLU
from dropact.diagnostics import DropRate, NegativeSide, OutputGap, VarianceShift, inspect, measure, record
from dropact.theory import variance_shift

MOST_SIGMAS = 5.0


class Network(nn.Module):
    """Everything that could go wrong: BatchNorm, Dropout, in-place layers, a layer called twice, a second argument."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = DropActivation(0.2, inplace=True)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.rrelu = RandomizedReLU(inplace=True)
        self.gelu = DropActivation(0.3, "gelu")
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(8, 4)

    def forward(self, x, *, scale):
        x.mul_(scale)  # what the caller passed is changed, too
        x = self.act(self.norm(self.conv(x)))
        x = self.rrelu(self.conv2(x))
        x = self.gelu(self.gelu(x).mean((2, 3)))
        return {"logits": self.out(self.dropout(x)), "count": 1}


def trained(recorded, optimiser, steps=6, autocast=False):
    torch.manual_seed(0)
    model = Network()
    optimizer = optimiser(model.parameters())
    generator = torch.Generator().manual_seed(1)

    def loop():
        for _ in range(steps):
            x, y = torch.randn(16, 3, 6, 6, generator=generator), torch.randint(4, (16,), generator=generator)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = F.cross_entropy(model(x, scale=2.0)["logits"].float(), y)
            loss.backward()
            optimizer.step()
        model.eval()
        model(torch.randn(4, 3, 6, 6, generator=generator), scale=1.0)
        model.train()

    if recorded:
        with record(model, every=2) as recording:
            loop()
        assert recording.steps == steps
        assert {reading.step for reading in recording.readings} == set(range(0, steps, 2))
    else:
        loop()
    return {**model.state_dict(), "next draw": torch.rand(3)}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    "optimiser", [lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.AdamW(p, lr=0.01)]
)
def test_training_comes_out_the_same_to_the_last_bit(optimiser, autocast):
    plain, recorded = (trained(r, optimiser, autocast=autocast) for r in (False, True))
    assert plain.keys() == recorded.keys()
    for name, value in plain.items():
        assert torch.equal(value, recorded[name]), name


def test_measuring_leaves_everything_as_it_was():
    model = Network().eval()
    model.norm.train()
    before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    buffers = {name: id(b) for name, b in model.named_buffers()}
    x = torch.randn(8, 3, 6, 6)
    given, state = x.clone(), torch.get_rng_state()
    measure(model, x, scale=2.0)
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), state)
    assert flags == [m.training for m in model.modules()]
    assert buffers == {name: id(b) for name, b in model.named_buffers()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_error_in_the_model_leaves_everything_as_it_was_too():
    model = nn.Sequential(nn.BatchNorm1d(3), DropActivation(), nn.Linear(4, 2))  # the shapes do not fit
    with pytest.raises(RuntimeError):
        measure(model, torch.randn(8, 3))
    assert model[0].num_batches_tracked == 0
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_masks_measured_are_those_that_the_step_draws():
    model = nn.Sequential(nn.Identity(), DropActivation(0.3))
    x = -torch.ones(1000)
    with record(model, [DropRate()], every=1) as recording:
        rates = [(model(x) != 0).float().mean().item() for _ in range(3)]
    assert [value for _, value in recording.series("drop_rate", "1")] == pytest.approx(rates, rel=1e-6)
    assert len(set(rates)) > 1


def test_sites_are_named_and_counted():
    readings = {r.site: r.values for r in measure(Network(), torch.randn(8, 3, 6, 6), scale=1.0)}
    assert list(readings) == ["act", "rrelu", "gelu", "gelu:2", ""]
    shared = {"variance_shift", "negative_share", "dead_units", "effective_slope"}
    assert set(readings["act"]) == set(readings["gelu:2"]) == shared | {"drop_rate"}
    assert set(readings["rrelu"]) == shared
    assert set(readings[""]) == {"output_gap"}


@pytest.mark.parametrize("inplace", [False, True])
def test_rates_and_slopes_are_those_of_the_method(inplace):
    x = torch.randn(100, 1000)
    for layer, rate in ((DropActivation(0.05, inplace=inplace), 0.05), (DropActivation(0.3, "gelu"), 0.3)):
        values = measure(nn.Sequential(layer), x, probes=[DropRate()])[0].values
        assert abs(values["drop_rate"] - rate) < MOST_SIGMAS * (rate * (1 - rate) / (x < 0).sum().item()) ** 0.5
    for layer, slope, spread in (
        (DropActivation(0.05, inplace=inplace), 0.05, (0.05 * 0.95) ** 0.5),
        (RandomizedReLU(inplace=inplace), 11 / 48, (1 / 3 - 1 / 8) / 12**0.5),
    ):
        values = measure(nn.Sequential(layer), x, probes=[NegativeSide()])[0].values
        below = x.clamp(max=0)
        error = spread * below.norm().item() / -below.sum().item()
        assert abs(values["effective_slope"] - slope) < MOST_SIGMAS * error
        assert values["negative_share"] == pytest.approx((x < 0).float().mean().item(), rel=1e-6)


def test_dead_units_are_channels_that_never_rise_above_zero():
    x = torch.randn(6, 5, 3, 3)
    x[:, 1] = -x[:, 1].abs()
    x[:, 2] = 0
    x[:, 3] = -1
    x[5, 3, 2, 2] = 1e-30
    assert measure(nn.Sequential(DropActivation()), x, probes=[NegativeSide()])[0].values["dead_units"] == (
        pytest.approx(2 / 5)
    )


@pytest.mark.parametrize("shape", [(400, 7), (50, 7, 4, 5), (60, 7, 9), (30,), (1, 7), (2, 3, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_variance_shift_is_the_ratio_of_mean_channel_variances(shape, dtype):
    model = nn.Sequential(nn.Identity(), DropActivation(0.3))
    x = (torch.randn(shape) * 2 + 1).to(dtype)
    torch.manual_seed(3)
    found = measure(model, x, probes=[VarianceShift()])[0].values["variance_shift"]
    torch.manual_seed(3)
    ratio = 1.0
    for mode in (True, False):
        y = model.train(mode)(x).double()
        channels = y.movedim(1, 0).flatten(1) if x.dim() > 1 else y[None]
        variance = ((channels - channels.mean(1, keepdim=True)) ** 2).mean().item()
        ratio = ratio / variance if mode and variance else ratio * variance if variance else float("nan")
    assert found == pytest.approx(ratio, rel=1e-5, nan_ok=True)


def test_variance_shift_of_normal_inputs_is_equation_15():
    model = nn.Sequential(DropActivation(0.05))
    found = measure(model, torch.randn(200_000, 8), probes=[VarianceShift()])[0].values["variance_shift"]
    # The ratio's standard error is below 1 / sqrt(n): all fourth moments here are below 2.2 squared variances.
    assert abs(found - variance_shift("relu", 0.05)) < MOST_SIGMAS / 1.6e6**0.5


def test_figure_6_names_a_module_and_batchnorm_counts_as_in_evaluation():
    model = nn.Sequential(nn.Sequential(nn.Linear(5, 5), DropActivation(0.4)), nn.BatchNorm1d(5))
    x = torch.randn(64, 5)
    found = {r.site: r.values for r in measure(model, x, probes=[VarianceShift(("0", "1"))])}
    assert list(found) == ["0", "1"]
    # Running statistics of a network never trained are 0 and 1: evaluation does not normalise, training does.
    evaluated = model.eval()(x).var(0, correction=0).mean().item()
    assert found["1"]["variance_shift"] == pytest.approx(evaluated, rel=1e-4)
    with pytest.raises(ValueError, match=r"the model has no module 'stage2', accepted: 0, 0\.0, 0\.1, 1"):
        measure(model, x, probes=[VarianceShift(("stage2",))])
    with (
        pytest.raises(ValueError, match="the model has no module 'stage2'"),
        record(model, [VarianceShift(("stage2",))]),
    ):
        pass


def test_output_gap():
    model = nn.Sequential(nn.Dropout(0.5))
    torch.manual_seed(5)
    gap = measure(model, torch.ones(100), probes=[OutputGap()])[0].values["output_gap"]
    torch.manual_seed(5)
    assert gap == pytest.approx((model(torch.ones(100)) - 1).norm().item() / 10, rel=1e-6)
    assert measure(model.eval(), torch.ones(100), probes=[OutputGap()])[0].values["output_gap"] == pytest.approx(1)


def test_a_hook_that_changes_the_arguments_changes_them_once():
    model = nn.Sequential(DropActivation(0.5))
    model.register_forward_pre_hook(lambda module, args: (args[0] - 10,))
    with record(model, [NegativeSide()], every=1) as recording:
        model(torch.full((100,), 15.0))
    assert recording.series("negative_share", "0") == [(0, 0.0)]  # 5; twice changed it were -5


def test_frozen_batchnorm_stays_frozen_while_recording():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), DropActivation(0.0))
    model[1].eval()
    with record(model, [OutputGap()], every=1) as recording:
        model(torch.randn(8, 4))
    assert recording.series("output_gap", "") == [(0, 0.0)]


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_is_recorded_by_what_compile_returned_and_not_compiled_again():
    compilations, weights = [], []

    def backend(graph, examples):
        compilations.append(graph)
        return graph.forward

    def trained(every):
        torch.manual_seed(0)
        torch._dynamo.reset()
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), DropActivation(0.1), nn.Linear(8, 2))
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with record(compiled, every=every) as recording:
            for _ in range(4):
                optimizer.zero_grad()
                compiled(torch.randn(16, 4)).square().sum().backward()
                optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in model.state_dict().values()]))
        return [r.step for r in recording.readings if r.site == "2"]

    assert trained(every=100) == [0]
    assert trained(every=2) == [0, 2]
    assert len(compilations) == 2
    assert torch.equal(*weights)


def test_a_model_compiled_in_place_is_refused_and_silence_is_not_taken_for_success():
    model = nn.Sequential(DropActivation())
    with pytest.warns(UserWarning, match="nothing was recorded"), record(model):
        model.eval()(torch.randn(3))
    model.compile(backend="eager")
    with pytest.raises(ValueError, match=r"compiled in place by model.compile\(\)"), record(model):
        pass


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_every_is_a_whole_number(every):
    with (
        pytest.raises(ValueError, match="every must be a whole number of at least 1, got"),
        record(nn.ReLU(), every=every),
    ):
        pass


def test_a_probe_of_one_s_own():
    class Largest:
        both_modes = False

        def sites(self, model):
            return {"0": model[0]}

        def observe(self, module, x, y):
            return y.max()

        def combine(self, train, evaluation):
            assert evaluation is None
            return {"largest": train}

    (reading,) = measure(nn.Sequential(nn.Identity(), DropActivation()), torch.tensor([1.0, 5.0]), probes=[Largest()])
    assert reading.values == {"largest": 5.0}


def test_a_converted_network_is_recorded_at_every_site():
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    receipt = dropact.convert_(network, DropActivation(0.1))
    assert {r.site for r in measure(network, torch.randn(8, 3))} == {change.name for change in receipt} | {""}


class WithAuxiliaryHead(nn.Module):
    """In training it calls a head of its own, and one layer twice, as torchvision's inception_v3 does."""

    def __init__(self):
        super().__init__()
        self.body, self.act = nn.Linear(8, 8), DropActivation(0.2)
        self.head, self.out = nn.Sequential(nn.Linear(8, 8), DropActivation(0.2)), nn.Linear(8, 2)

    def forward(self, x):
        y = self.act(self.body(x))
        if not self.training:
            return self.out(y)
        return self.out(self.act(y - 1)), self.head(y)


def test_a_site_that_only_training_calls_has_no_shift():
    model, x = WithAuxiliaryHead(), torch.randn(64, 8)
    readings = {r.site: r.values for r in measure(model, x)}
    with record(model, [VarianceShift()], every=1) as recording:
        model(x)
    inspected = {layer.name: layer.measured for layer in inspect(model, x).layers}
    for shifts in (
        {site: values["variance_shift"] for site, values in readings.items() if site},
        {site: value for site in ("act", "act:2", "head.1") for _, value in recording.series("variance_shift", site)},
        inspected,
    ):
        assert {site: math.isnan(value) for site, value in shifts.items()} == {
            "act": False,
            "act:2": True,
            "head.1": True,
        }
    assert math.isfinite(readings["head.1"]["drop_rate"])


@pytest.mark.parametrize("look", [measure, dropact.coverage])
def test_a_look_takes_no_shared_decision(look):
    """One rank alone may look: afterwards all of them have to count the same."""
    model = nn.Sequential(*(dropact.StochasticDepth(nn.Linear(4, 4), 0.5, shared=seed) for seed in range(2)))
    x = torch.randn(3, 4)
    model(x)
    numbers = [dict(layer.sum.shared._numbers) for layer in model]
    look(model, x)
    assert [layer.sum.shared.count for layer in model] == [1, 1]
    assert [layer.sum.shared._numbers for layer in model] == numbers
