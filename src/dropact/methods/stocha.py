"""StochA: on the negative side, SiLU at random in place of ReLU.

Maria Lomeli et al.: Stochastic activations, arXiv:2509.22358, figure 1.

    training    y = x where x >= 0, else m SiLU(x),  m_i ~ Bernoulli(drop_prob), drawn afresh for every element
    evaluation  y = ReLU(x)

    paper               here
    p                   drop_prob              (probability of SiLU on the negative side)

The paper trains so, then for a while with ReLU alone, which is what it evaluates: set ``drop_prob`` to 0, or
``dropact.fold_`` the model, and train on. Reconstructed, as we know the paper by its abstract and first figure only:
that x >= 0 passes as it is, that the draw is per element, and the default drop_prob of 0.5, which is ours.
"""

from __future__ import annotations

from torch import Tensor

from dropact._activations import Activation, silu_below_zero
from dropact.methods.stochastic_activation import StochasticActivation, stochastic_activation


def stocha(
    x: Tensor,
    drop_prob: float | Tensor = 0.5,
    inplace: bool = False,
    *,
    training: bool = True,
    seed: int | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Apply ReLU, except where it is dropped: there the negative side is that of SiLU.

    >>> import torch
    >>> x = torch.tensor([-1.0, -1.0, 3.0])
    >>> stocha(x, mask=torch.tensor([True, False, True]))
    tensor([-0.2689,  0.0000,  3.0000])
    >>> stocha(x, training=False)
    tensor([0., 0., 3.])

    ``y = x`` where ``x >= 0``, else ``where(mask, SiLU(x), 0)`` with ``mask ~ Bernoulli(drop_prob)`` in training;
    ``ReLU(x)``, which is not the mean, in evaluation.

    Args:
        x: floating tensor of any shape and memory format; the result has its shape, dtype and storage order.
        drop_prob: probability, in [0, 1], of SiLU (p of the paper).
        inplace, training, seed, mask: as in :func:`dropact.functional.stochastic_activation`.

    Raises:
        TypeError, ValueError: as :func:`dropact.functional.stochastic_activation`.
    """
    return stochastic_activation(
        x, drop_prob, "relu", silu_below_zero, inplace, evaluation="relu", training=training, seed=seed, mask=mask
    )


class StochA(StochasticActivation):
    """StochA as a layer, in place of a ReLU: a :class:`StochasticActivation` of ReLU and SiLU's negative side.

    >>> StochA(drop_prob=0.5)
    StochA(drop_prob=0.5)
    >>> import dropact, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> receipt = dropact.convert_(model, StochA())  # or replace every ReLU of a model

    Equation, arguments and errors are those of :func:`dropact.functional.stocha`.
    """

    def __init__(self, drop_prob: float = 0.5, *, inplace: bool = False) -> None:
        super().__init__(drop_prob, "relu", silu_below_zero, inplace, evaluation="relu")

    def _made_for(self, activation: Activation, inplace: bool) -> StochA:
        return StochA(self.drop_prob, inplace=inplace)

    def extra_repr(self) -> str:
        return ", ".join([f"drop_prob={self.drop_prob:g}", *["inplace=True"] * self.inplace])
