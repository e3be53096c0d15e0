"""Stochastic depth in models of others: what is found, that it is skipped, and that nothing else changes."""

import copy
import pickle
import re
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropact
from dropact.experiments import build_network
from dropact.methods import ResidualSum
from dropact.schedules import linear_survival


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.around, self.flag = None, True


class Plain(Block):
    def forward(self, x):
        return x + self.two(F.relu(self.one(self.norm(x))))


class Statements(Block):
    """In the manner of torchvision and timm."""

    def forward(self, x):
        """A block."""
        shortcut = x
        x = self.norm(x)
        x = self.one(x)
        if self.flag is not None:
            x = F.relu(x)
        x = self.two(x)
        if self.around is not None:
            shortcut = self.around(shortcut)
        x += shortcut
        return x


class Projected(Statements):
    def __init__(self):
        super().__init__()
        self.around = nn.Linear(4, 4)


class Shared(Block):
    """What the shortcut needs as well stays outside the branch."""

    def __init__(self):
        super().__init__()
        self.around = nn.Linear(4, 4)

    def forward(self, x):
        y = self.norm(x)
        return self.around(y) + self.two(F.relu(self.one(y)))


class Twice(Block):
    def forward(self, x, scale=1.0, **more):
        x = x + self.one(self.norm(x)) * scale
        y, _ = self.two(x), None
        return torch.add(x, y)


class InPlace(Block):
    def forward(self, x):
        y = self.two(F.relu_(self.one(x)))
        y.add_(x)
        return F.relu(y, inplace=True)


class Within(Block):
    """The addition stands in a test of the module's own, its branch before it."""

    def forward(self, x):
        y = self.two(self.one(x))
        if self.flag:
            y = y + x
        return y


class Listed(Block):
    def forward(self, x):
        parts = []
        for layer in (self.one, self.two):
            parts.append(layer(x))
        y = self.two(torch.stack(parts).sum(0))
        scales = [part.mean() for part in parts]
        return x + y * scales[0]


FOUND = {Plain: 1, Statements: 1, Projected: 1, Shared: 1, Twice: 2, InPlace: 1, Within: 1, Listed: 1}


