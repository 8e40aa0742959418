"""The softmax temperature of dynamic convolution over a training run."""

from typing import Any

import pytorch_lightning as pl

from attnpool.layers.dynamic_conv import anneal_


class Annealing(pl.Callback):
    """At the start of every epoch lowers the temperature of dynamic convolutions: 34, 31, ..., 1; logged if any.

    Chen et al., CVPR 2020, https://arxiv.org/abs/1912.03458: near-uniform shares at first let all kernels learn.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._temperature = anneal_(pl_module, trainer.current_epoch)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # Lightning leaves it out for a run that goes on in mid-epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._temperature is not None:
            pl_module.log("temperature", self._temperature, on_step=False, on_epoch=True)
