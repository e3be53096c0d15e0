"""BatchNorm layers that wait for the sum and the activation behind them; see kernels/deferred.py."""

from __future__ import annotations

from torch import Tensor, nn

from dropact.kernels import deferred
from dropact.kernels.batch_norm import serves


class _Fused(nn.modules.batchnorm._BatchNorm):
    """torch's layer, with its parameters, buffers and rules."""

    def forward(self, input: Tensor) -> Tensor:
        statistics = self.weight, self.bias, self.running_mean, self.running_var
        by_batch = self.training or self.running_mean is None
        if not by_batch or not serves(input, *statistics):
            return super().forward(input)
        self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the mean over all batches so far
                factor = 1.0 / float(self.num_batches_tracked)
        running = (self.running_mean, self.running_var) if self.training else (None, None)
        return deferred.batch_norm(input, self.weight, self.bias, *running, factor, self.eps)


class FusedBatchNorm1d(_Fused, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` of 2-dimensional inputs."""


class FusedBatchNorm2d(_Fused, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` of inputs in channels_last."""


class FusedBatchNorm3d(_Fused, nn.BatchNorm3d):
    """``nn.BatchNorm3d`` of inputs in channels_last_3d."""


BATCH_NORMS: dict[type[nn.Module], type[_Fused]] = {
    nn.BatchNorm1d: FusedBatchNorm1d,
    nn.BatchNorm2d: FusedBatchNorm2d,
    nn.BatchNorm3d: FusedBatchNorm3d,
}
