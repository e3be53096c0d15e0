"""Activations where people keep them: converted or named, with and without a run, and never passed over."""

import dataclasses
import types
from functools import partial

import pytest
import torch
from nets import Plain
from torch import nn
from torch.nn import functional as F

from dropact import DropActivation, convert_, coverage

X = torch.linspace(-2, 2, 12).view(3, 4)
ACTS = {"relu": F.relu, "gelu": F.gelu}
ACT = nn.ReLU()


def swish(x):
    return x * torch.sigmoid(x)


def twice_swish(x):
    return swish(x) + swish(x)


class Made(Plain):
    def forward(self, x):
        return nn.LeakyReLU(0.5, inplace=True)(self.one(x))


class MadeOfAClassAttribute(Plain):
    layer = nn.GELU

    def forward(self, x):
        return self.layer()(self.one(x))


class FromATable(Plain):
    kind = "gelu"

    def forward(self, x):
        return ACTS["relu"](ACTS[self.kind](self.one(x)))


class FromAList(Plain):
    def __init__(self):
        super().__init__()
        self.steps = [F.relu, nn.GELU()]

    def forward(self, x):
        return self.steps[0](self.steps[1](self.one(x)))


class ByName(Plain):
    kind = "relu"

    def forward(self, x):
        return getattr(F, self.kind)(self.one(x))


class OfTheClass(Plain):
    one_of_torch, static, part, module = torch.relu, staticmethod(F.gelu), partial(F.elu, alpha=0.5), nn.SiLU()

    def forward(self, x):
        return self.module(self.part(self.static(self.one_of_torch(self.one(x)))))


class Global(Plain):
    def forward(self, x):
        return ACT(self.one(x))


class OfAnObject(Plain):
    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(act=F.relu)

    def forward(self, x):
        return self.config.act(self.one(x))


@dataclasses.dataclass(eq=False)
class Field(nn.Module):
    act: object = F.relu

    def __post_init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)

    def forward(self, x):
        return self.act(self.one(x))


CONVERTED = {
    Made: ["leaky_relu_call1"],
    MadeOfAClassAttribute: ["gelu_call1"],
    FromATable: ["gelu_call1", "relu_call1"],
    FromAList: ["gelu_call1", "relu_call1"],
    ByName: ["relu_call1"],
    OfTheClass: ["relu_call1", "gelu_call1", "elu_call1", "silu_call1"],
    Global: ["relu_call1"],
    OfAnObject: ["relu_call1"],
    Field: ["relu_call1"],
}


@pytest.mark.parametrize("inputs", [None, X], ids=["by source", "by a run"])
@pytest.mark.parametrize("cls", CONVERTED, ids=lambda cls: cls.__name__)
def test_what_the_source_tells_is_converted(cls, inputs):
    torch.manual_seed(0)
    model = nn.Sequential(cls())
    expected = model(X)
    receipt = convert_(model, DropActivation(0.0), inputs=inputs)
    assert [change.name for change in receipt] == [f"0.{name}" for name in CONVERTED[cls]]
    assert not receipt.skipped
    torch.testing.assert_close(model(X), expected, rtol=1e-5, atol=1e-6)
    assert coverage(model, X).complete
    receipt.undo()
    convert_(model, DropActivation(1.0), inputs=inputs)
    torch.testing.assert_close(model(X), model[0].one(X))
    assert not any(module.training for module in model.eval().modules())


class FromATableByArgument(Plain):
    def forward(self, x, kind="relu"):
        return ACTS[kind](self.one(x))


class ByNameOfAnArgument(Plain):
    def forward(self, x, kind="relu"):
        return getattr(F, kind)(self.one(x))


class ADefault(Plain):
    def forward(self, x, *, act=F.gelu):
        return act(self.one(x))


class ThroughTwoFunctions(Plain):
    def forward(self, x):
        return twice_swish(self.one(x))


class StaticMethod(Plain):
    @staticmethod
    def act(x):
        return x * torch.sigmoid(x)

    def forward(self, x):
        return self.act(self.one(x))


@pytest.mark.parametrize(
    "cls",
    [FromATableByArgument, ByNameOfAnArgument, ADefault, ThroughTwoFunctions, StaticMethod],
    ids=lambda cls: cls.__name__,
)
def test_what_a_run_tells_is_named_without_one(cls):
    model = nn.Sequential(cls(), nn.ReLU())
    with pytest.warns(UserWarning, match=r"1 activation could not.* at test_signs.py:\d+ .*give inputs"):
        receipt = convert_(model, DropActivation(0.1))
    assert [change.name for change in receipt] == ["1"]
    receipt.undo()
    assert len(convert_(model, DropActivation(0.1), inputs=X)) == 2
    assert coverage(model, X).complete


