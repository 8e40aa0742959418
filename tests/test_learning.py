"""Every method learns: one epoch on the embedded data lowers the loss."""

from math import log
from statistics import mean

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnpool import create_model
from attnpool.data.source import open_source
from attnpool.registry import POOLS

NETWORKS = {name: (f"mobilenet_v2-{name}{'_headfix2' * e.takes('num_heads')}-1222121", "") for name, e in POOLS.items()}
NETWORKS |= {
    "attnpool": ("resnet18-attnpool_headfix2-1222", ""),  # four in a row of MobileNetV2 take too long
    "dynamic convolution": ("dymobilenet_v2-nlp_headfix2-1222121", ""),
    "subspace attention": ("mobilenet_v2-skip-1222121", "after:blocks.2.1,replace:blocks.4.2:8"),
    "subspace attention in MobileNetV1": ("mobilenetv1-nlp_headfix2-12121", "after:blocks.2.1,replace:blocks.3.3"),
}


@pytest.fixture(scope="module")
def batches() -> list[tuple[Tensor, Tensor]]:
    """2,400 of the embedded images in batches of 80."""
    train = open_source("fashion_mnist").train
    pixels = [torch.frombuffer(bytearray(train[i][0].tobytes()), dtype=torch.uint8) for i in range(2400)]
    x = torch.stack(pixels).view(-1, 1, *train[0][0].size[::-1]) / 127.5 - 1
    y = torch.tensor([train[i][1] for i in range(2400)])
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    return list(zip(F.interpolate(x, 32)[order].split(80), y[order].split(80), strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_six_epochs_lower_the_loss_below_that_of_guessing(name: str, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Most get there in one or two."""
    text, attention = NETWORKS[name]
    settings = {"width": 0.25, "in_channels": 1, "placement": "before", "attention": attention}
    model = create_model(text, num_classes=10, **settings).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    losses: list[float] = []
    for x, y in batches * 6:
        loss = F.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if mean(losses[-5:]) < log(10) - 0.3:
            break
    assert mean(losses[-5:]) < log(10) - 0.3
