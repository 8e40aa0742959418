"""What the published repository calls its weights, and what we call them: patterns, no code.

The repository is C-Fun/Self-Attentive-Pooling-for-Efficient-Deep-Learning (Chen et al., WACV 2023); ULSAM's is
Nandan91/ULSAM (Saini et al., WACV 2020).
"""

from collections.abc import Sequence

Table = Sequence[tuple[str, str]]
"""Pairs of a pattern of a published name and what stands for it in ours; the first that fits counts."""

PREFIX = r"(?:module\.|net\.)*"
_WEIGHTED = r"(?:logit\.pool_weight\.)?"
_CONV = r"((?:attention\.fc[12]\.)?\w+)"  # weight and bias, also of a dynamic convolution
_ATTENTION: Table = (
    (rf"{_WEIGHTED}downsample\.0\.{_CONV}", r"attend.embed.\1"),
    (rf"{_WEIGHTED}downsample\.1\.(\w+)", r"attend.norm.\1"),
    (rf"{_WEIGHTED}multihead_attn\.in_proj_(\w+)", r"attend.attention.qkv.\1"),
    (rf"{_WEIGHTED}multihead_attn\.out_proj\.(\w+)", r"attend.attention.proj.\1"),
    (rf"{_WEIGHTED}pos_embed\.(row|col)_embed\.weight", r"attend.position.\1"),
)
POOLING: dict[str, Table] = {
    "nlp": (
        *_ATTENTION,
        (rf"logit\.pool_weight\.restore\.0\.{_CONV}", r"restore.\1"),
        (r"logit\.pool_weight\.restore\.1\.(\w+)", r"restore_norm.\1"),
    ),
    "attnpool": (*_ATTENTION, (r"map\.0\.(\w+)", r"conv.\1"), (r"map\.1\.(\w+)", r"norm.\1")),
    "lip": ((r"logit\.pool_weight\.logit\.(\d\.\w+)", r"logit.\1"),),
    "gaussian_pool": (
        (r"ToHidden\.1\.(\w+)", r"hidden.0.\1"),
        (r"ToHidden\.2\.(\w+)", r"hidden.1.\1"),
        (r"ToMean\.(\d\.\w+)", r"to_mean.\1"),
        (r"ToSigma\.(\d\.\w+)", r"to_sigma.\1"),
    ),
}
"""Pooling layers, by method; an ablation has the names of what it is one of."""
UNEQUAL = ("dfmnlp", "mixp", "dfmixp")
"""Methods whose published form is another: it samples a pixel off, by offsets of 3 x 3 convolutions."""

DYNAMIC_CONV: Table = ((r"((?:attention\.fc[12]\.)?(?:weight|bias))", r"\1"),)
SUBSPACE = r"subspaces\.\d+\.(?:conv|bn)_(?:dws|point)\.\w+"
"""A published name of one group of ULSAM; ours holds all groups in one tensor."""

RESNET: Table = (
    (r"pool\.(.*)", r"maxpool.POOL.\1"),
    (r"(layer\d)\.(?:end|0\.after_first)\.(.*)", r"\1.pool.POOL.\2"),
    (r"((?:conv1|bn1|fc)\..*|layer\d\.\d\.(?:conv|bn|downsample).*)", r"\1"),
)
"""`end`, `after_first` and `before` stand for what a placement calls its pool, `PLACES`."""
PLACES = {
    "end": (r"(layer\d)\.pool\.", r"\1.end."),
    "after_first": (r"(layer\d\.0|features\.\d\.0)\.pooling\.", r"\1.after_first."),
    "before": (r"(features\.\d\.0)\.(?!conv\.)", r"\1.before."),
}
"""The published name of a stage's pool, which depends on where it stands."""

_BLOCK = r"features\.(\d)\.(\d)\.conv\.{}\." + _CONV
_FIRST = r"features\.(0)\.(\d)\.conv\.{}\." + _CONV
MOBILENET_V2: Table = (
    (rf"conv1\.0\.{_CONV}", r"conv_stem.\1"),
    (r"conv1\.1\.(\w+)", r"bn1.\1"),
    (r"conv1_pool\.(.*)", r"blocks.0.prepool.POOL.\1"),
    (rf"conv2\.0\.{_CONV}", r"conv_head.\1"),
    (r"conv2\.1\.(\w+)", r"bn2.\1"),
    (r"(classifier\..*)", r"\1"),
    (r"features\.(\d)\.0\.(?:before|after_first)\.(.*)", r"blocks.\1.pool.POOL.\2"),
    *(
        (_FIRST.format(i), rf"blocks.\1.\2.{name}.\3")
        for i, name in ((0, "conv_dw"), (1, "bn1"), (3, "conv_pw"), (4, "bn2"))
    ),
    *(
        (_BLOCK.format(i), rf"blocks.\1.\2.{name}.\3")
        for i, name in ((0, "conv_pw"), (1, "bn1"), (3, "conv_dw"), (4, "bn2"), (6, "conv_pwl"), (7, "bn3"))
    ),
)
"""timm's names of MobileNetV2; the first block expands nothing."""

NETWORKS: dict[str, Table] = {"resnet18": RESNET, "resnet50": RESNET, "mobilenetv2_100": MOBILENET_V2}
"""By timm name."""
