"""Sums that are residual branches, and those that look like some and are none."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import dropact


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.one, self.two, self.three = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.deep = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.deeper = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))


class Plain(Base):
    def forward(self, x):
        return x + self.one(x)


class Tuples(Base):
    """Outputs of a layer that are put together, as in many layers of transformers."""

    def forward(self, x):
        attended = (self.one(x), x)
        made = self.two(F.relu(attended[0]))
        outputs = attended[1:]
        outputs = (made,) + outputs  # noqa: RUF005  # as they write it
        return outputs + (self.three(x),)  # noqa: RUF005


class Gated(Base):
    """A GRU's step."""

    def forward(self, x):
        z = torch.sigmoid(self.one(x))
        return (1 - z) * x + z * torch.tanh(self.two(x))


class Experts(Base):
    def forward(self, x):
        return self.deep(x) + self.deeper(x)


class Losses(Base):
    def forward(self, x):
        hidden = self.one(x)
        penalty = 0.1 * hidden.square().mean()
        return F.mse_loss(self.two(hidden), torch.zeros_like(hidden)) + penalty


class PositionsOfAMethod(Base):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 4))

    def positions(self, x, width):
        length = x.shape[0]
        if length == width:
            return self.table
        table = self.table.expand(length, width)
        return table * 1

    def forward(self, x):
        embedded = self.one(x)
        return embedded + self.positions(embedded, x.shape[1])


@pytest.mark.parametrize("block", [Tuples, Gated, Experts, Losses, PositionsOfAMethod], ids=lambda b: b.__name__)
def test_these_are_none(block):
    receipt = dropact.add_stochastic_depth_(nn.ModuleList([block(), Plain()]), 0.5)
    assert [change.name for change in receipt] == ["1.residual"]


class Parallel(Base):
    def forward(self, x):
        y = self.norm(x)
        return x + self.deep(y) + self.deeper(y)


class ParallelStatements(Base):
    def forward(self, x):
        y = self.norm(x)
        x = x + self.deep(y)
        x = x + self.deeper(y)
        return x


class ParallelFirst(Base):
    """As GPT-J has it: what both make is dropped as one."""

    def forward(self, x):
        y = self.norm(x)
        return self.deeper(y) + self.deep(y) + x


class Checkpointed(Base):
    def body(self, x):
        return self.two(F.relu(self.one(x)))

    def forward(self, x):
        return x + checkpoint(self.body, x, use_reentrant=False)


class Projected(Base):
    def forward(self, x):
        return self.one(x) + self.deep(x)


@pytest.mark.parametrize(
    ("block", "branches"),
    [(Parallel, 2), (ParallelStatements, 2), (ParallelFirst, 1), (Checkpointed, 1), (Projected, 1)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_these_are(block, branches):
    torch.manual_seed(0)
    model, x = nn.ModuleList([block()]), torch.randn(5, 4)
    expected = model[0](x)
    receipt = dropact.add_stochastic_depth_(model, 1.0)
    assert len(receipt) == branches
    assert not any("residual" in change.call for change in receipt)  # as it is written, not as it was edited
    assert torch.equal(model[0](x), expected)
    for change in receipt:
        change.after.drop_prob = 1.0
    assert torch.equal(model[0](x), model[0].one(x) if block is Projected else x)


class Alias(Base):
    """The shortcut is what the activation in place has left of x, under another name."""

    def __init__(self):
        super().__init__()
        self.shortcut, self.act = nn.Sequential(nn.Identity()), nn.ReLU(inplace=True)

    def forward(self, x):
        shortcut = self.shortcut(x)
        out = self.act(x)
        out = self.one(out)
        return out + shortcut


def test_a_name_that_an_identity_gives_is_the_same_tensor():
    model, x = nn.ModuleList([Alias()]), torch.randn(5, 4)
    dropact.add_stochastic_depth_(model, 0.0)
    assert torch.equal(model[0](x.clone()), F.relu(x))


class DropPath(nn.Module):
    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        keep = 1 - self.drop_prob
        return x * (torch.rand(len(x), *[1] * (x.dim() - 1)) < keep) / max(keep, 1e-9) if self.training else x


class InSequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.fn = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), DropPath(0.1)))

    def forward(self, x):
        return x + self.fn(x)


