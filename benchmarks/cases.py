"""What the speed of self-attentive pooling is measured on: layers and networks, the reference, and the rivals."""

from typing import Any, NamedTuple

import torch
from measure import Run, peak_memory
from reference import Reference
from torch import nn

from attnpool import SelfAttentivePool2d, create_model, parse
from attnpool.registry import POOLS

THREADS = 2
RIVALS = ("maxp", "avgp", "skip", "lip", "lipfull", "softpool", "blurpool", "rnnpool")


class Case(NamedTuple):
    """A layer or a network, its input, and the ratios that it has to reach."""

    name: str
    shape: tuple[int, int, int, int]
    bars: dict[str, float]
    options: dict[str, Any]
    """Of the layer; none: `name` is the string of a network."""


CASES = (
    Case("layer p1 h2 k4", (8, 16, 64, 64), {"infer": 5, "train": 3}, {"kernel_size": 4, "num_heads": 2}),
    Case("layer p1 h4 k2", (8, 64, 32, 32), {"infer": 7, "train": 3}, {"kernel_size": 2, "num_heads": 4}),
    Case("layer p1 h8 k2", (8, 128, 16, 16), {"infer": 8, "train": 4}, {"kernel_size": 2, "num_heads": 8}),
    Case(
        "layer p2 h2 k2 nowin",
        (1, 16, 112, 112),
        {"infer": 4, "train": 3},
        {"kernel_size": 2, "num_heads": 2, "patch_size": 2, "normalize": False},
    ),
    Case("mobilenet_v2-nlp_headfix2-1222121", (8, 3, 128, 128), {"infer": 6, "train": 5, "memory": 1 / 4}, {}),
    Case("resnet18-nlp-1222", (8, 3, 128, 128), {"infer": 3, "train": 3, "memory": 1 / 2}, {}),
)
WAYS = ("ours", "kv2", "fused", "reference", *RIVALS)


def made(case: Case, way: str) -> nn.Module:
    """The layer or network of a case: ours, with kv_stride=2, the reference, or a rival in its place."""
    torch.manual_seed(0)
    method = "" if case.options else str(parse(case.name).pool)
    if way in RIVALS and case.options:
        return POOLS[way](case.shape[1], case.options["kernel_size"])
    if way in RIVALS:
        return create_model(case.name.replace(method, way), num_classes=10)
    if case.options:
        pool = SelfAttentivePool2d(case.shape[1], **case.options, kv_stride=2 if way == "kv2" else 1)
        return Reference(pool) if way == "reference" else pool
    model = create_model(case.name.replace(method, f"{method}_kv2" if way == "kv2" else method), num_classes=10)
    for path, module in list(model.named_modules()):
        if way == "reference" and isinstance(module, SelfAttentivePool2d):
            model.set_submodule(path, Reference(module))
    return model


def work(case: Case, way: str, mode: str) -> Run:
    """What is timed: inference, or forward and backward of a training step."""
    module, x = made(case, way), torch.randn(case.shape)
    if mode == "infer":
        module.eval()
        if way == "fused":
            for part in module.modules():
                if isinstance(part, SelfAttentivePool2d):
                    part.fuse_()
        return torch.no_grad()(lambda: module(x))
    x.requires_grad_(bool(case.options))  # a network's image needs no gradient

    def step() -> None:
        module(x).sum().backward()
        for tensor in (x, *module.parameters()):
            tensor.grad = None

    return step


def remembered(case: Case, way: str, mode: str) -> float:
    """Megabytes at the peak, beyond those of the network and its input; in a process of its own, on one thread."""
    torch.set_num_threads(1)
    sides = [max(side // 4, 8) for side in case.shape[2:]]
    small = case._replace(shape=(2, case.shape[1], *sides))  # little, for its memory is used again
    work(small, way, mode)()  # libraries load what they need
    return peak_memory(work(case, way, mode))
