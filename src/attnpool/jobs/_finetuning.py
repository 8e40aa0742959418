"""A backbone that was trained before: it may wait while the new layers learn, and they may learn faster."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attnpool.layers.ulsam import ULSAM
from attnpool.models.features import StageFeatures
from attnpool.registry import POOLS


def new_layers(net: nn.Module) -> Iterator[nn.Module]:
    """The layers that no pretrained backbone brings: pools and subspace attention."""
    kinds = (*POOLS.classes, ULSAM)
    return (module for module in net.modules() if isinstance(module, kinds))


def groups_with_pool_lr(net: Any, weight_decay: float, lr: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser: new layers at `lr`, the rest at its own; no decay of biases and norms."""
    new = {id(p) for layer in new_layers(net) for p in layer.parameters()}
    spared: set[str] = getattr(net, "no_weight_decay", set)()
    groups = []
    for group in param_groups_weight_decay(net, weight_decay, no_weight_decay_list=spared):
        groups.append({**group, "params": [p for p in group["params"] if id(p) not in new]})
        groups.append({**group, "params": [p for p in group["params"] if id(p) in new], "lr": lr})
    return [group for group in groups if group["params"]]


class Freezing(pl.Callback):
    """For the first epochs only new layers learn, and the classifier or all of a detector that is not its backbone.

    The rest, norms and all, stays as it is.

    Args:
        epochs: How many.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # Lightning leaves it out for a run that goes on in mid-epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        net, frozen = pl_module.model, trainer.current_epoch < self.epochs
        net.requires_grad_(not frozen)
        for module in net.modules():
            if isinstance(module, _BatchNorm):
                module.train(not frozen)
        for layer in (*new_layers(net), *_heads(net)):
            layer.requires_grad_(True).train()


def _heads(net: Any) -> list[nn.Module]:
    """What learns from scratch beside new layers: the classifier, or whatever of a detector holds no backbone."""
    if not any(isinstance(module, StageFeatures) for module in net.modules()):
        return [net.get_classifier()]
    found, holders = list[nn.Module](), [net]
    while holders:
        for child in holders.pop().children():
            if isinstance(child, StageFeatures):
                continue
            inside = any(isinstance(module, StageFeatures) for module in child.modules())
            (holders if inside else found).append(child)
    return found
