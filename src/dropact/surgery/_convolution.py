"""Convolutions whose weights get their gradient from a kernel of ours; see kernels/convolution.py."""

from __future__ import annotations

from torch import Tensor, nn

from dropact.kernels.convolution import convolution, serves, serves_weights


class FusedConv2d(nn.Conv2d):
    """``nn.Conv2d`` of 3×3 pixels with padding 1, in bfloat16 and channels_last."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Asked at each call: a user may set another padding or a bias afterwards.
        if _ours(self) and serves(input, weight, self.stride):
            return convolution(input, weight, self.stride[0])
        return super()._conv_forward(input, weight, bias)


def fits(layer: nn.Conv2d) -> bool:
    """Whether the kernel is for such a layer."""
    return _ours(layer) and serves_weights(layer.weight, layer.stride)


def _ours(layer: nn.Conv2d) -> bool:
    settings = layer.padding, layer.dilation, layer.groups, layer.padding_mode, layer.bias
    return settings == ((1, 1), (1, 1), 1, "zeros", None)
