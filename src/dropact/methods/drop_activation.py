"""Drop-Activation: at random, replace the nonlinearity by the identity.

Senwei Liang, Yuehaw Khoo, Haizhao Yang: Drop-Activation: Implicit Parameter Reduction and Harmonic Regularization,
arXiv:1811.05850, equations 3 to 5.

    training    y = (I - P) x + P f(x),  P_i ~ Bernoulli(1 - drop_prob), drawn afresh in every forward pass
    evaluation  y = drop_prob * x + (1 - drop_prob) * f(x), the mean; for ReLU a LeakyReLU of slope drop_prob

    paper               here
    p, kept w. prob.    1 - drop_prob          (0.95 in all of the paper's tables: drop_prob = 0.05)
    P                   ~mask                  (mask is True where the nonlinearity is dropped)
    f, r                activation

The mask is not rescaled, neither in training nor in evaluation. ``granularity="element"`` is the paper's; the coarser
ones are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropact import kernels
from dropact._activations import Activation, fused, is_relu
from dropact._arguments import FLOATING, check_broadcast, check_choice, check_input, check_mask, check_probability
from dropact._elementwise import apply, mix, resolve, show
from dropact._random import as_seed, is_chosen, random_bits_like
from dropact._sharding import replicated
from dropact.methods._activation import AroundActivation, mixed, stock, underlying
from dropact.methods._rate import LayerWithRate
from dropact.methods._tracing import special
from dropact.theory import UnitNoise

GRANULARITIES = ("element", "channel", "sample", "layer")


def drop_activation(
    x: Tensor,
    drop_prob: float | Tensor = 0.05,
    activation: Activation = "relu",
    granularity: str = "element",
    inplace: bool = False,
    *,
    training: bool = True,
    seed: int | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Apply ``activation``, except where it is dropped: there pass ``x`` through.

    >>> x = torch.tensor([-2.0, -1.0, 3.0])
    >>> drop_activation(x, 0.05, training=False)
    tensor([-0.1000, -0.0500,  3.0000])
    >>> drop_activation(x, mask=torch.tensor([True, False, False]))
    tensor([-2.,  0.,  3.])

    ``y = where(mask, x, f(x))`` with ``mask ~ Bernoulli(drop_prob)`` in training, and its mean
    ``drop_prob * x + (1 - drop_prob) * f(x)`` in evaluation.

    Args:
        x: floating tensor of any shape and memory format; the result has its shape, dtype and storage order.
        drop_prob: probability, in [0, 1], that a nonlinearity is replaced by the identity (1 - p of the paper). A
            0-d floating tensor on the device of ``x`` is read there: changing its value recompiles nothing.
        activation: a name ("relu", "gelu", "silu", "tanh", ...) or an elementwise callable or module.
        granularity: what shares one draw: "element" (the paper), "channel" (all positions of dimension 1 of one
            sample), "sample" (dimension 0) or "layer" (the whole tensor).
        inplace: write the result into ``x``. Saves memory for ReLU; other activations need ``x`` for their gradient.
        training: draw a mask; otherwise use the mean.
        seed: int or 0-d int64 tensor that determines the mask; drawn from torch's default generator if ``None``.
        mask: boolean tensor that broadcasts to the shape of ``x``, True where the nonlinearity is dropped; used
            instead of a draw.

    Raises:
        TypeError: ``x`` is not floating, ``mask`` not boolean, ``drop_prob`` or ``seed`` not a number.
        ValueError: ``drop_prob`` outside [0, 1] or NaN, an unknown name, a mask that does not broadcast, or both
            ``seed`` and ``mask``.
    """
    check_input(x, "drop_activation")
    drop_prob = check_probability(drop_prob, "drop_prob")
    check_choice(granularity, "granularity", GRANULARITIES)
    if mask is not None:
        check_mask(mask, seed)
        check_broadcast(mask, x)
    if not training:
        return _mean(x, drop_prob, activation, inplace)
    return _random(x, drop_prob, activation, granularity, inplace, seed, mask)


