"""Train faster on a CPU: fused BatchNorm, and a kernel for the gradients of convolution weights."""

from __future__ import annotations

import copy

from torch import nn

from dropact.surgery._fused import fused_class
from dropact.surgery._refuse import refuse_wrapped
from dropact.surgery._steps import Class
from dropact.surgery.receipt import Change, Receipt


def fuse_(model: nn.Module) -> Receipt:
    """Train ``model`` faster in eager code on a CPU: BatchNorm in one pass with what follows it, and a kernel for the
    gradients of convolution weights.

    >>> import dropact
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), dropact.DropActivation(0.05))
    >>> receipt = dropact.fuse_(model)
    >>> receipt.changes[0].name, type(model[1]).__name__
    ('1', 'FusedBatchNorm2d')

    * BatchNorm layers, in float16, bfloat16 or float32: ``y = act(batch_norm(x) + shortcut)``, the activation ReLU or
      Drop-Activation, in two passes over memory, one of them for the statistics, and its gradient in two. Masks are
      those of the separate layers under the same seed; values differ by the rounding of the batch's statistics alone.
      Their output is a tensor that is computed where it is used (`dropact.kernels.deferred`): ``torch.fx`` cannot trace
      it, and after an activation has joined the pass there is no gradient with respect to what came before it:
      ``undo()`` or ``fold_`` first.
    * 3×3 convolutions with padding 1, stride 1 or 2 and no bias, of multiples of 16 channels and at most 8,192 pairs of
      them, in bfloat16 (autocast or not), on processors that have AVX512_BF16 and no AMX: the gradient of the weights,
      in float32 and faster than oneDNN's (`dropact.kernels.convolution`). The output keeps its bits.

    Both need the channels innermost (``channels_last``). Elsewhere (evaluation, a GPU, ``torch.compile``, contiguous
    images, no C extension) the layers are torch's own. They stay BatchNorm layers and convolutions, with their
    parameters, hooks and ``state_dict``. What the kernels compute does not depend on the number of threads.

    Returns:
        A :class:`Receipt` with ``undo()``; empty if there is nothing to fuse.

    Raises:
        TypeError: a scripted, compiled or wrapped model.
    """
    refuse_wrapped(model, "fuse_")
    changes, steps = [], []
    for name, module in model.named_modules():
        if (cls := fused_class(module)) is not None:
            changes.append(Change(name, copy.copy(module), module))
            steps.append(Class(name, type(module), cls))
    receipt = Receipt(model, tuple(changes), (), tuple(steps))
    receipt.apply()
    return receipt