def flat(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("block", FOUND, ids=lambda b: b.__name__)
def test_a_kept_branch_changes_nothing_and_a_dropped_one_leaves_the_shortcut(block):
    torch.manual_seed(0)
    plain = nn.Sequential(block(), block())
    model, x = copy.deepcopy(plain), torch.randn(5, 4)
    receipt = dropact.add_stochastic_depth_(model, 1.0)
    assert len(receipt) == 2 * FOUND[block]
    assert list(model.state_dict()) == list(plain.state_dict())
    for net in (plain, model):
        net(x.clone()).square().sum().backward()
    trained = {name for name, p in plain.named_parameters() if p.grad is not None}
    assert torch.equal(model(x.clone()), plain(x.clone()))
    torch.testing.assert_close(flat(model), flat(plain))
    for change in receipt:
        change.after.drop_prob = 1.0
    called = []
    for layer in (model[0].one, model[0].two):
        layer.register_forward_hook(lambda m, args, out: called.append(m))
    y = model(x.clone())
    assert not called
    expected = x
    for part in plain:
        expected = part.around(part.norm(expected) if block is Shared else expected) if part.around else expected
    assert torch.equal(y, F.relu(expected) if block is InPlace else expected)
    model.zero_grad(set_to_none=True)
    y.sum().backward() if y.requires_grad else None
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained
    model.eval()
    receipt.undo()
    assert type(model[0]) is block
    assert torch.equal(model(x.clone()), plain(x.clone()))


def test_what_the_edited_method_looks_like():
    import inspect

    model = nn.Sequential(Statements())
    dropact.add_stochastic_depth_(model)
    assert "".join(inspect.getsource(type(model[0]).forward).split()) == "".join(
        '''
    def forward(self, x):
        """A block."""
        shortcut = x
        if self.around is not None:
            shortcut = self.around(shortcut)
        def residual_branch(x):
            x = self.norm(x)
            x = self.one(x)
            if self.flag is not None:
                x = F.relu(x)
            x = self.two(x)
            return x
        x = self.residual(shortcut, residual_branch, (x,), owners=(self.norm, self.one, self.flag, self.two))
        return x
    '''.replace("self.flag, self.two)", "self.two)").split()
    )


class UsedElsewhere(Block):
    def forward(self, x):
        weights = self.one(x)
        return x + self.two(weights), weights


class InALoop(Block):
    def forward(self, x):
        for layer in (self.one, self.two):
            x = x + layer(x)
        return x


class NoShortcut(Block):
    def __init__(self):
        super().__init__()
        self.flag = False

    def forward(self, x):
        y = self.one(x)
        if self.flag:
            y = x + y
        return y


class TwoBranches(Block):
    def forward(self, x):
        return self.one(x) + self.two(x)


class CallersBranch(Block):
    def forward(self, x, shortcut):
        return self.norm(self.one(x) + shortcut)


class OnArgument(Block):
    def forward(self, x, more=None):
        if more is not None:
            x = x + self.one(x)
        return x


class Bare(Block):
    def forward(self, x):
        return x + self.around.__class__(x) if self.around else x + 1


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (UsedElsewhere, "weights, computed in its branch, is used elsewhere as well"),
        (InALoop, "it stands in a loop"),
        (NoShortcut, "nothing goes around it: self.flag is False"),
        (TwoBranches, "neither side is a shortcut: both pass through weights, 1 each"),
        (CallersBranch, "put dropact.StochasticDepth there by hand"),
        (OnArgument, "whether it runs depends on more is not None: give inputs"),
        (Bare, "no residual branch was found"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_refusals_with_reasons(block, reason):
    model = nn.ModuleList([block()])
    with pytest.raises(ValueError, match=re.escape(reason)):
        dropact.add_stochastic_depth_(model)
    assert type(model[0]) is block


def test_what_cannot_be_dropped_beside_what_can_is_named():
    model = nn.Sequential(Plain(), InALoop())
    with pytest.warns(UserWarning, match=r"1 residual branch cannot be dropped.*1\.residual .*: it stands in a loop"):
        receipt = dropact.add_stochastic_depth_(model)
    assert [change.name for change in receipt] == ["0.residual"]
    assert "it stands in a loop" in str(receipt)


class Backwards(nn.Module):
    """Calls its blocks in another order than they stand in."""

    def __init__(self):
        super().__init__()
        self.last, self.first, self.never = Plain(), Twice(), Plain()

    def forward(self, x):
        return self.last(self.first(x))


def test_inputs_give_order_and_leave_out_what_is_not_called():
    x = torch.randn(2, 4)
    receipt = dropact.add_stochastic_depth_(Backwards(), [0.9, 0.8, 0.7], inputs=x)
    rates = {change.name: round(1 - change.after.drop_prob, 6) for change in receipt}
    assert rates == {"first.residual": 0.9, "first.residual_2": 0.8, "last.residual": 0.7}
    assert [(skip.name, skip.reason) for skip in receipt.skipped] == [("never.residual", "not reached in the run")]
    assert len(dropact.add_stochastic_depth_(Backwards())) == 4


def test_inputs_catch_a_model_that_would_compute_something_else():
    class Clearing(nn.Module):
        """Nothing tells that it works in place."""

        def forward(self, x):
            return x.relu_()

    class Overwritten(Block):
        """What the shortcut sees depends on whether the branch ran before."""

        def __init__(self):
            super().__init__()
            self.act = Clearing()

        def forward(self, x):
            y = self.one(self.act(x))
            return 2 * x + self.two(y)

    model = nn.Sequential(nn.Linear(4, 4), Overwritten())
    with pytest.raises(RuntimeError, match="does not compute what it did"):
        dropact.add_stochastic_depth_(model, inputs=torch.randn(8, 4))
    assert type(model[1]) is Overwritten


class Overwriting(Block):
    """The activation before the branch changes what goes around as well: ResidualConvUnit of MiDaS."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.act(x)
        y = self.one(y)
        y = self.act(y)
        y = self.two(y)
        return y + x


class OverwritingAlias(Overwriting):
    def forward(self, x):
        shortcut = x
        x = self.act(x)
        x = self.two(self.act(self.one(x)))
        x += shortcut
        return x


class OverwritingInside(Overwriting):
    """In a module whose method says so."""

    class Act(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))

        def forward(self, x):
            x = x if x.dim() else x[None]
            given = x
            given = self.act(given)
            return given * 1

    def __init__(self):
        super().__init__()
        self.act = self.Act()

    def forward(self, x):
        y = self.act(x)
        y = self.two(self.one(y))
        return y + x


@pytest.mark.parametrize("block", [Overwriting, OverwritingAlias, OverwritingInside], ids=lambda b: b.__name__)
def test_what_goes_around_is_what_an_activation_in_place_has_left_of_it(block):
    model, x = nn.ModuleList([block()]), torch.randn(5, 4)
    expected = model[0](x.clone())
    assert len(dropact.add_stochastic_depth_(model, 1.0)) == 1
    assert torch.equal(model[0](x.clone()), expected)
    model[0].residual.drop_prob = 1.0
    assert torch.equal(model[0](x.clone()), F.relu(x))


def test_a_branch_that_changes_what_goes_around_on_its_way_is_refused():
    class Within(Overwriting):
        def forward(self, x):
            y = self.one(self.act(x))
            return x + self.two(y)

    class InTheSum(Overwriting):
        def forward(self, x):
            return x + self.one(self.act(x))

    for block, reason in (
        (Within, "x, computed in its branch, is used elsewhere as well"),
        (InTheSum, "its branch changes x in place, used elsewhere as well"),
    ):
        with pytest.raises(ValueError, match=reason):
            dropact.add_stochastic_depth_(nn.ModuleList([block()]))


def test_an_activation_in_place_of_what_the_branch_has_made_is_no_hindrance():
    class Made(Overwriting):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))

        def forward(self, x):
            shortcut = x
            x = self.one(x)
            x = self.act(x)
            if self.around is not None:
                shortcut = self.around(shortcut)
            x = self.net(x)
            x = x + shortcut
            return x + self.net(x)

    assert len(dropact.add_stochastic_depth_(nn.ModuleList([Made()]))) == 2


def test_rates():
    def fresh():
        return nn.Sequential(*(Plain() for _ in range(4)))

    def rates(survival, **kw):
        return [1 - change.after.drop_prob for change in dropact.add_stochastic_depth_(fresh(), survival, **kw)]

    assert rates(0.75) == [0.75] * 4
    assert rates(partial(linear_survival, last=0.5)) == pytest.approx(linear_survival(4, last=0.5))
    assert rates(torch.tensor([1.0, 0.5, 0.5, 0.25])) == [1.0, 0.5, 0.5, 0.25]
    model = fresh()
    dropact.add_stochastic_depth_(model, 0.5, residual_scale="stable", mode="row", scaling="train", shared=3)
    assert repr(model[3].residual).startswith(
        "ResidualSum(drop_prob=0.5, mode=row, scaling=train, residual_scale=0.5, s"
    )
    assert len({block.residual.shared.base for block in model}) == 4
    for survival, error, says in (
        ([0.5] * 3, ValueError, "one rate for each of the 4 residual branches (0.residual, "),
        (1.5, ValueError, "survival must lie in [0, 1], got 1.5"),
        ("linear", TypeError, "survival must be a number, a sequence"),
    ):
        with pytest.raises(error, match=re.escape(says)):
            dropact.add_stochastic_depth_(fresh(), survival)


def test_stable_scaling_is_one_over_the_root_of_depth():
    plain = nn.Sequential(*(Plain() for _ in range(4))).double()
    model, x = copy.deepcopy(plain), torch.randn(3, 4, dtype=torch.float64)
    dropact.add_stochastic_depth_(model, 1.0, residual_scale="stable")
    expected = x
    for block in plain:
        expected = expected + (block(expected) - expected) / 2
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_once_more_replaces_the_rates():
    model = nn.Sequential(Plain(), dropact.StochasticDepth(nn.Linear(4, 4), 0.1))
    dropact.add_stochastic_depth_(model, 0.5)
    receipt = dropact.add_stochastic_depth_(model, [0.3, 0.2], mode="row")
    assert [(c.name, round(c.before.drop_prob, 6), round(c.after.drop_prob, 6)) for c in receipt] == [
        ("0.residual", 0.5, 0.7),
        ("1.sum", 0.5, 0.8),
    ]
    receipt.undo()
    assert model[0].residual.drop_prob == model[1].drop_prob == 0.5


def test_converted_models_are_copied_pickled_and_converted_further():
    model = nn.Sequential(Plain(), Twice())
    dropact.add_stochastic_depth_(model, 0.5)
    dropact.convert_(model, dropact.DropActivation(0.1))
    x = torch.randn(6, 4)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.manual_seed(1)
        expected = model(x)
        torch.manual_seed(1)
        assert torch.equal(twin(x), expected)
    assert isinstance(model[0].relu_call1, dropact.DropActivation)


def test_row_mode_cuts_what_goes_with_the_rows():
    class Gated(Block):
        def forward(self, x, gate, table):
            y = self.one(x) * gate + table.sum()
            return x + y

    model = Gated()
    receipt = dropact.add_stochastic_depth_(nn.ModuleList([model]), 0.5, mode="row")
    assert len(receipt) == 1
    x, gate = torch.randn(8, 4), torch.randn(8, 1)
    full = x + model.one(x) * gate + 3
    y = model(x, gate, torch.ones(3))
    assert all(torch.equal(a, b) or torch.allclose(a, c) for a, b, c in zip(y, x, full, strict=True))


@pytest.mark.parametrize("functional", [False, True])
def test_positions_are_no_branch(functional):
    """Nor what else is looked up: it is no function of the values that it is added to."""

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(9, 4), nn.Embedding(9, 4)

        def forward(self, ids=None, embedded=None):
            if embedded is None:
                embedded = self.tokens(ids)
            if functional:
                where = F.embedding(ids, self.positions.weight)
            elif ids is not None:
                where = self.positions(ids)
            else:
                where = self.positions(embedded[..., 0].argsort())
            return embedded + where

    model = nn.Sequential(Tokens(), Plain())
    assert [change.name for change in dropact.add_stochastic_depth_(model, 0.5)] == ["1.residual"]


def test_where_chooses():
    model = nn.Sequential(Plain(), Plain())
    receipt = dropact.add_stochastic_depth_(model, where=lambda name, module: name.startswith("1."))
    assert [change.name for change in receipt] == ["1.residual"]
    assert type(model[0]) is Plain


def _torchvision(name, **kw):
    return getattr(pytest.importorskip("torchvision").models, name)(weights=None, **kw)


def _timm(name, **kw):
    return pytest.importorskip("timm").create_model(name, pretrained=False, **kw)


def _gpt2():
    transformers = pytest.importorskip("transformers")
    sizes = {"n_embd": 32, "n_head": 2, "vocab_size": 100, "n_positions": 16, "bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, n_layer=3, use_cache=False))


def _llama():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 100}
    return transformers.LlamaModel(transformers.LlamaConfig(**sizes, num_hidden_layers=2, use_cache=False))


def _vit():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2}
    return transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=32), add_pooling_layer=False)


def _whisper():
    transformers = pytest.importorskip("transformers")
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 100, "num_mel_bins": 8}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_source_positions": 8}
    sizes |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    config = transformers.WhisperConfig(**sizes, decoder_start_token_id=1, use_cache=False)
    return transformers.WhisperModel(config)


def _encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


SMALL, IMAGES = torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 64, 64)
TOKENS = {"input_ids": torch.zeros(2, 16, dtype=torch.int64)}
SPEECH = {"input_features": torch.zeros(2, 8, 16), "decoder_input_ids": torch.zeros(2, 4, dtype=torch.int64)}
# How many branches each has: counted in its paper or its configuration.
MODELS = {
    "resnet-20": (partial(build_network, "resnet-20"), SMALL, 9),
    "preresnet-110": (partial(build_network, "preresnet-110"), SMALL, 54),
    "wrn-16-8": (partial(build_network, "wrn-16-8"), SMALL, 6),
    "resnext-29-8x64d": (partial(build_network, "resnext-29-8x64d"), SMALL, 9),
    "torchvision resnet50": (partial(_torchvision, "resnet50"), IMAGES, 16),
    "torchvision mobilenet_v2": (partial(_torchvision, "mobilenet_v2"), IMAGES, 10),
    "torchvision vit_b_16": (partial(_torchvision, "vit_b_16", image_size=64), IMAGES, 24),
    "torchvision convnext_tiny": (partial(_torchvision, "convnext_tiny"), IMAGES, 18),
    "torchvision regnet_y_400mf": (partial(_torchvision, "regnet_y_400mf"), IMAGES, 16),
    "torchvision efficientnet_b0": (partial(_torchvision, "efficientnet_b0"), IMAGES, 9),
    "torchvision swin_t": (partial(_torchvision, "swin_t"), IMAGES, 12),  # one layer for both of a block
    "timm regnety_002": (partial(_timm, "regnety_002"), IMAGES, 13),
    "timm efficientnet_b0": (partial(_timm, "efficientnet_b0"), IMAGES, 9),
    "timm swin_tiny": (partial(_timm, "swin_tiny_patch4_window7_224", img_size=64, window_size=2), IMAGES, 24),
    "timm resnetv2_50": (partial(_timm, "resnetv2_50"), IMAGES, 16),
    "timm convnext_tiny": (partial(_timm, "convnext_tiny"), IMAGES, 18),
    "timm vit_tiny": (partial(_timm, "vit_tiny_patch16_224", img_size=64), IMAGES, 24),
    "transformers gpt2": (_gpt2, TOKENS, 6),
    "transformers llama": (_llama, TOKENS, 4),
    "transformers vit": (_vit, {"pixel_values": torch.zeros(2, 3, 32, 32)}, 4),
    "transformers whisper": (_whisper, SPEECH, 10),
    "torch encoder": (_encoder, torch.zeros(2, 5, 16), 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_networks_of_others(name):
    """Found, checked by a run to compute what they did, trained with every parameter accounted for, and put back."""
    build, inputs, branches = MODELS[name]
    torch.manual_seed(0)
    model = build()
    if isinstance(inputs, torch.Tensor):
        inputs = torch.randn(inputs.shape)
    classes = [type(module) for module in model.modules()]
    keys = list(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        receipt = dropact.add_stochastic_depth_(model, 0.5, inputs=inputs)
    assert len(receipt) == branches
    assert list(model.state_dict()) == keys
    for _ in range(2):  # other branches are dropped in each
        model.zero_grad(set_to_none=True)
        output = model(**inputs) if isinstance(inputs, dict) else model(inputs)
        (output if isinstance(output, torch.Tensor) else output[0]).square().sum().backward()
        assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    receipt.undo()
    assert [type(module) for module in model.modules()] == classes


def test_layers_of_others_get_their_rates_or_are_replaced():
    model = _timm("vit_tiny_patch16_224", img_size=32, drop_path_rate=0.2)
    model_rates = [m.drop_prob for m in model.modules() if hasattr(m, "drop_prob")]
    assert len(model_rates) == 22  # the first block's rate is 0, and its layers are none
    receipt = dropact.add_stochastic_depth_(model, partial(linear_survival, last=0.5))
    assert len(receipt) == 24
    expected = [1 - rate for rate in linear_survival(24, last=0.5)]
    assert [change.after.drop_prob for change in receipt] == pytest.approx(expected)
    assert {type(change.after).__name__ for change in receipt} == {"ResidualSum", "DropPath"}
    receipt.undo()
    assert [m.drop_prob for m in model.modules() if hasattr(m, "drop_prob")] == model_rates
    with pytest.raises(ValueError, match=r"a DropPath drops the branch, as at 'blocks.1.drop_path1'"):
        dropact.add_stochastic_depth_(model, 0.5, residual_scale="stable")
    receipt = dropact.add_stochastic_depth_(model, 0.5, residual_scale="stable", existing="replace")
    assert all(isinstance(change.after, ResidualSum) for change in receipt)
    assert {m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"} == {0.0}
    receipt.undo()
    assert [m.drop_prob for m in model.modules() if hasattr(m, "drop_prob")] == model_rates


class Dropping(nn.Module):
    """Drops rows where ``keeps`` says so of its number; beside it stands one of no effect."""

    def __init__(self, number, kept):
        super().__init__()
        self.momentum, self.number, self.kept = 0.5, number, kept

    def forward(self, x):
        keep = self.kept(self.number)
        return x * (torch.rand(len(x), *[1] * (x.dim() - 1)) < keep) / max(keep, 1e-9) if self.training else x


@pytest.mark.parametrize("written", ["outside", "in the branch"])
@pytest.mark.parametrize("survives", [False, True])
@pytest.mark.parametrize("existing", ["set", "replace"])
def test_a_rate_of_others_may_be_that_of_survival(written, survives, existing):
    class Dropped(Block):
        def __init__(self):
            super().__init__()
            self.drop = Dropping(0.8, (lambda p: p) if survives else (lambda p: 1 - p))

        def forward(self, x):
            return x + self.drop(self.one(x)) if written == "in the branch" else self.drop(self.one(x))

    model = nn.Sequential(Dropped())
    receipt = dropact.add_stochastic_depth_(model, 0.9, existing=existing)
    # where the sum is not there to be seen, the layer that drops stays the one that does
    expected = 1.0 if existing == "replace" and written == "in the branch" else 0.9
    assert model[0].drop.number == pytest.approx(expected if survives else 1 - expected)
    assert model[0].drop.momentum == 0.5
    receipt.undo()
    assert model[0].drop.number == 0.8


@pytest.mark.parametrize("existing", ["set", "replace"])
def test_a_rate_of_others_that_is_neither_is_missed(existing):
    class Dropped(Block):
        def __init__(self):
            super().__init__()
            self.drop = Dropping(0.8, lambda p: (1 - p) ** 4)

        def forward(self, x):
            return x + self.drop(self.one(x))

    with pytest.warns(UserWarning, match="1 residual branch cannot be dropped.*it drops a branch already, by a rate"):
        receipt = dropact.add_stochastic_depth_(nn.Sequential(Plain(), Dropped()), 0.9, existing=existing)
    assert [change.name for change in receipt] == ["0.residual"]


def test_a_layer_of_torchvision_that_serves_two_branches_is_one():
    model = _torchvision("swin_t")
    assert len(dropact.add_stochastic_depth_(model, 0.5)) == 12
    assert {m.p for m in model.modules() if type(m).__name__ == "StochasticDepth"} == {0.5}
    assert len(dropact.add_stochastic_depth_(model, 0.5, existing="replace")) == 24
    assert {m.p for m in model.modules() if type(m).__name__ == "StochasticDepth"} == {0.0}


def test_evaluation_of_torchs_own_encoder_is_scaled_too():
    """It has a fused path that would pass the branches by."""
    model = _encoder().eval()
    x = torch.randn(2, 5, 16)
    receipt = dropact.add_stochastic_depth_(model, 0.5)
    with torch.no_grad():
        fast = model(x)
    torch.testing.assert_close(fast, model(x))
    receipt.undo()
    with torch.no_grad():
        assert not torch.allclose(fast, model(x), atol=1e-3)


def test_a_dropped_block_computes_no_convolution():
    model = build_network("resnet-20")
    dropact.add_stochastic_depth_(model, 0.0)
    convolutions = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, args, out: convolutions.append(m))
    model(torch.randn(1, 3, 32, 32))
    assert len(convolutions) == 1 + 2  # the first, and the two projections


def test_wrapped_models_are_refused():
    with pytest.raises(TypeError, match="add_stochastic_depth_ needs a plain model"):
        dropact.add_stochastic_depth_(torch.compile(nn.Sequential(Plain())))


def test_generators_of_other_devices_are_left_alone(monkeypatch):
    """Nothing would put them back: those of a model's devices are."""

    class DropPath(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = 0.1

        def forward(self, x):
            return x * (torch.rand(len(x), 1) >= self.rate) if self.training else x

    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(3)
    assert seeded == [3]
    model, x, state = nn.Sequential(Plain(), DropPath()), torch.randn(4, 4), torch.get_rng_state()
    dropact.diagnostics.sensitivities(model, F.mse_loss, (x, x))
    dropact.add_stochastic_depth_(model, inputs=x)
    assert seeded == [3]
    assert torch.equal(torch.get_rng_state(), state)


class NormOutside(nn.Module):
    """The branch reads what a condition has made before it."""

    def __init__(self):
        super().__init__()
        self.norm, self.lin = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x, mask=None):
        residual = x
        if mask is None:
            x = self.norm(x)
        else:
            mask = mask.bool()
            x = self.norm(x * mask)
        x = residual + self.lin(x)
        return x if mask is None else x * mask


@pytest.mark.parametrize("mode", ["batch", "row"])
@pytest.mark.parametrize("masked", [False, True])
def test_what_stands_before_a_dropped_branch_has_a_gradient_of_zero(mode, masked):
    """DistributedDataParallel waits for it: None would stop it at the second step."""
    model, x = nn.Sequential(NormOutside()), torch.randn(6, 4, requires_grad=True)
    dropact.add_stochastic_depth_(model, 1.0, mode=mode)
    model[0].residual.drop_prob = 1.0
    y = model[0](x, torch.ones(6, 1) if masked else None)
    assert torch.equal(y, x)
    y.sum().backward()
    assert {name: p.grad is not None and not p.grad.any() for name, p in model.named_parameters()} == {
        "0.norm.weight": True,
        "0.norm.bias": True,
        "0.lin.weight": True,
        "0.lin.bias": True,
    }
    assert torch.equal(x.grad, torch.ones_like(x))


def test_a_dropped_cross_attention_gives_the_memory_a_gradient_of_zero():
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True, dropout=0.0)
    dropact.add_stochastic_depth_(model, 1.0)
    for module in model.modules():
        if isinstance(module, dropact.methods.ResidualSum):
            module.drop_prob = 1.0
    model(torch.randn(2, 3, 8), torch.randn(2, 5, 8)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
