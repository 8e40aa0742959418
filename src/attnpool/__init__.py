"""attnpool: attentive downsampling for compact vision networks.

Pooling layers that look at the whole feature map before they shrink it, put into any network by one string or one call.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import torchvision as _torchvision  # noqa: F401
except RuntimeError as error:  # e.g. a CPU-only torch beside a CUDA torchvision
    raise ImportError(f"torchvision does not fit torch; install a matching pair of the two: {error}") from error

from attnpool.accounting.profile import Profile, profile
from attnpool.layers.dynamic_conv import DynamicConv2d, make_dynamic_
from attnpool.layers.ulsam import ULSAM
from attnpool.models.attention import insert_attention_
from attnpool.models.build import create_model
from attnpool.models.checkpoint import load
from attnpool.models.fuse import fuse_
from attnpool.models.prune import prune_channels
from attnpool.models.surgery import replace_downsampling_
from attnpool.pools.attnpool import AttentionConvPool2d
from attnpool.pools.gaussian_pool import GaussianPool2d
from attnpool.pools.lip import LocalImportancePool2d
from attnpool.pools.nlp import SelfAttentivePool2d
from attnpool.pools.skip import StridedConv2d
from attnpool.spec import ModelSpec, PoolSpec, SpecError, parse

if TYPE_CHECKING:
    from attnpool import visualise as visualise
    from attnpool.jobs.compare import compare
    from attnpool.jobs.convert import convert
    from attnpool.jobs.evaluate import evaluate
    from attnpool.jobs.fit import fit
    from attnpool.jobs.predict import predict
    from attnpool.jobs.prune import prune
    from attnpool.jobs.report import report
    from attnpool.jobs.train import train

__version__ = "0.1.0"

__all__ = [
    "ULSAM",
    "AttentionConvPool2d",
    "DynamicConv2d",
    "GaussianPool2d",
    "LocalImportancePool2d",
    "ModelSpec",
    "PoolSpec",
    "Profile",
    "SelfAttentivePool2d",
    "SpecError",
    "StridedConv2d",
    "compare",
    "convert",
    "create_model",
    "evaluate",
    "fit",
    "fuse_",
    "insert_attention_",
    "load",
    "make_dynamic_",
    "parse",
    "predict",
    "profile",
    "prune",
    "prune_channels",
    "replace_downsampling_",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    """The verbs of the command line as functions, imported when asked for: they bring Lightning; and `visualise`."""
    if name == "visualise":
        return import_module("attnpool.visualise")
    if name in ("compare", "convert", "evaluate", "fit", "predict", "prune", "report", "train"):
        return getattr(import_module(f"attnpool.jobs.{name}"), name)
    raise AttributeError(f"module 'attnpool' has no attribute {name!r}")
