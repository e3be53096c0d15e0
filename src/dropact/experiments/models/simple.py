"""The simple network of the Drop-Activation paper (Section 4.1, Figure 2).

Three times [convolution 3×3, BatchNorm, ReLU, average pool 2×2], then two fully connected layers. The paper gives no
widths. Ours: 32-64-128 and 256 hidden units for 32×32 images ("simple"), half of that and 64 hidden units for the
8×8 digits ("simple-small"); "simple-half" and "simple-double" have half and twice the widths of "simple", and
"simple-plain" is "simple" without BatchNorm. A ReLU stands between the two fully connected layers, so there are four
call sites.
"""

from collections import OrderedDict

from torch import nn


def _stage(in_channels: int, out_channels: int, batchnorm: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=not batchnorm),  # BatchNorm has the bias
        nn.BatchNorm2d(out_channels) if batchnorm else nn.Identity(),
        nn.ReLU(),
        nn.AvgPool2d(2),
    )


def simple(
    *,
    widths: tuple[int, int, int],
    hidden: int,
    num_classes: int,
    in_channels: int,
    image_size: int,
    batchnorm: bool = True,
) -> nn.Module:
    """The network for square images of `image_size` ≥ 8 pixels; each pool halves the side, rounding down."""
    pixels = (image_size // 8) ** 2
    return nn.Sequential(
        OrderedDict(
            stage1=_stage(in_channels, widths[0], batchnorm),
            stage2=_stage(widths[0], widths[1], batchnorm),
            stage3=_stage(widths[1], widths[2], batchnorm),
            flatten=nn.Flatten(),
            hidden=nn.Linear(widths[2] * pixels, hidden),
            relu=nn.ReLU(),
            classifier=nn.Linear(hidden, num_classes),
        )
    )