def test_a_branch_is_not_dropped_twice_where_its_layer_is_in_a_sequence():
    model = nn.Sequential(InSequence())
    (change,) = dropact.add_stochastic_depth_(model, 0.7)
    assert change.name == "0.fn.1.1"
    assert model[0].fn[1][1].drop_prob == pytest.approx(0.3)
    (change,) = dropact.add_stochastic_depth_(model, 0.6, existing="replace")
    assert (change.name, model[0].fn[1][1].drop_prob) == ("0.residual", 0.0)


class ReturnsMore(nn.Module):
    """Of what the branch was made more is needed, as where attention returns its weights."""

    def __init__(self):
        super().__init__()
        self.attend, self.drop = nn.Linear(4, 8), DropPath(0.1)

    def forward(self, x):
        both = self.attend(x)
        rest = both[:, 4:]
        return self.drop(both[:, :4]) + x, rest


class Windows(Base):
    """Names that only an ``if`` binds, of which the branch itself has need; and index arithmetic inside it."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def places(self, count, of):
        rows = torch.arange(count)[:, None] * max(of / count, 1.0)
        return (rows - torch.arange(of)) + (of - 1) * max(count / of, 1.0)

    def forward(self, x):
        shortcut = x
        x = self.norm(x)
        if self.size > 0 and x.dim() > 1:
            height = x.shape[0]
            x = x.flatten()
        if self.size > 0 and x.dim() < 2:
            x = x.view(height, -1)
        x = self.one(x) + 0 * self.places(len(x), 4).long()
        return shortcut + x


@pytest.mark.parametrize("inputs", [None, torch.randn(3, 4)])
@pytest.mark.parametrize("size", [0, 2])
def test_names_that_are_bound_inside_the_branch_alone(size, inputs):
    model, x = nn.Sequential(Windows(size)), torch.randn(3, 4)
    expected = model(x)
    receipt = dropact.add_stochastic_depth_(model, 1.0, inputs=inputs)
    assert [change.call for change in receipt] == ["shortcut + x"]
    assert torch.equal(model(x), expected)
    receipt.undo()
    dropact.add_stochastic_depth_(model, 0.0, inputs=inputs)
    assert torch.equal(model(x), x)


class MayBeUnbound(Base):
    def forward(self, x, scale=None):
        if scale is not None:
            factor = 2 * scale
        y = self.one(x)
        if scale is not None:
            y = y * factor
        return x + y, None if scale is None else factor


def test_a_name_that_may_have_no_value_is_not_handed_over():
    model, x = nn.Sequential(MayBeUnbound(), InSequence()), torch.randn(3, 4)
    with pytest.warns(UserWarning, match="its branch reads factor, which may have no value there"):
        receipt = dropact.add_stochastic_depth_(model, 0.5)
    assert len(receipt) == 1
    model[0](x)


class AddsWhatIsNoBranch(Base):
    """By the source all three are branches; by what is added one is."""

    def forward(self, x):
        counts = x.long()
        counts = counts + self.one(x).long()
        x = x + self.two(x.mean(0))
        return x + self.three(x) + counts.sum()


def test_a_run_tells_sums_of_other_things_from_branches():
    model, x = nn.Sequential(AddsWhatIsNoBranch()), torch.randn(3, 4)
    receipt = dropact.add_stochastic_depth_(model, 0.5, inputs=x)
    assert [change.call for change in receipt] == ["x + self.three(x)"]
    assert [skip.reason for skip in receipt.skipped] == [
        "what it adds are no floating tensors",
        "the shapes (3, 4) and (4,) are added, as no residual block does",
    ]


class ConvPosEnc(Base):
    def forward(self, x):
        return x + self.one(x)


class AddsPositions(Base):
    def __init__(self):
        super().__init__()
        self.encode, self.pos_conv_embed, self.positionwise = ConvPosEnc(), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        position_embeddings = self.pos_conv_embed(x)
        x = self.encode(x + position_embeddings)
        return x + self.positionwise(x)


def test_positions_that_are_computed_are_no_branch():
    receipt = dropact.add_stochastic_depth_(nn.Sequential(AddsPositions()), 0.5)
    assert [change.call for change in receipt] == ["x + self.positionwise(x)"]
    assert [(skip.reason, skip.missed) for skip in receipt.skipped] == [
        ("it adds positions, position_embeddings", False),
        ("it adds positions, ConvPosEnc", False),
    ]


class Unit(Base):
    """Parallel layers that become one for inference, as in RepVGG."""

    def forward(self, x):
        return F.relu(self.norm(x) + self.one(x) + self.two(x))

    def reparameterize(self):
        raise NotImplementedError


class Block(Base):
    """A block with such a method of its own, as in LeViT, is one all the same: there is an activation in its branch."""

    def __init__(self):
        super().__init__()
        self.unit = Unit()

    def forward(self, x):
        return x + self.deep(self.unit(x))

    def fuse(self):
        raise NotImplementedError


class DroppedUnit(Base):
    """What its authors let be dropped is a branch, mergeable or not (EfficientViM)."""

    def __init__(self):
        super().__init__()
        self.drop_path = nn.Identity()

    def forward(self, x):
        return x + self.drop_path(self.one(x))

    def fuse(self):
        raise NotImplementedError


def test_parallel_layers_of_a_unit_that_is_merged_are_no_branches():
    receipt = dropact.add_stochastic_depth_(nn.Sequential(Block(), Unit(), DroppedUnit()), 0.5)
    assert [change.name for change in receipt] == ["0.residual", "2.residual"]
    assert {skip.reason for skip in receipt.skipped} == {"a Unit is merged into one layer, with all of its branches"}


class TwoInOne(Base):
    def forward(self, x):
        x = x + self.one(x)
        return x + self.two(x)


class OneForTwo(Base):
    """One DropPath for both branches, as in SegFormer."""

    def __init__(self):
        super().__init__()
        self.drop = DropPath(0.1)

    def forward(self, x):
        x = x + self.drop(self.one(x))
        return x + self.drop(self.two(x))


def test_a_list_of_rates_fits_branches_or_blocks():
    model = nn.Sequential(TwoInOne(), OneForTwo(), OneForTwo())  # as where the first rate is 0 and needs no layer
    for survival in ([0.9, 0.5, 0.2], lambda number: [0.9, 0.5, 0.2][:number]):
        receipt = dropact.add_stochastic_depth_(model, survival)
        rates = [(change.name, change.after.drop_prob) for change in receipt]
        assert [name for name, _ in rates] == ["0.residual", "0.residual_2", "1.drop", "2.drop"]
        assert [rate for _, rate in rates] == pytest.approx([0.1, 0.1, 0.5, 0.8])
        receipt.undo()
    receipt = dropact.add_stochastic_depth_(model, [0.9, 0.8, 0.5, 0.2])
    assert [change.after.drop_prob for change in receipt] == pytest.approx([0.1, 0.2, 0.5, 0.8])
    with pytest.raises(ValueError, match=r"each of the 4 residual branches .* or of the 3 blocks .*, got 2"):
        dropact.add_stochastic_depth_(model, [0.5, 0.5])


class PostNorm(Base):
    def forward(self, hidden_states, input_tensor):
        return self.norm(self.one(hidden_states) + input_tensor)


class Caller(Base):
    def __init__(self):
        super().__init__()
        self.post = PostNorm()

    def forward(self, x):
        return self.post(self.one(x), x)


def test_a_post_norm_block_is_named_with_what_can_be_done():
    model = nn.Sequential(*(Caller() for _ in range(9)))
    with pytest.raises(
        ValueError, match=r"; 0.post.residual and 8 more: its branch begins outside this module"
    ) as error:
        dropact.add_stochastic_depth_(model, 0.5)
    assert "as in post-norm blocks: put dropact.StochasticDepth there by hand" in str(error.value)
    assert len(str(error.value)) < 500
    with pytest.warns(UserWarning, match="1 residual branch cannot be dropped.*0.post.residual"):
        dropact.add_stochastic_depth_(nn.Sequential(Caller(), Plain()), 0.5)


def test_what_is_dropped_already_is_not_called_missed(recwarn):
    receipt = dropact.add_stochastic_depth_(nn.Sequential(ReturnsMore()), 0.7)
    assert [change.name for change in receipt] == ["0.drop"]
    assert not receipt.skipped
    assert not recwarn.list


DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@pytest.mark.parametrize("existing", ["set", "replace"])
@pytest.mark.parametrize("dropout", DROPOUTS)
def test_a_dropout_of_elements_or_channels_keeps_its_rate(dropout, existing):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.drop = nn.Conv3d(4, 4, 1), dropout(0.3)

        def forward(self, x):
            return x + self.drop(self.conv(x))

    model = nn.Sequential(Block(), Block())
    receipt = dropact.add_stochastic_depth_(model, 0.9, existing=existing)
    assert len(receipt) == 2
    assert [block.drop.p for block in model] == [0.3, 0.3]
    assert sum(isinstance(module, dropact.methods.ResidualSum) for module in model.modules()) == 2
