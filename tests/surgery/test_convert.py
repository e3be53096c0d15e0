import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropact
from dropact import DropActivation, RandomizedReLU, convert_


class Shared(nn.Module):
    """One ReLU module under three names, and a block used twice."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.block = nn.Sequential(nn.Linear(4, 4), self.act)
        self.again = self.block
        self.head = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.PReLU(), nn.Softmax(-1))

    def forward(self, x):
        return self.head(self.act(self.again(self.block(x))))


@pytest.mark.parametrize("split_shared", [True, False])
def test_every_activation_is_converted(split_shared):
    model = Shared()
    receipt = convert_(model, DropActivation(0.1), split_shared=split_shared)
    assert isinstance(model.act, DropActivation)
    assert isinstance(model.block[1], DropActivation)
    assert (model.block[1] is model.act) == (not split_shared)
    assert model.again is model.block
    assert [type(m) for m in model.head] == [nn.Linear, DropActivation, DropActivation, nn.Softmax]
    assert [c.name for c in receipt] == ["act", "block.1", "head.1", "head.2"]
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    model(torch.randn(2, 4)).sum().backward()


@pytest.mark.parametrize("split_shared", [True, False])
def test_an_activation_with_parameters_stays_one(split_shared):
    act = nn.PReLU()
    model = nn.Sequential(nn.Linear(2, 2), act, nn.Linear(2, 2), act)
    keys = list(model.state_dict())
    convert_(model, DropActivation(0.1), split_shared=split_shared)
    assert model[1] is model[3]
    assert list(model.state_dict()) == keys


def test_parameters_and_state_dict_keys_stay():
    model = Shared()
    plain = copy.deepcopy(model)
    ids = {id(p) for p in model.parameters()}
    convert_(model, DropActivation(0.1))
    assert {id(p) for p in model.parameters()} == ids
    assert list(model.state_dict()) == list(plain.state_dict())
    model.load_state_dict(plain.state_dict(), strict=True)
    plain.load_state_dict(model.state_dict(), strict=True)


def test_twice_is_once():
    model = Shared()
    convert_(model, DropActivation(0.1))
    modules = list(model.modules())
    receipt = convert_(model, DropActivation(0.1))
    assert len(receipt) == 0
    assert {skip.reason for skip in receipt.skipped} == {"already so"}
    assert all(a is b for a, b in zip(modules, model.modules(), strict=True))


def _spellings():
    for relu, silu in (("relu", "silu"), (F.relu, F.silu), (nn.ReLU(), nn.SiLU()), (torch.relu, nn.SiLU(inplace=True))):
        yield dropact.StochasticActivation(0.3, relu, silu, evaluation=relu), nn.ReLU
        yield dropact.SurrogateGradient("b_silu", relu), nn.ReLU
    for gelu in ("gelu", F.gelu, nn.GELU()):
        yield dropact.StochasticActivation(0.3, gelu, torch.square), nn.GELU
        yield dropact.SurrogateGradient("b_silu", gelu), nn.GELU
    yield dropact.GAAF(F.gelu, shape=torch.sigmoid), nn.GELU
    yield dropact.StochasticActivation(0.3, nn.ELU(0.3), "tanh"), lambda: nn.ELU(0.3)


@pytest.mark.parametrize(("method", "activation"), list(_spellings()))
def test_an_activation_is_the_same_however_it_is_given(method, activation):
    model = nn.Sequential(nn.Linear(4, 4), activation(), nn.Tanh())
    receipt = convert_(model, method)
    assert [change.name for change in receipt] == ["1"]
    layer = model[1]
    assert len(convert_(model, method)) == 0
    assert model[1] is layer


def test_another_method_replaces_the_first():
    model = nn.Sequential(nn.ReLU(), nn.GELU())
    convert_(model, DropActivation(0.1))
    convert_(model, DropActivation(0.2, granularity="channel"))
    assert [m.drop_prob for m in model] == [0.2, 0.2]
    assert [m.activation for m in model] == ["relu", "gelu"]
    receipt = convert_(model, RandomizedReLU())
    assert isinstance(model[0], RandomizedReLU)
    assert isinstance(model[1], DropActivation)
    assert receipt.skipped[0].reason == "the method does not replace this activation"
    convert_(model, DropActivation(0.3))
    assert (model[0].activation, model[0].drop_prob) == ("relu", 0.3)


def test_undo_is_exact():
    model = Shared().eval()
    before = dict(model.named_modules(remove_duplicate=False))
    x = torch.randn(3, 4)
    expected, keys = model(x), list(model.state_dict())
    receipt = convert_(model, DropActivation(0.1))
    assert not torch.equal(model(x), expected)
    receipt.undo()
    after = dict(model.named_modules(remove_duplicate=False))
    assert list(before) == list(after)
    assert all(after[name] is module for name, module in before.items())
    assert torch.equal(model(x), expected)
    assert list(model.state_dict()) == keys


def test_undo_refuses_when_the_model_was_changed_since():
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    receipt = convert_(model, DropActivation(0.1))
    model[1] = nn.Identity()
    with pytest.raises(RuntimeError, match="'1' should hold the DropActivation"):
        receipt.undo()
    assert isinstance(model[0], DropActivation)


def test_hooks_move_with_the_site_and_fire_once():
    for stock in (nn.ReLU(), nn.ELU(0.5)):
        model = nn.Sequential(nn.Linear(3, 3), stock)
        seen = []
        handle = model[1].register_forward_hook(lambda m, i, o, seen=seen: seen.append(type(m).__name__))
        model[1].register_forward_pre_hook(lambda m, i, k, seen=seen: seen.append("pre"), with_kwargs=True)
        model[1].register_full_backward_hook(lambda m, i, o, seen=seen: seen.append("backward"))
        receipt = convert_(model, DropActivation(0.5))
        model(torch.randn(2, 3)).sum().backward()
        assert seen == ["pre", "DropActivation", "backward"]
        receipt.undo()
        seen.clear()
        model(torch.randn(2, 3)).sum().backward()
        assert seen == ["pre", type(stock).__name__, "backward"]
        handle.remove()  # the handle taken before the conversion still works
        seen.clear()
        model(torch.randn(2, 3))
        assert seen == ["pre"]


def test_layers_made_of_one_module_share_its_hooks():
    act = nn.ReLU()
    model = nn.Sequential(act, nn.Linear(3, 3), act)
    seen = []
    handle = act.register_forward_hook(lambda m, i, o: seen.append(m))
    receipt = convert_(model, DropActivation(0.5))
    model(torch.randn(2, 3))
    assert seen == [model[0], model[2]]
    assert model[0] is not model[2]
    handle.remove()
    seen.clear()
    model(torch.randn(2, 3))
    assert seen == []
    model[2].register_forward_hook(lambda m, i, o: seen.append(m))
    model(torch.randn(2, 3))
    receipt.undo()
    assert model[0] is model[2] is act


def test_hooks_of_one_new_layer_are_not_those_of_its_twin():
    act = nn.ReLU()
    model = nn.Sequential(act, nn.Linear(3, 3), act)
    convert_(model, DropActivation(0.5))
    seen = []
    model[2].register_forward_hook(lambda m, i, o: seen.append(m))
    model(torch.randn(2, 3))
    assert seen == [model[2]]


def test_train_flag_inplace_dtype_and_device_are_kept():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.PReLU()).to(torch.bfloat16)
    model[1].eval()
    receipt = convert_(model, DropActivation(0.5))
    assert [m.training for m in model] == [True, False, True]
    assert model[1].inplace
    assert model[2].activation.weight.dtype == torch.bfloat16
    model.eval()
    receipt.undo()
    assert not model[2].training
    meta = nn.Sequential(nn.Linear(3, 3, device="meta"), nn.ReLU())
    convert_(meta, DropActivation(0.5))
    assert meta(torch.randn(2, 3, device="meta")).is_meta


def test_where_gets_name_and_module():
    model = nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU(), nn.GELU())
    receipt = convert_(model, DropActivation(0.5), where=lambda name, m: name == "0.0" or isinstance(m, nn.GELU))
    assert [c.name for c in receipt] == ["0.0", "2"]
    assert [s.name for s in receipt.skipped] == ["1"]
    assert isinstance(model[1], nn.ReLU)


def test_method_may_be_a_function():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh())
    names = []

    def method(name, act):
        names.append(name)
        return nn.Sequential(act, nn.Dropout(0.5)) if isinstance(act, nn.ReLU) else None

    receipt = convert_(model, method)
    assert names == ["1", "2"]
    assert isinstance(model[1], nn.Sequential)
    assert isinstance(model[2], nn.Tanh)
    assert receipt.skipped[0].reason == "the method leaves it"
    convert_(nn.Sequential(nn.ReLU(), nn.GELU()), lambda name, act: DropActivation((int(name) + 1) / 10))
    with pytest.raises(TypeError, match=r"1\.0: a layer or None was expected of the method, got float"):
        convert_(model, lambda name, act: 0.5)


def test_a_mapping_gives_sites_methods_of_their_own():
    def build():
        return nn.Sequential(nn.Sequential(nn.ReLU(), nn.GELU()), nn.ReLU(), nn.Tanh(), nn.SiLU())

    model = build()
    rates = {"0.1": DropActivation(0.1), "0.*": DropActivation(0.2), "2": None, "?": DropActivation(0.3)}
    receipt = convert_(model, rates)
    assert {c.name: (c.after.drop_prob, c.after.activation) for c in receipt} == {
        "0.0": (0.2, "relu"),
        "0.1": (0.1, "gelu"),
        "1": (0.3, "relu"),
        "3": (0.3, "silu"),
    }
    assert [(s.name, s.reason) for s in receipt.skipped] == [("2", "the method leaves it")]
    assert len(convert_(model, rates)) == 0
    untouched = build()
    with pytest.raises(ValueError, match="'head' of the mapping matches no site"):
        convert_(untouched, {"*": DropActivation(0.1), "head": DropActivation(0.2)})
    assert isinstance(untouched[1], nn.ReLU)
    with pytest.raises(TypeError, match=r"a mapping must lead from names .* got '1': 0.5"):
        convert_(untouched, {"1": 0.5})
    receipt = convert_(untouched, {"0.0": DropActivation(0.1)})
    assert {s.reason for s in receipt.skipped} == {"no name or pattern of the mapping is its own"}


def test_nothing_changes_when_a_decision_fails():
    model = nn.Sequential(nn.ReLU(), nn.ReLU())

    def fail_at_the_second(name, module):
        if name == "1":
            raise KeyError(name)
        return True

    with pytest.raises(KeyError):
        convert_(model, DropActivation(0.5), where=fail_at_the_second)
    assert [type(m) for m in model] == [nn.ReLU, nn.ReLU]


def test_nothing_found_says_what_was_looked_for():
    with pytest.raises(ValueError, match=r"Looked for .*; the model has 2 Linear, 1 Softmax$"):
        convert_(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Softmax(-1)), DropActivation(0.5))
    with pytest.raises(ValueError, match=r"0: where\(name, module\) is false"):
        convert_(nn.Sequential(nn.ReLU()), DropActivation(0.5), where=lambda n, m: False)
    with pytest.raises(ValueError, match="does not replace this activation"):
        convert_(nn.Sequential(nn.GELU()), RandomizedReLU())
    with pytest.raises(ValueError, match="itself an activation, ReLU"):
        convert_(nn.ReLU(), DropActivation(0.5))


@pytest.mark.parametrize(
    ("method", "came"),
    [
        (DropActivation, "the class DropActivation"),
        (dropact.AID, "the class AID"),
        (dropact.functional.stocha, "the function stocha"),
        (nn.LeakyReLU(0.1), "LeakyReLU"),
        ("drop", "'drop'"),
        (None, "None"),
    ],
)
def test_wrong_methods_are_named(method, came):
    with pytest.raises(TypeError, match=f"method must be a layer such as .* got {came}"):
        convert_(nn.Sequential(nn.ReLU()), method)


def test_converted_model_can_be_copied_and_compiled():
    torch._dynamo.reset()
    model = Shared()
    convert_(model, DropActivation(0.1))
    twin = copy.deepcopy(model)
    assert twin.again is twin.block
    compiled = torch.compile(twin, fullgraph=True)
    x = torch.randn(2, 4)
    outputs = []
    for _ in range(2):
        torch.manual_seed(0)
        outputs.append([compiled(x) for _ in range(8)])
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))  # torch.manual_seed repeats it
    assert any(not torch.equal(outputs[0][0], other) for other in outputs[0][1:])  # and every call draws anew
    torch.testing.assert_close(compiled.eval()(x), model.eval()(x), rtol=1e-5, atol=1e-6)


def test_receipt_prints_every_site():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.GELU()))
    receipt = dropact.convert_(model, DropActivation(0.05), where=lambda n, m: n != "1")
    assert str(receipt).splitlines() == [
        "1 site changed",
        "  site  before                    after",
        "  2.0   GELU(approximate='none')  DropActivation(drop_prob=0.05, activation=gelu)",
        "1 left as they are",
        "  site  what    why",
        "  1     ReLU()  where(name, module) is false",
    ]


class Wide(nn.Module):
    """A block whose representation is long, and a name that is."""

    def __init__(self):
        super().__init__()
        self.layers_of_the_very_first_stage_of_the_network = nn.Sequential(
            *(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(9))
        )

    def forward(self, x, act=F.gelu):
        return act(self.layers_of_the_very_first_stage_of_the_network(x))


def test_a_receipt_has_lines_of_at_most_100_columns_and_loses_nothing():
    model = nn.Sequential(*(nn.Sequential(nn.Sequential(Wide())) for _ in range(2)))
    with pytest.warns(UserWarning, match="2 activations could not be converted"):
        receipt = dropact.convert_(model, DropActivation(0.05))
    lines = str(receipt).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum("layers_of_the_very_first_stage_of_the_network" in line for line in lines) == 18  # one line a site
    assert "  (1) DropActivation(drop_prob=0.05, activation=relu)" in lines
    assert "2 left as they are, 2 of them missed" in lines
    plain = json.loads(json.dumps(receipt.to_dict()))
    assert [change["name"] for change in plain["changes"]] == [change.name for change in receipt]
    assert plain["changes"][0]["after"] == "DropActivation(drop_prob=0.05, activation=relu)"
    assert [(skip["reason"], skip["missed"]) for skip in plain["skipped"]] == [
        (skip.reason, True) for skip in receipt.skipped
    ]
    assert max(map(len, str(dropact.coverage(model, torch.ones(1, 2))).splitlines())) <= 100
