"""A layer's number is its rate wherever the layer goes and whoever touches the tensors of the model."""

import copy
import gc
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from dropact import AID, DropActivation, StochasticDepth, convert_, fold_, schedules

LAYERS = {
    "drop_activation": lambda rate: DropActivation(rate),
    "drop_activation-tanh": lambda rate: DropActivation(rate, "tanh"),
    "aid": lambda rate: AID(rate),
    "stochastic_depth": lambda rate: StochasticDepth(nn.Linear(3, 3), rate),
}
X = torch.linspace(-2, 2, 15).view(5, 3)


def net(name="drop_activation", rate=0.3):
    return nn.Sequential(nn.Linear(3, 3), LAYERS[name](rate))


def rates_of(model):
    """Of each layer its number, what its evaluation shows and what compiled code reads: all the same, or none."""
    found = []
    for module in model.modules():
        if isinstance(module, DropActivation):
            shown = -copy.copy(module).eval()(torch.tensor(-1.0)).item()
            assert module.drop_prob == pytest.approx(shown, abs=1e-7)
            assert module._rate.item() == module.drop_prob
            found.append(module.drop_prob)
    return found


class MetaLacksFloat64(TorchDispatchMode):
    """Lets the meta device stand for MPS, which takes no float64 tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        to_meta = func is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("meta")
        if to_meta and args[0].dtype == torch.float64:
            raise TypeError("the device has no float64")
        return func(*args, **kwargs)


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_has_no_tensor_that_holds_a_rate(name):
    """What is no buffer cannot be initialised, averaged, broadcast, rounded, sharded or saved."""
    plain, model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), net(name)
    assert list(model.buffers()) == list(plain.buffers()) == []
    assert {t.dim() for t in model.state_dict().values()} <= {1, 2}
    assert pickle.loads(pickle.dumps(model))[1].drop_prob == 0.3


def test_a_device_need_not_have_the_dtype_of_a_rate():
    layer = DropActivation(0.3, nn.PReLU())
    model = nn.Sequential(nn.Linear(3, 3, device="meta"), nn.ReLU())
    with MetaLacksFloat64():
        layer.to("meta")
        convert_(model, DropActivation(0.3))
    assert layer.activation.weight.is_meta
    assert rates_of(model.to_empty(device="cpu")) == [0.3]
    assert layer.to_empty(device="cpu").drop_prob == 0.3


@pytest.mark.parametrize("how", ["to_empty", "assign", "empty_like"])
def test_what_is_made_on_the_meta_device_has_its_rates_when_it_gets_its_weights(how):
    state = net().state_dict()
    with torch.device("meta"):
        model = net()
    if how == "to_empty":
        model.to_empty(device="cpu").load_state_dict(state)
    elif how == "assign":
        model.load_state_dict(state, assign=True)
        model = model.to("cpu")
    else:  # as transformers makes what a checkpoint lacks
        for module in model.modules():
            for kind in (module._parameters, module._buffers):
                for name, tensor in kind.items():
                    kind[name] = nn.Parameter(torch.full_like(tensor, torch.nan, device="cpu"))
        model.load_state_dict(state)
    assert rates_of(model) == [0.3]
    assert [layer.negative_slope for layer in fold_(model).model if isinstance(layer, nn.LeakyReLU)] == [0.3]


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, nn.Module.double])
def test_a_cast_rounds_no_rate(cast):
    assert rates_of(cast(net(rate=0.05)).float()) == [0.05]


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.9)])
def test_an_average_of_weights_is_evaluated_at_the_rate_of_its_model(use_buffers, average):
    """Annealed by a schedule, from before the copy was made and from after it, through several updates."""
    model = nn.Sequential(net(rate=0.3), net(rate=0.5))
    schedule = schedules.anneal(model, "linear", steps=10)
    averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=use_buffers)
    for _ in range(5):
        schedule.step()
        averaged.update_parameters(model)
    assert rates_of(averaged) == rates_of(model) == [0.15, 0.25]


def test_an_average_by_hand_and_a_copy_of_a_copy_too():
    model = net(rate=0.4)
    average = copy.deepcopy(model)
    twice = copy.deepcopy(average)
    schedule = schedules.anneal(model, "linear", steps=4)
    schedule.step()
    for one, other in zip(average.parameters(), model.parameters(), strict=True):
        one.data.mul_(0.9).add_(other.data, alpha=0.1)
    for one, other in zip(average.buffers(), model.buffers(), strict=True):
        one.data = other.data
    assert rates_of(average) == rates_of(twice) == rates_of(model) == [0.1]


def test_timms_averages_too():
    utils = pytest.importorskip("timm.utils")
    model = net(rate=0.4)
    averages = [utils.ModelEmaV2(model, decay=0.5), utils.ModelEmaV3(model, decay=0.5)]
    schedule = schedules.anneal(model, "linear", steps=4)
    for _ in range(2):
        schedule.step()
        for average in averages:
            average.update(model)
    assert [rates_of(average.module) for average in averages] == [[0.2], [0.2]]


def test_a_copy_that_has_been_set_or_pickled_goes_its_own_way():
    model = net(rate=0.4)
    own, saved = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    own[1].drop_prob = own[1].drop_prob
    schedules.anneal(model, "linear", steps=4).step()
    model[1].drop_prob = 0.25  # by hand: it says nothing of copies
    assert (rates_of(own), rates_of(saved), rates_of(copy.copy(model[1]))) == ([0.4], [0.4], [0.25])
    own[1].drop_prob = 0.75
    assert rates_of(model) == [0.25]


def test_an_original_keeps_no_copy_alive():
    layer = DropActivation(0.4)
    for _ in range(3):
        copy.deepcopy(layer)
    gc.collect()
    assert len(layer._copies) == 0


def test_a_schedule_compiles_nothing_again():
    model, graphs = net(), []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(model, backend=counting)
    schedule = schedules.anneal(model, "linear", steps=50)
    x = torch.full((4, 3), -1.0)
    for _ in range(50):
        schedule.step()
        model.train()
        compiled(x)
        with torch.no_grad():
            model.eval()
            y = compiled(x)
    torch.testing.assert_close(y, model(x))
    assert len(graphs) <= 2


@pytest.mark.parametrize("name", ["drop_activation", "drop_activation-tanh"])
def test_compiled_training_draws_at_the_rate_that_was_set_last(name):
    model = nn.Sequential(LAYERS[name](0.0))
    compiled = torch.compile(model, backend="aot_eager")
    x = torch.full((64,), -0.5)
    assert not (compiled(x) == x).any()
    model[0].drop_prob = 1.0
    assert (compiled(x) == x).all()


def test_a_layer_made_in_inference_mode_can_be_set_outside_of_it():
    with torch.inference_mode():
        layer = DropActivation(0.3)
    layer.drop_prob = 0.2
    assert rates_of(layer) == [0.2]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_what_was_made_on_the_meta_device_is_exported_for_evaluation(activation):
    plain, x = nn.Sequential(nn.Linear(4, 4)), torch.randn(5, 4)
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), DropActivation(0.3, activation)).eval()
    model.load_state_dict(plain.state_dict(), assign=True)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


def models_of(name):
    return [net(name, rate).eval() for rate in (0.1, 0.25, 0.0, 1.0)]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_functional_call_takes_the_rate_that_it_is_given(name, device):
    x, (model, *others) = torch.randn(5, 3), models_of(name)
    base = copy.deepcopy(model).to(device)
    for other in (*others, model):
        state = dict(other.named_parameters()), schedules.rates(other)
        torch.testing.assert_close(functional_call(base, state, (x,)), other(x))
    assert [m.drop_prob for m in base.modules() if hasattr(m, "drop_prob")][-1] == 0.1


def test_a_branch_is_skipped_at_the_rate_that_a_functional_call_is_given():
    x, kept, dropped = torch.randn(5, 3), *(StochasticDepth(nn.Linear(3, 3), rate) for rate in (0.0, 1.0))
    assert torch.equal(functional_call(kept, schedules.rates(dropped), (x,)), x)
    assert not torch.equal(kept(x), x)


@pytest.mark.parametrize("name", LAYERS)
def test_an_ensemble_is_evaluated_at_the_rate_of_each(name):
    x, models = torch.randn(5, 3), models_of(name)
    base = copy.deepcopy(models[0]).to("meta")
    params, buffers = stack_module_state(models)
    each = [schedules.rates(model) for model in models]
    stacked = {name: torch.stack([rates[name] for rates in each]) for name in each[0]}
    y = vmap(lambda *state: functional_call(base, state, (x,)))(params, buffers, stacked)
    torch.testing.assert_close(y, torch.stack([model(x) for model in models]))


def test_a_rate_that_is_lent_is_told_and_then_forgotten():
    layer = DropActivation(0.25)
    lent = torch.tensor(0.75, dtype=torch.float64)

    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return x * self.layer.drop_prob

    found = functional_call(Asking(), {"layer._rate": lent}, torch.ones(()))
    assert found == 0.75
    assert layer.rate() == layer.drop_prob == 0.25
    assert isinstance(layer.rate(), float)
