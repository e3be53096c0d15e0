"""A stochastic activation: at random, replace one function of the input by another.

What Drop-Activation, AID and StochA have in common, for functions of one's own.

    training    y = (1 - m) f(x) + m g(x),  m_i ~ Bernoulli(drop_prob), drawn afresh for every element
    evaluation  y = (1 - drop_prob) f(x) + drop_prob g(x), the mean, or a function that is named

                        activation f    replacement g       evaluation
    Drop-Activation     any             x                   mean            (a method of its own: fused for ReLU)
    AID                 ReLU            -ReLU(-x)           mean            (fused)
    StochA              ReLU            SiLU where x < 0    ReLU            (fused)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dropact import kernels
from dropact._activations import Activation, fused
from dropact._arguments import check_broadcast, check_input, check_mask, check_probability
from dropact._elementwise import apply, mix, resolve, show
from dropact._random import as_seed
from dropact.methods._activation import AroundActivation, evaluate, mixed, same, stock, underlying
from dropact.methods._rate import LayerWithRate
from dropact.methods._tracing import special
from dropact.theory import UnitNoise


def stochastic_activation(
    x: Tensor,
    drop_prob: float | Tensor,
    activation: Activation,
    replacement: Activation,
    inplace: bool = False,
    *,
    evaluation: Activation | None = None,
    training: bool = True,
    seed: int | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Apply ``activation``, except where it is dropped: there apply ``replacement``.

    >>> x = torch.tensor([-2.0, 3.0])
    >>> stochastic_activation(x, 0.5, "relu", torch.square, mask=torch.tensor([True, False]))
    tensor([4., 3.])
    >>> stochastic_activation(x, 0.5, "relu", torch.square, training=False)
    tensor([2., 6.])

    ``y = where(mask, g(x), f(x))`` with ``mask ~ Bernoulli(drop_prob)`` in training; in evaluation the mean
    ``(1 - drop_prob) * f(x) + drop_prob * g(x)``, or ``evaluation`` of ``x``.

    Args:
        x: floating tensor of any shape and memory format; the result has its shape, dtype and storage order.
        drop_prob: probability, in [0, 1], that an element's activation is replaced. A 0-d floating tensor on the device
            of ``x`` is read there: changing its value recompiles nothing.
        activation, replacement: f and g, a name ("relu", "gelu", ...) or an elementwise callable. Both are computed for
            every element.
        inplace: write the result into ``x``. Saves nothing but for AID, as functions may need ``x`` for their gradient.
        evaluation: what evaluation computes in place of the mean.
        training: draw a mask; otherwise evaluate.
        seed: int or 0-d int64 tensor that determines the mask; drawn from torch's default generator if ``None``.
        mask: boolean tensor that broadcasts to the shape of ``x``, True where the activation is replaced; used instead
            of a draw.

    Raises:
        TypeError: ``x`` is not floating, ``mask`` not boolean, ``drop_prob`` or ``seed`` not a number, a function
            neither a name nor callable.
        ValueError: ``drop_prob`` outside [0, 1] or NaN, an unknown name, a function that is not elementwise, a mask
            that does not broadcast, or both ``seed`` and ``mask``.
    """
    check_input(x, "stochastic_activation")
    drop_prob = check_probability(drop_prob, "drop_prob")
    if mask is not None:
        check_mask(mask, seed)
        check_broadcast(mask, x)
    if not training and evaluation is not None:
        return evaluate(evaluation, x, inplace)

    f, g = fused(activation), fused(replacement)
    if mask is None and f is not None and g is not None:
        drawn = as_seed(seed, x) if training else None
        return kernels.pair(x, drawn, drop_prob, f, g, inplace=inplace, mean=not training)
    source = x.clone() if inplace else x  # the functions may keep their input for backward
    fx, gx = apply(activation, source), apply(replacement, source)
    if not training:
        y = mix(fx, gx, drop_prob)
    elif mask is None:
        y = kernels.choose(gx, fx, as_seed(seed, x), drop_prob)
    else:
        y = torch.where(mask, gx, fx)
    return x.copy_(y) if inplace else y


