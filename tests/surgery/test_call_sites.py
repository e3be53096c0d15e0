"""Calls of functions become calls of layers, and nothing else of the module changes."""

import copy
import functools
import importlib
import inspect
import io
import pickle
import traceback

import nets
import pytest
import torch
from nets import CONTAINERS, MAKERS, NETS
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from dropact import DropActivation, convert_, coverage, fold_
from dropact.surgery import _rewrite
from dropact.surgery._source import UnreadableError

X = torch.linspace(-2, 2, 12).view(3, 4)
BY_NAME = pytest.mark.parametrize("name", MAKERS)


def build(name):
    torch.manual_seed(0)
    return MAKERS[name]()


@pytest.mark.parametrize("inputs", [None, X], ids=["by source", "by a run"])
@pytest.mark.parametrize("cls", NETS, ids=lambda cls: cls.__name__)
@pytest.mark.filterwarnings("ignore:1 activation could not be converted:UserWarning")  # the computed slope, by source
def test_every_call_is_a_site(cls, inputs):
    model = cls()
    receipt = convert_(model, DropActivation(0.1), inputs=inputs)
    expected = set(NETS[cls])
    if cls is nets.Computed and inputs is None:
        expected.remove("leaky_relu_call2")
    assert {change.name for change in receipt} == expected
    assert all(isinstance(model.get_submodule(name), DropActivation) for name in expected)


@BY_NAME
def test_without_drop_the_outputs_and_gradients_are_those_of_the_plain_model(name):
    plain, model = build(name), build(name)
    convert_(model, DropActivation(0.0), inputs=X)
    outputs = []
    for net in (plain, model):
        x = X.clone().requires_grad_()
        y = net(x)
        y.square().sum().backward()
        outputs.append([y, x.grad, *(p.grad for p in net.parameters() if p.grad is not None)])
    for got, expected in zip(*outputs, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)  # torch rounds an activation otherwise


@BY_NAME
def test_with_every_nonlinearity_dropped_what_remains_is_linear(name):
    model = build(name).double()
    convert_(model, DropActivation(1.0), inputs=X.double())
    x, y = torch.randn(2, 3, 4, dtype=torch.float64)
    if name == "Reused":
        assert coverage(model, x).complete
    torch.testing.assert_close(model((x + y) / 2), (model(x) + model(y)) / 2)


@BY_NAME
def test_keys_strict_loading_and_parameters_stay(name):
    plain, model = build(name), build(name)
    ids = [id(p) for p in model.parameters()]
    convert_(model, DropActivation(0.1), inputs=X)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [id(p) for p in model.parameters()] == ids
    model.load_state_dict(plain.state_dict(), strict=True)
    plain.load_state_dict(model.state_dict(), strict=True)


@BY_NAME
def test_undo_restores_outputs_class_and_children(name):
    model = build(name)
    cls, children, expected = type(model), dict(model.named_modules()), model(X)
    receipt = convert_(model, DropActivation(1.0), inputs=X)
    assert not torch.equal(model(X), expected)
    assert isinstance(model, cls)
    receipt.undo()
    assert type(model) is cls
    assert dict(model.named_modules()) == children
    assert torch.equal(model(X), expected)


@BY_NAME
def test_twice_is_once(name):
    model = build(name)
    convert_(model, DropActivation(0.1), inputs=X)
    modules, cls = list(model.modules()), type(model)
    receipt = convert_(model, DropActivation(0.1), inputs=X)
    assert len(receipt) == 0
    assert type(model) is cls
    assert all(a is b for a, b in zip(modules, model.modules(), strict=True))
    already = [skip for skip in receipt.skipped if skip.reason == "already so"]
    assert len(convert_(model, DropActivation(0.2))) == len(already)  # another rate replaces the first
    assert {m.drop_prob for m in model.modules() if isinstance(m, DropActivation)} == {0.2}


@BY_NAME
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_behave_alike(name, how):
    model = build(name)
    convert_(model, DropActivation(0.3), inputs=X)
    if how == "deepcopy":
        twin = copy.deepcopy(model)
    elif how == "pickle":
        twin = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    assert type(twin) is type(model)  # one class, compiled once
    assert not set(map(id, model.modules())) & set(map(id, twin.modules()))
    torch.manual_seed(5)
    expected = model(X)
    torch.manual_seed(5)
    assert torch.equal(twin(X), expected)
    assert coverage(twin, X).complete


