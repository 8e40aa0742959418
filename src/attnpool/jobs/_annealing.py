"""The softmax temperature of dynamic convolution over a training run."""

import pytorch_lightning as pl

from attnpool.layers.dynamic_conv import anneal_


class Annealing(pl.Callback):
    """At the start of every epoch lowers the temperature of dynamic convolutions: 34, 31, ..., 1; logged if any.

    Chen et al., CVPR 2020, https://arxiv.org/abs/1912.03458: near-uniform shares at first let all kernels learn.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        temperature = anneal_(pl_module, trainer.current_epoch)
        if temperature is not None:
            pl_module.log("temperature", temperature)
