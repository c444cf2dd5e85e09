"""BatchNorm over the batches of all processes together.

torch's own runs on GPUs alone; this one runs where torch.distributed does, so that CPUs give the same curve.

Shape letters: B batch, C channels, ... the rest.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.numerics.class_means import ClassMeans
from cocktail.numerics.precision import at_least_float32

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Normalize(torch.autograd.Function):
    """Normalization (x - mean) / sqrt(var + eps) * weight + bias with the mean and the biased variance over all
    processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, counted: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        wide = at_least_float32(x)
        size = x.numel() // x.shape[1] * counted
        count = torch.full((1,), size, dtype=wide.dtype, device=x.device)
        # Two passes, as a sum of squares would lose what a small variance has beside a large mean.
        sums = torch.cat([wide.sum(dim=axes) * counted, count])
        dist.all_reduce(sums)
        total, count = sums[-1:], sums[-1:].clamp(min=1)  # of nothing at all the mean is 0
        mean = sums[:-1] / count
        centred = wide - _as_channels(mean, x)
        squares = centred.square().sum(dim=axes) * counted
        dist.all_reduce(squares)
        variance = squares / count
        scale = (variance + eps).rsqrt()
        out = centred * _as_channels(scale * weight, x) + _as_channels(bias, x)
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.counted = counted
        ctx.mark_non_differentiable(mean, variance, total)
        # `to` of the type that it has already hands `out` back: of an alias, compiled code was seen to lose gradients.
        return out if out.dtype == x.dtype else out.to(x.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, mean, scale, count = ctx.saved_tensors
        axes = [axis for axis in range(x.dim()) if axis != 1]
        grad = at_least_float32(grads[0])
        normed = (at_least_float32(x) - _as_channels(mean, x)) * _as_channels(scale, x)
        by_bias, by_weight = grad.sum(dim=axes), (grad * normed).sum(dim=axes)
        sums = torch.stack([by_bias, by_weight])
        dist.all_reduce(sums)
        # What is not counted has no part in mean and variance, so it has no gradient through them.
        shared = (sums / count) * ctx.counted
        inner = grad - _as_channels(shared[0], x) - normed * _as_channels(shared[1], x)
        by_x = inner * _as_channels(scale * weight, x)
        return by_x.to(x.dtype), by_weight.to(weight.dtype), by_bias.to(weight.dtype), None, None


class SyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm of [B, C, ...] with the statistics of all processes' batches, in float32 at least; gradients, too.

    With one process, or in evaluation, it is plain BatchNorm. Processes must pass it equally often. Parameters and
    state are BatchNorm2d's; the input may have any number of axes.
    """

    counted = True
    """False: this process's batch has no part in the statistics (it stands in for mixtures that are not there)."""

    def forward(self, input: Tensor) -> Tensor:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        if _is_alone() or not self.training:
            self.num_batches_tracked.add_(int(self.training))
            state = (self.running_mean, self.running_var, self.weight, self.bias)
            return F.batch_norm(input, *state, self.training, self.momentum, self.eps)
        out, mean, variance, count = _Normalize.apply(input, self.weight, self.bias, self.eps, self.counted)  # pyright: ignore[reportGeneralTypeIssues]
        with torch.no_grad():
            # Where no process has anything that counts, nothing is averaged. The device alone knows it.
            some = count > 0
            self.num_batches_tracked.add_(some.squeeze(0))
            unbiased = variance * (count / (count - 1).clamp(min=1))
            weight = some.to(self.running_mean.dtype) * self.momentum
            self.running_mean.lerp_(mean.to(weight.dtype), weight)
            self.running_var.lerp_(unbiased.to(weight.dtype), weight)
        return out


def synchronize_batch_norm(model: nn.Module) -> None:
    """Turn every BatchNorm of a model into one over all processes, in place: parameters and state keep their names."""
    for name, module in model.named_children():
        if isinstance(module, _PLAIN) and not isinstance(module, SyncBatchNorm):
            if not module.affine or not module.track_running_stats or module.momentum is None:
                raise ValueError(f"{name}: only BatchNorm with weights and running averages can be synchronised")
            like = {"device": module.weight.device, "dtype": module.weight.dtype}
            synced = SyncBatchNorm(module.num_features, eps=module.eps, momentum=module.momentum, **like)
            synced.load_state_dict(module.state_dict())
            synced.weight.requires_grad_(module.weight.requires_grad)
            synced.bias.requires_grad_(module.bias.requires_grad)
            synced.train(module.training)
            setattr(model, name, synced)
        else:
            synchronize_batch_norm(module)


def set_counted(model: nn.Module, counted: bool) -> None:
    """Whether this process's batches have a part in the statistics of a model's synchronised BatchNorms."""
    for module in model.modules():
        if isinstance(module, SyncBatchNorm):
            module.counted = counted


def own_buffers(model: nn.Module) -> list[Tensor]:
    """The buffers that this process's batches alone change: all but the statistics of all processes' batches."""
    shared = {
        id(buffer)
        for module in model.modules()
        if isinstance(module, (SyncBatchNorm, ClassMeans)) and not _is_alone()
        for buffer in module.buffers()
    }
    return [buffer for buffer in model.buffers() if id(buffer) not in shared]


def _is_alone() -> bool:
    return not dist.is_initialized() or dist.get_world_size() == 1


def _as_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.dim() - 2))
