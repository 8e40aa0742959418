"""Batch norm with the statistics of all processes, on any device."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import LayerSync
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class SyncBatchNorm(LayerSync):
    """While a network trains in several processes, its batch norms see the batch of all of them.

    On a GPU by torch's own layer (timm's conversion keeps activations that are fused to a norm); that layer refuses
    other devices, where the mean and the variance are reduced over the processes one after the other. The processes
    have batches of one size.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Let every batch norm of the network see all processes, in place."""
        if next(model.parameters()).is_cuda:
            synced: nn.Module = convert_sync_batchnorm(model)
            return synced
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                vars(module)["forward"] = partial(_forward, module)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Undo `apply`, as far as it was done in place."""
        for module in model.modules():
            vars(module).pop("forward", None)
        return model


def _forward(norm: Any, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    axes, shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    processes = dist.get_world_size()
    mean = all_reduce(x.mean(axes)) / processes  # (C,)
    centred = x - mean.view(shape)
    variance = all_reduce(centred.square().mean(axes)) / processes
    if norm.track_running_stats:
        norm.num_batches_tracked.add_(1)
        part = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        count = processes * x.numel() / x.shape[1]
        with torch.no_grad():
            norm.running_mean.lerp_(mean, part)
            norm.running_var.lerp_(variance * count / max(count - 1, 1), part)
    y = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
    for fused in ("drop", "act"):  # timm's BatchNormAct2d
        y = getattr(norm, fused, nn.Identity())(y)
    return y