@BY_NAME
def test_compiles_without_graph_break(name):
    torch._dynamo.reset()
    model = build(name)
    convert_(model, DropActivation(0.3), inputs=X)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    compiled(X).sum().backward()
    torch.testing.assert_close(compiled.eval()(X), model.eval()(X))


@BY_NAME
def test_folded_is_the_eval_mode(name):
    model = build(name)
    convert_(model, DropActivation(0.3), inputs=X)
    expected = model.eval()(X)
    receipt = fold_(model.train())
    assert not any(isinstance(m, DropActivation) for m in model.modules())
    torch.testing.assert_close(model(X), expected, rtol=1e-6, atol=1e-6)
    receipt.undo()
    assert torch.equal(model.eval()(X), expected)


def test_layers_of_one_module_fold_into_one_and_the_class_is_the_plain_one():
    model = nets.Reused()
    convert_(model, DropActivation(0.3))
    assert type(model) is not nets.Reused
    receipt = fold_(model)
    assert type(model) is nets.Reused
    assert repr(model.act) == "LeakyReLU(negative_slope=0.3)"
    assert b"dropact" not in pickle.dumps(model)
    receipt.undo()
    model.act_call2.drop_prob = 0.1
    expected = model.eval()(X)
    fold_(model)
    assert model.act_call2.negative_slope == 0.1
    assert torch.equal(model(X), expected)


def test_the_edited_source_is_what_python_shows():
    model = nets.Lines()
    convert_(model, DropActivation(0.1))
    text = inspect.getsource(type(model).forward)
    assert "return grün + self.gelu_call1(grün)" in text
    assert "F." not in text
    _, first = inspect.getsourcelines(nets.Lines.forward)
    assert inspect.getsourcelines(type(model).forward)[1] == first
    assert len(text.splitlines()) == len(inspect.getsource(nets.Lines.forward).splitlines())
    assert inspect.signature(model.forward) == inspect.signature(nets.Lines().forward)
    try:
        model(torch.zeros(1, 3))
    except RuntimeError as error:
        (frame,) = (
            f for f in traceback.extract_tb(error.__traceback__) if f.name == "forward" and "nets" in f.filename
        )
        assert frame.line == "self.one(x)"


def test_equal_modules_share_one_class():
    model = nn.Sequential(nets.Functions(), nets.Functions())
    convert_(model, DropActivation(0.1))
    assert type(model[0]) is type(model[1])
    assert repr(type(model[0])) == repr(nets.Functions)
    assert model[0].relu_call1 is not model[1].relu_call1


def test_sites_have_methods_and_flags_of_their_own():
    model = nets.Functions().eval()
    receipt = convert_(model, {"relu_call1": DropActivation(0.1), "relu_call2": DropActivation(0.2)})
    assert (model.relu_call1.drop_prob, model.relu_call2.drop_prob) == (0.1, 0.2)
    assert (model.relu_call1.inplace, model.relu_call2.inplace) == (True, False)
    assert not model.relu_call1.training
    assert [(c.name, c.call) for c in receipt] == [("relu_call1", "F.relu()"), ("relu_call2", "torch.relu()")]
    assert str(receipt).splitlines()[2].split("  ")[1:3] == ["relu_call1", receipt.changes[0].location]
    line = inspect.getsourcelines(nets.Functions.forward)[1] + 1
    assert receipt.changes[0].location == f"nets.py:{line}"


def test_where_leaves_single_calls():
    model, asked = nets.Nested(), []

    def where(name, module):
        asked.append((name, module))
        return name == "relu_call2"

    expected = nets.Nested()
    expected.load_state_dict(model.state_dict())
    convert_(model, DropActivation(1.0), where=where)
    assert asked == [(f"relu_call{i}", model) for i in (1, 2, 3)]
    x = torch.randn(3, 4)
    torch.testing.assert_close(model(x), F.relu(expected.two(expected.one(F.relu(x)))))
    receipt = convert_(model, DropActivation(1.0))  # and the others later, beside it
    assert [c.name for c in receipt] == ["relu_call1", "relu_call3"]
    torch.testing.assert_close(model(x), expected.two(expected.one(x)))
    twin = pickle.loads(pickle.dumps(model))  # edited twice
    assert torch.equal(twin(x), model(x))
    receipt.undo()
    torch.testing.assert_close(model(x), F.relu(expected.two(expected.one(F.relu(x)))))


