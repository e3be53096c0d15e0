"""AID, activation by interval-wise dropout: at random, pass the negative part of the input in place of the positive.

Sangyeon Park, Isaac Han, Seungwon Oh, Kyung-Joong Kim: Activation by Interval-wise Dropout: A Simple Way to Prevent
Neural Networks from Plasticity Loss, ICML 2025, arXiv:2502.01342; its form for ReLU, with two intervals.

    training    y = m ReLU(x) + (1 - m) (-ReLU(-x)),  m_i ~ Bernoulli(1 - drop_prob), drawn afresh for every element
    evaluation  y = (1 - drop_prob) x where x >= 0, else drop_prob x: the mean

    paper               here
    p                   1 - drop_prob
    m                   ~mask                  (mask is True where ReLU is dropped)

The equations are the paper's. The default drop_prob of 0.1 is ours: the paper's p goes from 0.7 to 0.999 with the task,
as a public replication lists it.
"""

from __future__ import annotations

from torch import Tensor

from dropact._activations import Activation, negative_part
from dropact.methods.stochastic_activation import StochasticActivation, stochastic_activation


def aid(
    x: Tensor,
    drop_prob: float | Tensor = 0.1,
    inplace: bool = False,
    *,
    training: bool = True,
    seed: int | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Apply ReLU, except where it is dropped: there pass the negative part.

    >>> import torch
    >>> x = torch.tensor([-2.0, -2.0, 3.0, 3.0])
    >>> aid(x, mask=torch.tensor([True, False, True, False]))
    tensor([-2.,  0.,  0.,  3.])
    >>> aid(x, 0.1, training=False)
    tensor([-0.2000, -0.2000,  2.7000,  2.7000])

    ``y = where(mask, min(x, 0), max(x, 0))`` with ``mask ~ Bernoulli(drop_prob)`` in training; in evaluation the mean.

    Args:
        x: floating tensor of any shape and memory format; the result has its shape, dtype and storage order.
        drop_prob: probability, in [0, 1], that the negative part is passed (1 - p of the paper).
        inplace, training, seed, mask: as in :func:`dropact.functional.stochastic_activation`.

    Raises:
        TypeError, ValueError: as :func:`dropact.functional.stochastic_activation`.
    """
    return stochastic_activation(x, drop_prob, "relu", negative_part, inplace, training=training, seed=seed, mask=mask)


class AID(StochasticActivation):
    """AID as a layer, in place of a ReLU: a :class:`StochasticActivation` of ReLU and its negative counterpart.

    >>> AID(drop_prob=0.1)
    AID(drop_prob=0.1)
    >>> import dropact, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> receipt = dropact.convert_(model, AID())  # or replace every ReLU of a model

    Equation, arguments and errors are those of :func:`dropact.functional.aid`.
    """

    def __init__(self, drop_prob: float = 0.1, *, inplace: bool = False) -> None:
        super().__init__(drop_prob, "relu", negative_part, inplace)

    def _made_for(self, activation: Activation, inplace: bool) -> AID:
        return AID(self.drop_prob, inplace=inplace)

    def extra_repr(self) -> str:
        return ", ".join([f"drop_prob={self.drop_prob:g}", *["inplace=True"] * self.inplace])
