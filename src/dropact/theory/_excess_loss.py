"""Property 5.1: what Drop-Activation adds to the squared loss of a network with one hidden layer.

Senwei Liang, Yuehaw Khoo, Haizhao Yang: arXiv:1811.05850, equations 9 to 11, **corrected**. With q = drop_prob,
v = W1 x + b1, and r_p = q id + (1 - q) f, the activation of evaluation::

    E |W2 h_train - y|^2 - |W2 r_p(v) - y|^2  =  q (1 - q) sum_i |W2[:, i]|^2 (v_i - f(v_i))^2     one mask per unit
                                              =  q (1 - q) |W2 (v - f(v))|^2                       one mask for all

The paper derives the first situation and prints the second formula, as q / (1 - q) |W2 v - W2 r_p(v)|^2; its cross
terms between units vanish for independent masks. docs/errata.md has the derivation and the simulation. Both are exact
for every f, and neither depends on y or on the output's bias.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dropact._activations import Activation
from dropact._arguments import check_choice, check_input, check_number
from dropact._elementwise import apply

# In a layer of hidden units (N, d) a channel is a unit, and a mask shared by a sample or by the batch is one for all
# units of each sample: the mean over masks cannot tell the last two apart.
_SHARED = {"element": False, "channel": False, "sample": True, "layer": True}


def excess_loss(
    w1: Tensor,
    w2: Tensor,
    x: Tensor,
    drop_prob: float,
    granularity: str = "element",
    *,
    activation: Activation = "relu",
    b1: Tensor | None = None,
) -> Tensor:
    """Mean training loss over the masks minus test-time loss, for each sample, in the squared loss.

    >>> import torch
    >>> w1, w2, x = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0, -1.0]]), torch.tensor([[-1.0]])
    >>> excess_loss(w1, w2, x, 0.1)                          # two units of opposite weight: the noise does not cancel
    tensor([0.1800])
    >>> excess_loss(w1, w2, x, 0.1, granularity="layer")     # with one mask for both it does
    tensor([0.])

    Differentiable in the weights: the regulariser in place of the noise.

    Args:
        w1: first weights ``(d, m)``.
        w2: second weights ``(o, d)``.
        x: inputs ``(N, m)``.
        drop_prob: probability, in [0, 1], that a nonlinearity is dropped (1 - p of the paper).
        granularity: what shares one draw, as in :class:`dropact.DropActivation`: "element" (the method of the paper,
            whose printed formula does not hold for it) and "channel" have one per unit; "sample" and "layer" one for
            all units of a sample, for which the printed formula is exact.
        activation: a name or an elementwise callable.
        b1: first bias ``(d,)``. The second cancels.

    Returns:
        Tensor ``(N,)``, not negative, in the units of the loss.

    Raises:
        TypeError: ``drop_prob`` is not a number, or a tensor is not floating.
        ValueError: ``drop_prob`` outside [0, 1], an unknown name, or shapes that do not fit.
    """
    q = check_number(drop_prob, "drop_prob", low=0.0, high=1.0)
    check_choice(granularity, "granularity", tuple(_SHARED))
    for tensor, name in ((w1, "w1"), (w2, "w2"), (x, "x")):
        check_input(tensor, f"{name} of excess_loss")
    fits = w1.dim() == w2.dim() == x.dim() == 2 and w2.shape[1] == w1.shape[0] and x.shape[1] == w1.shape[1]
    if not fits or (b1 is not None and b1.shape != w1.shape[:1]):
        came = ", ".join(str(tuple(t.shape)) for t in (w1, w2, x, b1) if t is not None)
        raise ValueError(f"w1, w2, x (and b1) must be of shape (d, m), (o, d), (N, m) (and (d,)), got {came}")
    v = F.linear(x, w1, b1)
    gap = v - apply(activation, v)
    if _SHARED[granularity]:
        return q * (1 - q) * F.linear(gap, w2).square().sum(1)
    return q * (1 - q) * (gap.square() @ w2.square().sum(0))