class StochasticActivation(AroundActivation, LayerWithRate):
    """A stochastic activation as a layer, in place of the activation that it drops.

    >>> layer = StochasticActivation(0.3, "relu", "silu")
    >>> layer
    StochasticActivation(drop_prob=0.3, activation=relu, replacement=silu)
    >>> layer.eval()(torch.tensor([1.0]))  # 0.7 * 1 + 0.3 * 0.7311
    tensor([0.9193])
    >>> import dropact
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> receipt = dropact.convert_(model, layer)  # or replace every ReLU of a model

    Equation, arguments and errors are those of :func:`dropact.functional.stochastic_activation`; the functions have no
    parameters. ``layer.drop_prob`` may be set at any time, and compiled code is not compiled again for it.
    ``dropact.AID`` and ``dropact.StochA`` are such layers.
    """

    def __init__(
        self,
        drop_prob: float,
        activation: Activation,
        replacement: Activation,
        inplace: bool = False,
        *,
        evaluation: Activation | None = None,
    ) -> None:
        super().__init__(drop_prob)
        for function in (activation, replacement, *([] if evaluation is None else [evaluation])):
            resolve(function)
            if isinstance(function, nn.Module) and any(True for _ in function.parameters()):
                raise ValueError(f"{show(function)} has parameters, which every layer made of this one would share")
        self.activation = activation
        self.replacement = replacement
        self.evaluation = evaluation
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.is_nested:
            return special(self, x)
        return stochastic_activation(
            x,
            self.rate_on(x.device) if self.training else self.rate(),
            self.activation,
            self.replacement,
            self.inplace,
            evaluation=self.evaluation,
            training=self.training,
        )

    def replacement_for(self, activation: Activation) -> nn.Module | None:
        """This layer's settings in place of the activation that it drops; ``None`` for any other."""
        if isinstance(activation, StochasticActivation) and self._is_like(activation):
            return activation
        inner = underlying(activation)
        if not same(inner, self.activation):
            return None
        inplace = bool(getattr(activation, "inplace", False))
        return self._made_for(inner, inplace)

    def _made_for(self, activation: Activation, inplace: bool) -> StochasticActivation:
        return StochasticActivation(self.drop_prob, activation, self.replacement, inplace, evaluation=self.evaluation)

    def _is_like(self, other: StochasticActivation) -> bool:
        functions = ("activation", "replacement", "evaluation")
        alike = type(self) is type(other) and self.drop_prob == other.drop_prob
        return alike and all(same(getattr(self, f), getattr(other, f)) for f in functions)

    def folded(self) -> nn.Module:
        """A layer without dropact that has this layer's evaluation output, in either mode."""
        if self.evaluation is not None:
            return stock(self.evaluation, self.inplace)
        if self.drop_prob in (0, 1):
            return stock(self.replacement if self.drop_prob else self.activation, self.inplace)
        parts = {
            "activation": (self.activation, 1 - self.drop_prob),
            "replacement": (self.replacement, self.drop_prob),
        }
        return mixed("FoldedStochasticActivation", 0.0, parts, self.inplace)

    def noise(self, x: Tensor) -> UnitNoise:
        """What training adds to the evaluation output: a shifted Bernoulli variable times ``g(x) - f(x)``.

        Raises:
            TypeError: evaluation is not the mean.
        """
        if self.evaluation is not None:
            raise TypeError(f"the noise of a {type(self).__name__} whose evaluation is not its mean has no mean of 0")
        q = self.drop_prob
        return UnitNoise(apply(self.replacement, x) - apply(self.activation, x), q * (1 - q))

    def extra_repr(self) -> str:
        parts = [f"drop_prob={self.drop_prob:g}"]
        for name in ("activation", "replacement", "evaluation"):
            function = getattr(self, name)
            if function is not None and (name == "activation" or not isinstance(function, nn.Module)):
                parts.append(f"{name}={show(function)}")
        return ", ".join(parts + ["inplace=True"] * self.inplace)