class RunsThroughFunctions(Plain):
    def __init__(self):
        super().__init__()
        self.steps = (F.relu, F.gelu)

    def forward(self, x):
        for step in self.steps:
            x = step(self.one(x))
        return x


class RunsThroughModulesOfTheClass(Plain):
    steps = (nn.ReLU(), nn.GELU())

    def forward(self, x):
        for step in self.steps:
            x = step(self.one(x))
        return x


class Property(Plain):
    @property
    def act(self):
        return F.relu

    def forward(self, x):
        return self.act(self.one(x))


class ClassMethod(Plain):
    @classmethod
    def linear_relu(cls, layer, x):
        return F.relu(layer(x))

    def forward(self, x):
        return self.linear_relu(self.one, x)


class Part(Plain):
    def embed(self, x):
        return F.relu(self.one(x))

    def forward(self, x):
        return x


class AnotherMethod(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Part()

    def forward(self, x):
        return self.part.embed(x)


class QuantizedSum(Plain):
    def __init__(self):
        super().__init__()
        self.add = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x):
        return self.add.add_relu(x, self.one(x))


class Hook(Plain):
    def __init__(self):
        super().__init__()
        self.one.register_forward_hook(lambda module, args, output: F.relu(output))

    def forward(self, x):
        return self.one(x)


class Patched(Plain):
    def __init__(self):
        super().__init__()
        self.forward = types.MethodType(lambda self, x: F.relu(self.one(x)), self)


NAMED = {
    RunsThroughFunctions: "self.steps at test_signs.py:{} holds activations; give inputs",
    RunsThroughModulesOfTheClass: "self.steps at test_signs.py:{} holds activations; give inputs",
    Property: "self.act() at test_signs.py:{} may be an activation; give inputs",
    ClassMethod: "self.linear_relu() at test_signs.py:{} calls activations; give inputs",
    AnotherMethod: "embed() calls F.relu() at test_signs.py:{}, and forward does not reach it: make it a module",
    QuantizedSum: "add_relu() calls torch.nn.functional.relu() at functional_modules.py:{}, and forward does not reach",
    Hook: "the hook Hook.__init__.<locals>.<lambda> calls activations; give inputs",
    Patched: "the forward of this Patched was patched on the instance; give inputs",
}


@pytest.mark.parametrize("cls", NAMED, ids=lambda cls: cls.__name__)
def test_what_cannot_be_converted_is_named_with_and_without_a_run(cls):
    model = nn.Sequential(cls(), nn.ReLU())
    with pytest.warns(UserWarning, match="1 activation could not be converted"):
        receipt = convert_(model, DropActivation(0.1))
    (missed,) = [skip.reason for skip in receipt.skipped if skip.missed]
    digits = "".join(c for c in missed.partition(".py:")[2][:6] if c.isdigit())
    assert missed.startswith(NAMED[cls].format(digits))
    receipt.undo()
    with pytest.warns(UserWarning, match="1 activation could not be converted"):
        receipt = convert_(model, DropActivation(0.1), inputs=X)
    assert [change.name for change in receipt] == ["1"]


class Trained(Plain):
    """As Lightning has it: what only its trainer calls."""

    def forward(self, x):
        return self.one(x)

    def training_step(self, batch):
        return F.relu(self(batch)).sum()

    def init_weights(self):
        return torch.tanh(torch.zeros(3))


@pytest.mark.parametrize("inputs", [None, X], ids=["by source", "by a run"])
def test_what_forward_does_not_reach_is_named_without_a_warning(inputs, recwarn):
    receipt = convert_(nn.Sequential(Trained(), nn.ReLU()), DropActivation(0.1), inputs=inputs)
    (skip,) = receipt.skipped
    assert skip.reason.startswith("training_step() calls F.relu() at test_signs.py:")
    assert (skip.name, skip.missed) == ("0", False)
    assert not recwarn.list


class Quiet(Plain):
    """Nothing of this is an activation that runs."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.kinds, self.held = {"relu": 1}, [self.act]
        self.attention = {"eager": lambda module, query, key: torch.tanh(query @ key)}
        self.one.register_forward_hook(lambda module, args, output: output)

    def forward(self, x):
        if isinstance(self.act, nn.ReLU) and self.held[0] is self.act and F.relu is not None:
            x = getattr(self, "one")(x) * self.kinds["relu"]  # noqa: B009
        return self.act(x) if self.attention is not None else x


def test_what_is_none_is_not_named(recwarn):
    receipt = convert_(Quiet(), DropActivation(0.1))
    assert [change.name for change in receipt] == ["act"]
    assert not receipt.skipped
    assert not recwarn.list
