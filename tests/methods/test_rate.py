"""The rate of a layer, number and buffer: one and the same wherever the layer goes and whoever writes the buffer."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from dropact import AID, DropActivation, StochasticDepth, convert_


class MetaLacksFloat64(TorchDispatchMode):
    """Lets the meta device stand for MPS, which takes no float64 tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        to_meta = func is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("meta")
        if to_meta and args[0].dtype == torch.float64:
            raise TypeError("the device has no float64")
        return func(*args, **kwargs)


def test_a_rate_is_brought_to_a_device_without_its_dtype():
    layer = DropActivation(0.3, nn.PReLU())
    layer._rate.fill_(0.4)
    with MetaLacksFloat64():
        layer.to("meta")
    assert layer.activation.weight.is_meta
    assert layer._rate.is_meta
    assert layer.to_empty(device="cpu")._rate.item() == layer.drop_prob == 0.4


def test_a_network_is_converted_on_a_device_without_the_dtype_of_a_rate():
    model = nn.Sequential(nn.Linear(3, 3, device="meta"), nn.ReLU())
    with MetaLacksFloat64():
        convert_(model, DropActivation(0.3))
    assert model[1]._rate.is_meta
    assert model.to_empty(device="cpu")[1]._rate.item() == 0.3


def test_a_rate_in_shared_memory_stays_there():
    layer = DropActivation(0.3).share_memory()
    buffer = layer._rate
    layer.drop_prob = 0.2
    assert layer._rate is buffer
    assert buffer.is_shared()


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_has_the_rate_that_others_wrote(how):
    layer = DropActivation(0.1).eval()
    layer._rate.fill_(0.4)  # as AveragedModel.update_parameters does
    twin = copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))
    assert twin(torch.tensor(-1.0)).item() == pytest.approx(-0.4)
    assert twin.folded().negative_slope == 0.4


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_what_was_made_on_the_meta_device_is_exported_for_evaluation(activation):
    plain, x = nn.Sequential(nn.Linear(4, 4)), torch.randn(5, 4)
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(4, 4), DropActivation(0.3, activation)).eval()
    net.load_state_dict(plain.state_dict(), assign=True)
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(exported(x), net(x))


LAYERS = {
    "drop_activation": lambda rate: DropActivation(rate),
    "drop_activation-tanh": lambda rate: DropActivation(rate, "tanh"),
    "aid": lambda rate: AID(rate),
    "stochastic_depth": lambda rate: StochasticDepth(nn.Linear(3, 3), rate),
}


def models_of(name):
    return [nn.Sequential(nn.Linear(3, 3), LAYERS[name](rate)).eval() for rate in (0.1, 0.25, 0.0, 1.0)]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_functional_call_takes_the_rate_that_it_is_given(name, device):
    x, (model, *others) = torch.randn(5, 3), models_of(name)
    base = copy.deepcopy(model).to(device)
    for other in (*others, model):
        state = dict(other.named_parameters()), dict(other.named_buffers())
        torch.testing.assert_close(functional_call(base, state, (x,)), other(x))
    assert [m.drop_prob for m in base.modules() if hasattr(m, "drop_prob")][-1] == 0.1


def test_a_branch_is_skipped_at_the_rate_that_a_functional_call_is_given():
    x, kept, dropped = torch.randn(5, 3), *(StochasticDepth(nn.Linear(3, 3), rate) for rate in (0.0, 1.0))
    assert torch.equal(functional_call(kept, dict(dropped.named_buffers()), (x,)), x)
    assert not torch.equal(kept(x), x)


@pytest.mark.parametrize("name", LAYERS)
def test_an_ensemble_is_evaluated_at_the_rate_of_each(name):
    x, models = torch.randn(5, 3), models_of(name)
    base = copy.deepcopy(models[0]).to("meta")
    y = vmap(lambda *state: functional_call(base, state, (x,)))(*stack_module_state(models))
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

    found = torch.func.functional_call(Asking(), {"layer._rate": lent}, torch.ones(()))
    assert found == 0.75
    assert layer.rate() == layer.drop_prob == 0.25
    assert isinstance(layer.rate(), float)
