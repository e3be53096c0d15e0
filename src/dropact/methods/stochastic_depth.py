"""Stochastic depth: at random, leave a residual branch out, and do not compute it.

Gao Huang, Yu Sun, Zhuang Liu, Daniel Sedra, Kilian Weinberger: Deep Networks with Stochastic Depth, arXiv:1603.09382.

    training    y = x + b s f(x),  b ~ Bernoulli(1 - drop_prob), drawn afresh in every forward pass
    evaluation  y = x + (1 - drop_prob) s f(x)

    paper               here
    p_l                 1 - drop_prob          the survival rate of block l
    f_l                 branch                 all that is added to the shortcut
    id(H)               shortcut               a projection of x where the shape changes
                        s, residual_scale      1; 1 / sqrt(L) in the "stable" ResNet of Hayou & Ayed, arXiv:2106.03091

``scaling="test"`` is the paper's; ``scaling="train"`` divides by 1 - drop_prob in training instead, as timm and
torchvision do. ``mode="batch"`` is the paper's, one draw for the mini-batch; ``mode="row"`` draws for each sample;
``mode="subset"`` keeps a fixed number of samples, as DINOv2 does (Oquab et al., arXiv:2304.07193, section 5).
"""

from __future__ import annotations

import inspect
import operator
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from dropact._arguments import check_input, check_mask
from dropact.methods._residual import (
    Branch,
    How,
    add_dropped,
    add_mean,
    check_rate,
    check_shape,
)
from dropact.methods.residual_sum import ResidualSum