def _random(
    x: Tensor,
    drop_prob: float | Tensor,
    activation: Activation,
    granularity: str,
    inplace: bool,
    seed: int | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    if mask is None and granularity != "element":
        mask = _coarse_mask(x, as_seed(seed, x), drop_prob, granularity)
    if is_relu(activation):
        if mask is None:
            return kernels.drop_relu(x, as_seed(seed, x), drop_prob, inplace)
        y = kernels.masked_relu(x, mask)
    elif mask is None and (f := fused(activation)) is not None:
        return kernels.pair(x, as_seed(seed, x), drop_prob, f, inplace=inplace)
    else:
        source = x.clone() if inplace else x  # the activation may keep its input for backward
        fx = apply(activation, source)
        y = kernels.choose(source, fx, as_seed(seed, x), drop_prob) if mask is None else torch.where(mask, source, fx)
    return x.copy_(y) if inplace else y


def _mean(x: Tensor, drop_prob: float | Tensor, activation: Activation, inplace: bool) -> Tensor:
    if is_relu(activation):
        if not isinstance(drop_prob, Tensor):
            # LeakyReLU of slope 0 makes NaN of -inf
            return F.leaky_relu(x, drop_prob, inplace=inplace) if drop_prob else F.relu(x, inplace=inplace)
        y = torch.where(drop_prob == 0, F.relu(x), torch.where(x > 0, x, x * drop_prob)).to(x.dtype)
    elif (f := fused(activation)) is not None:
        return kernels.pair(x, None, drop_prob, f, inplace=inplace, mean=True)
    else:
        source = x.clone() if inplace else x
        y = mix(apply(activation, source), source, drop_prob)
    return x.copy_(y) if inplace else y


def _coarse_mask(x: Tensor, seed: Tensor, drop_prob: float | Tensor, granularity: str) -> Tensor:
    shared_from = {"channel": 2, "sample": 1, "layer": 0}[granularity]
    shape = [size if d < shared_from else 1 for d, size in enumerate(x.shape)]
    units = shape[0] * (shape[1] if x.dim() > 1 else 1) if shape else 1
    mask = is_chosen(random_bits_like(seed, torch.empty(units, device=x.device)), drop_prob).view(shape)
    return replicated(mask, x)


class DropActivation(AroundActivation, LayerWithRate):
    """Drop-Activation as a layer, in place of an activation layer.

    >>> layer = DropActivation(drop_prob=0.05, activation="relu")
    >>> layer.eval()(torch.tensor([-1.0, 1.0]))
    tensor([-0.0500,  1.0000])
    >>> import dropact
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> receipt = dropact.convert_(model, DropActivation(0.05))  # or replace every activation of a model

    Equation, arguments and errors are those of :func:`dropact.functional.drop_activation`. ``layer.drop_prob`` may be
    set at any time: compiled code reads it from a tensor, so that a schedule recompiles nothing. It is no part of
    ``state_dict``, whose keys stay those of the plain activation (a parametric one, such as ``nn.PReLU``, keeps its
    own).
    """

    def __init__(
        self,
        drop_prob: float = 0.05,
        activation: Activation = "relu",
        granularity: str = "element",
        inplace: bool = False,
    ) -> None:
        super().__init__(drop_prob)
        resolve(activation)
        self.activation = activation
        self.granularity = check_choice(granularity, "granularity", GRANULARITIES)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.is_nested:
            return special(self, x)
        if x.dtype not in FLOATING:
            check_input(x, "DropActivation")
        # Everything else was checked when it was set.
        if self.training:
            return _random(x, self.rate_on(x.device), self.activation, self.granularity, self.inplace)
        return _mean(x, self.rate(), self.activation, self.inplace)

    def replacement_for(self, activation: Activation) -> nn.Module:
        """This layer's settings around another activation: what ``dropact.convert_`` puts in its place."""
        inplace = bool(getattr(activation, "inplace", False))
        if isinstance(activation, DropActivation) and (activation.drop_prob, activation.granularity) == (
            self.drop_prob,
            self.granularity,
        ):
            return activation
        return DropActivation(self.drop_prob, underlying(activation), self.granularity, inplace)

    def folded(self) -> nn.Module:
        """A stock layer with this layer's evaluation output, in either mode."""
        if self.drop_prob == 1:
            return nn.Identity()
        if self.drop_prob == 0:
            return stock(self.activation, self.inplace)
        if is_relu(self.activation):
            return nn.LeakyReLU(self.drop_prob, self.inplace)
        parts = {"activation": (self.activation, 1 - self.drop_prob)}
        return mixed("FoldedDropActivation", self.drop_prob, parts, self.inplace)

    def noise(self, x: Tensor) -> UnitNoise:
        """What training adds to the evaluation output: a shifted Bernoulli variable times ``x - f(x)``."""
        q = self.drop_prob
        return UnitNoise(x - apply(self.activation, x), q * (1 - q), self.granularity)

    def extra_repr(self) -> str:
        parts = [f"drop_prob={self.drop_prob:g}", f"activation={show(self.activation)}"]
        if self.granularity != "element":
            parts.append(f"granularity={self.granularity}")
        return ", ".join(parts + ["inplace=True"] * self.inplace)