@pytest.mark.parametrize("chosen", [["act"], ["act_call2"], ["act", "act_call3"], ["act_call2", "act_call3"]])
def test_single_calls_of_one_module_are_converted(chosen):
    model, x = nets.Reused(), torch.randn(5, 4)

    def expected(x):
        for name, linear in (("act", None), ("act_call2", model.one), ("act_call3", model.two)):
            x = linear(x) if linear is not None else x
            x = x if name in chosen else F.relu(x)
        return x

    receipt = convert_(model, DropActivation(1.0), where=lambda name, module: name in chosen)
    assert [c.name for c in receipt] == chosen
    torch.testing.assert_close(model(x), expected(x))
    receipt.undo()
    chosen = []
    torch.testing.assert_close(model(x), expected(x))


def test_one_layer_for_a_shared_module_on_request():
    model = nets.Reused()
    receipt = convert_(model, DropActivation(0.1), split_shared=False)
    assert [c.name for c in receipt] == ["act"]
    assert type(model) is nets.Reused
    assert [c.name for c in convert_(model, DropActivation(0.1))] == ["act_call2", "act_call3"]
    assert len({id(m) for m in (model.act, model.act_call2, model.act_call3)}) == 3


def test_statements_stay_in_place():
    class Aliased(nets.Plain):
        def forward(self, x):
            x = self.one(x)
            view = x.view(-1)
            x.relu_()
            return view

    model = Aliased()
    convert_(model, DropActivation(1.0))
    plain = Aliased()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(X), plain.one(X).view(-1))
    convert_(model, DropActivation(0.0))
    assert torch.equal(model(X), plain(X))


def test_a_recomputed_forward_draws_the_same_masks():
    model = nets.Checkpointed()
    convert_(model, DropActivation(0.5, "relu"))
    x = torch.randn(64, 4, requires_grad=True)
    torch.manual_seed(1)
    checkpointed = torch.autograd.grad(model(x).sum(), x)[0]
    torch.manual_seed(1)
    direct = torch.autograd.grad(model.two(model.relu_call1(model.one(x))).sum(), x)[0]
    assert torch.equal(checkpointed, direct)


def test_encoder_layers_do_not_take_their_fused_path_past_the_layer():
    torch.manual_seed(0)
    for act in (F.relu, nn.ReLU(), F.gelu):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=act)
        model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
        x = torch.randn(2, 3, 8)
        with torch.no_grad():
            plain = model(x)
        receipt = convert_(model, DropActivation(0.3))
        assert len(receipt) == 2
        slow = model(x).detach()
        with torch.no_grad():
            torch.testing.assert_close(model(x), slow)  # attention has a fused path of its own
            assert (slow - plain).abs().max() > 0.01
            fold_(model)
            torch.testing.assert_close(model(x), slow)
    receipt = convert_(model := nn.TransformerEncoder(layer, 1).eval(), DropActivation(0.3))
    receipt.undo()
    assert model.layers[0].activation_relu_or_gelu == 2


def test_a_source_that_changed_is_refused_on_loading(monkeypatch):
    model = nets.Functions()
    convert_(model, DropActivation(0.1))
    saved = pickle.dumps(model)
    monkeypatch.setattr(nets.Functions, "forward", nets.Nested.forward)
    _rewrite._rewritten.cache_clear()  # as in another process
    with pytest.raises(UnreadableError, match="is not what it was when the model was converted: build the model"):
        pickle.loads(saved)
    assert len(convert_(nets.Functions(), DropActivation(0.1))) == 3  # the new method's calls


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_run_through_what_they_held(name):
    model = build(name)
    held = list(model)
    convert_(model, DropActivation(0.1))
    assert list(model) == held or name == "sequential"
    assert len(model) == len(held)
    if name == "dict":
        assert list(model.items()) == list(zip(model.keys(), model.values(), strict=True))
        assert "relu_call1" not in model.keys()  # noqa: SIM118
    else:
        assert isinstance(model[-1], nn.Linear)


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_refuse_torchscript_which_would_run_through_the_layers_too(name):
    model = build(name)
    convert_(model, DropActivation(0.1))
    fold_(model)
    with pytest.raises(RuntimeError, match="those that conversion added as well"):
        torch.jit.script(nn.Sequential(model))