def stochastic_depth(
    x: Tensor,
    branch: Branch,
    drop_prob: float | Tensor = 0.5,
    mode: str = "batch",
    scaling: str = "test",
    compute: str = "skip",
    *,
    shortcut: Tensor | None = None,
    residual_scale: float = 1.0,
    training: bool = True,
    seed: int | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Add ``branch(x)`` to ``x``, except where it is dropped: there ``x`` alone, and the branch is not computed.

    >>> import torch
    >>> x = torch.tensor([[1.0], [2.0], [3.0]])
    >>> stochastic_depth(x, lambda x: 10 * x, 0.25, training=False).flatten()
    tensor([ 8.5000, 17.0000, 25.5000])
    >>> stochastic_depth(x, lambda x: 10 * x, 0.25, "row", mask=torch.tensor([False, True, False])).flatten()
    tensor([11.,  2., 33.])
    >>> stochastic_depth(x, lambda x: print("computed"), 0.25, mask=torch.tensor(True)).flatten()
    tensor([1., 2., 3.])

    ``y = shortcut + b s branch(x)`` with ``b ~ Bernoulli(1 - drop_prob)`` in training, and ``shortcut +
    (1 - drop_prob) s branch(x)`` in evaluation; with ``scaling="train"`` ``b / (1 - drop_prob)`` in training and no
    factor in evaluation.

    In mode "batch" a dropped branch is not called. In mode "row" it is called with the surviving rows of ``x``, if
    there are any: a BatchNorm in it then sees fewer rows, and cannot work with a single one of one element a channel.
    ``compute="masked"`` always calls it with all rows and multiplies by 0 what is dropped, as timm and torchvision do:
    that is what traces without a graph break under ``torch.compile``, exports, and runs in CUDA graphs and under vmap.
    Where nothing of a branch is computed its parameters have gradients of 0, not ``None``: data parallelism waits for
    all of them, and the optimiser treats them as after a masked step.

    Args:
        x: floating tensor; in modes "row" and "subset" its first dimension counts the samples.
        branch: a module or function of ``x``; its result broadcasts to the shortcut, and keeps rows apart. Gradients of
            0 can be given to the parameters of a module only.
        drop_prob: probability, in [0, 1], that the branch is dropped (1 - p_l of the paper); below 1 with
            ``scaling="train"``. A 0-d floating tensor is read when ``compute="skip"`` or by mode "subset", else only
            computed with.
        mode: "batch", "row" or "subset": one draw for all rows, one for each, or a fixed number of rows.
        scaling: "test" or "train": when the branch is scaled by the survival rate.
        compute: "skip" or "masked".
        shortcut: what the branch is added to, if not ``x``.
        residual_scale: s, a finite number that the branch is multiplied by in training and evaluation.
        training: draw; otherwise use the mean.
        seed: int or 0-d int64 tensor that determines the draw; from torch's default generator if ``None``, on the
            device of ``x`` for mode "subset" and ``compute="masked"``, else on the CPU.
        mask: boolean tensor, 0-d in mode "batch" and else of one element a row, True where the branch is dropped; used
            instead of a draw. In mode "subset" it keeps as many rows as a draw would.

    Returns:
        A tensor of the shape of ``shortcut + branch(x)`` and never ``x`` itself, so that it may be overwritten. Its
        dtype is that of the sum, or of the shortcut where all is dropped.

    Raises:
        TypeError: ``x`` is not floating, ``mask`` not boolean, a number is none.
        ValueError: ``drop_prob`` outside [0, 1], an unknown mode, scaling or compute, a mask of another shape, or both
            ``seed`` and ``mask``.
    """
    check_input(x, "stochastic_depth")
    how = How(mode, scaling, compute, residual_scale)
    drop_prob = check_rate(drop_prob, scaling)
    around = x if shortcut is None else shortcut
    if mask is not None:
        check_mask(mask, seed)
        check_shape(mask, around, how, drop_prob)
    if not training:
        return add_mean(around, branch(x), drop_prob, how)
    return add_dropped(around, branch, (x,), {}, drop_prob, how, (branch,), seed, mask)


class StochasticDepth(nn.Module):
    """A residual block whose branch is left out at random, and then not computed.

    >>> import torch
    >>> block = StochasticDepth(nn.Linear(4, 4), drop_prob=0.25)
    >>> x = torch.ones(2, 4)
    >>> bool((block.eval()(x) == x + 0.75 * block.branch(x)).all())
    True
    >>> import dropact
    >>> model = nn.Sequential(block, nn.ReLU())   # or into the residual blocks that a model has:
    >>> # dropact.add_stochastic_depth_(model, survival=0.75)

    Equations and arguments are those of :func:`dropact.functional.stochastic_depth`; the layer includes the addition.
    More arguments of a call go to the branch; in modes "row" and "subset" those with as many rows as ``x`` are cut to
    the surviving ones. ``layer.drop_prob`` may be set at any time.

    Under ``torch.compile`` modes "batch" and "row" break the graph at their decision, as Python has to act on it; mode
    "subset" and ``compute="masked"`` do not. In mode "subset" the rate decides shapes, and code is compiled anew for
    each that a schedule sets: let it go in a few steps. All hold under autocast and under activation checkpointing.

    Each rank of a distributed run takes its own decisions, from its own generator. With ``shared=`` a number, the same
    on all ranks, they take the same ones without a word between them: a function of that number and of how often the
    layer was called in training, and of nothing that a rank has of its own. Layers need numbers of their own. Where
    ranks wait for each other inside a branch (a module of it is fully sharded, its parameters are DTensors, a
    SyncBatchNorm), skipping by batch needs shared decisions, and says so at the first step if torch has a class for
    it. To resume exactly, put ``layer.sum.shared.count`` back. Calls are counted in Python: ``compute="masked"``, which
    compiled code and CUDA graphs run, is refused beside it, and mode "subset" then breaks the graph.

    Args:
        branch: module from ``x`` to what is added.
        shortcut: module from ``x`` to what the branch is added to; ``None`` for ``x`` itself.
        shared: ``None``, or an integer in [-2**63, 2**63); with ``compute="skip"`` only.
    """

    def __init__(
        self,
        branch: nn.Module,
        drop_prob: float = 0.5,
        mode: str = "batch",
        scaling: str = "test",
        compute: str = "skip",
        *,
        shortcut: nn.Module | None = None,
        residual_scale: float = 1.0,
        shared: int | None = None,
    ) -> None:
        super().__init__()
        for module, name in ((branch, "branch"), (shortcut, "shortcut")):
            if not isinstance(module, nn.Module) and (module is not None or name == "branch"):
                raise TypeError(f"{name} must be an nn.Module, got {type(module).__name__}")
        self.branch, self.shortcut = branch, shortcut
        self.sum = ResidualSum(drop_prob, mode, scaling, compute, residual_scale=residual_scale, shared=shared)

    @property
    def drop_prob(self) -> float:
        return self.sum.drop_prob

    @drop_prob.setter
    def drop_prob(self, value: float) -> None:
        self.sum.drop_prob = value

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return self.sum(shortcut, self.branch, (x, *args), kwargs, (self.branch,))

    def folded(self) -> nn.Module | None:
        """A module of stock operations around the branch, with this block's evaluation output in either mode.

        ``None`` where the branch takes what such a module cannot hand on: ``*args``, or defaults that are no numbers.
        """
        graph, innermost = torch.fx.Graph(), self.branch
        while isinstance(innermost, StochasticDepth):  # which hands on all that it is given
            innermost = innermost.branch
        args: list[torch.fx.Node] = []
        kwargs: dict[str, Any] = {}
        for number, parameter in enumerate(inspect.signature(innermost.forward).parameters.values()):
            name = "x" if number == 0 else parameter.name
            default = () if parameter.default is parameter.empty else (parameter.default,)
            plain = all(value is None or type(value) in (bool, int, float, str) for value in default)
            repeated = any(node.target == name for node in graph.nodes)
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not plain or repeated:
                return None
            node = graph.create_node("placeholder", name, default)
            if parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[name] = node
            else:
                args.append(node)
        if not args:
            return None
        shortcut = args[0] if self.shortcut is None else graph.call_module("shortcut", (args[0],))
        y = graph.call_module("branch", tuple(args), kwargs)
        if (factor := self.sum.folded().factor) != 1:
            y = graph.call_function(operator.mul, (y, factor))
        graph.output(graph.call_function(operator.add, (shortcut, y)))
        held = {"branch": self.branch} | ({} if self.shortcut is None else {"shortcut": self.shortcut})
        made = torch.fx.GraphModule(held, graph, "FoldedStochasticDepth")
        for name in held:  # in the order in which they stood
            made._modules[name] = made._modules.pop(name)
        return made
