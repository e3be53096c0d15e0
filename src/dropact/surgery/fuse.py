"""Compute BatchNorm layers together with what follows them, on a CPU."""

from __future__ import annotations

import copy

from torch import nn

from dropact.surgery._batch_norm import FUSED
from dropact.surgery._refuse import refuse_wrapped
from dropact.surgery._steps import Class
from dropact.surgery.receipt import Change, Receipt


def fuse_(model: nn.Module) -> Receipt:
    """Let each BatchNorm of ``model`` compute in one pass with the sum and the ReLU or Drop-Activation behind it.

    >>> import dropact
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), dropact.DropActivation(0.05))
    >>> receipt = dropact.fuse_(model)
    >>> receipt.changes[0].name, type(model[1]).__name__
    ('1', 'FusedBatchNorm2d')

    For training in eager code on a CPU, with the channels innermost (``channels_last``) and in float16, bfloat16 or
    float32: ``y = act(batch_norm(x) + shortcut)`` in two passes over memory, one of them for the statistics, and its
    gradient in two. Elsewhere (evaluation, a GPU, ``torch.compile``, contiguous images, no C extension) the layers are
    torch's own. Masks are those of the separate layers under the same seed; values differ by the rounding of the
    batch's statistics alone, which do not depend on the number of threads.

    The layers stay BatchNorm layers, with their parameters, hooks and ``state_dict``. Their output is a tensor that is
    computed where it is used (`dropact.kernels.deferred`). ``torch.fx`` cannot trace it: ``undo()`` or ``fold_`` first.

    Returns:
        A :class:`Receipt` with ``undo()``; empty if there is nothing to fuse.

    Raises:
        TypeError: a scripted, compiled or wrapped model.
    """
    refuse_wrapped(model, "fuse_")
    changes, steps = [], []
    for name, module in model.named_modules():
        if (cls := FUSED.get(type(module))) is not None:
            changes.append(Change(name, copy.copy(module), module))
            steps.append(Class(name, type(module), cls))
    receipt = Receipt(model, tuple(changes), (), tuple(steps))
    receipt.apply()
    return receipt