def test_calls_that_begin_at_the_same_place_keep_their_order():
    class Chain(nets.Plain):
        def forward(self, x):
            return x.tanh().relu().tanh_()

    model = Chain()
    convert_(model, {"tanh_call1": DropActivation(1.0), "relu_call1": None, "tanh_call2": DropActivation(0.0)})
    torch.testing.assert_close(model(X), torch.relu(X).tanh(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("again", [False, True])
def test_the_class_of_a_converted_module_makes_plain_ones(again):
    model = nets.Functions()
    if again:
        convert_(model, {"relu_call1": DropActivation(0.1), "*": None})
    convert_(model, DropActivation(0.1))
    twin = type(model)()
    assert type(twin) is nets.Functions
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(X), torch.relu(model.two(torch.relu(model.one(X)))))
    assert inspect.signature(type(model)) == inspect.signature(nets.Functions)
    replica = model._replicate_for_data_parallel()
    assert type(replica) is type(model)


def test_parametrizations_can_be_taken_away_after_conversion():
    class Scaled(nn.Linear):
        def forward(self, x):
            return F.relu(super().forward(x))

    class Double(nn.Module):
        def forward(self, weight):
            return 2 * weight

    model = Scaled(4, 4)
    parametrize.register_parametrization(model, "weight", Double())
    receipt = convert_(model, DropActivation(1.0))
    expected = F.linear(X, 2 * model.parametrizations.weight.original, model.bias)
    torch.testing.assert_close(model(X), expected)
    torch.testing.assert_close(copy.deepcopy(model)(X), expected)
    receipt.undo()
    assert torch.equal(model(X), F.relu(expected))
    convert_(model, DropActivation(1.0))
    parametrize.remove_parametrizations(model, "weight")
    torch.testing.assert_close(model(X), expected)
    assert not parametrize.is_parametrized(model)
    assert isinstance(model.weight, nn.Parameter)


def test_the_source_of_an_edited_method_in_a_decorator_is_read_again():
    class Decorated(nets.Plain):
        @torch.no_grad()
        def forward(self, x):
            return F.relu(self.one(x)) + torch.cumsum(F.gelu(x), *(0,))

    model = Decorated()
    convert_(model, {"relu_call1": DropActivation(0.1), "*": None})
    assert [s.status for s in coverage(model, X)] == ["converted", "convertible"]
    assert len(convert_(model, DropActivation(0.2))) == 2


def test_a_decorator_that_refers_to_itself():
    def counted(function):
        @functools.wraps(function)
        def wrapped(self, x):
            counts.append(wrapped)
            return function(self, x)

        counts = []
        wrapped.counts = counts
        return wrapped

    class Counted(nets.Plain):
        @counted
        def forward(self, x):
            return F.relu(self.one(x))

    model = Counted()
    convert_(model, DropActivation(1.0))
    torch.testing.assert_close(model(X), model.one(X))
    assert Counted.forward.counts == [type(model).forward]


def test_a_file_edited_since_it_was_imported_is_not_trusted(tmp_path, monkeypatch):
    text = "from nets import Plain\nfrom torch.nn import functional as F\n\n\nclass Edited(Plain):\n"
    method = "    def forward(self, x):\n        return F.relu(self.{}(x))\n"
    path = tmp_path / "edited_since.py"
    path.write_text(text + method.format("one"))
    monkeypatch.syspath_prepend(tmp_path)
    model = nn.Sequential(importlib.import_module("edited_since").Edited(), nn.ReLU())
    path.write_text(text + method.format("two"))
    with pytest.warns(UserWarning, match="is not what runs: it was edited since, or is instrumented; give inputs"):
        convert_(model, DropActivation(0.1))
    missed = coverage(model, X).having("missed")
    assert [site.reason for site in missed] == [f"the source of forward ({path}:6) is not what runs: it was edited "
                                                "since, or is instrumented"]  # fmt: skip


def test_more_than_one_level_of_inheritance_and_of_decorators():
    def plus_one(function):
        @functools.wraps(function)
        def wrapped(self, x):
            return function(self, x) + 1

        return wrapped

    class Twice(nets.Plain):
        @torch.no_grad()
        @plus_one
        def forward(self, x):
            return F.relu(self.one(x))

    model = Twice()
    convert_(model, DropActivation(1.0))
    y = model(X)
    assert not y.requires_grad
    torch.testing.assert_close(y, model.one(X).detach() + 1)
