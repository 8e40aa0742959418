"""attnpool: attentive downsampling for compact vision networks.

Pooling layers that look at the whole feature map before they shrink it, put into any network by one string or one call.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnpool.verbs import load as _load

if TYPE_CHECKING:
    from attnpool import visualise as visualise
    from attnpool.accounting.profile import Profile as Profile
    from attnpool.accounting.profile import profile as profile
    from attnpool.jobs.compare import compare as compare
    from attnpool.jobs.convert import convert as convert
    from attnpool.jobs.evaluate import evaluate as evaluate
    from attnpool.jobs.fit import fit as fit
    from attnpool.jobs.predict import predict as predict
    from attnpool.jobs.prune import prune as prune
    from attnpool.jobs.pull import pull as pull
    from attnpool.jobs.push import push as push
    from attnpool.jobs.report import report as report
    from attnpool.jobs.train import train as train
    from attnpool.layers.dynamic_conv import DynamicConv2d as DynamicConv2d
    from attnpool.layers.dynamic_conv import make_dynamic_ as make_dynamic_
    from attnpool.layers.ulsam import ULSAM as ULSAM
    from attnpool.models.attention import insert_attention_ as insert_attention_
    from attnpool.models.build import create_model as create_model
    from attnpool.models.checkpoint import load as load
    from attnpool.models.fuse import fuse_ as fuse_
    from attnpool.models.prune import prune_channels as prune_channels
    from attnpool.models.surgery import replace_downsampling_ as replace_downsampling_
    from attnpool.pools.attnpool import AttentionConvPool2d as AttentionConvPool2d
    from attnpool.pools.gaussian_pool import GaussianPool2d as GaussianPool2d
    from attnpool.pools.lip import LocalImportancePool2d as LocalImportancePool2d
    from attnpool.pools.nlp import SelfAttentivePool2d as SelfAttentivePool2d
    from attnpool.pools.skip import StridedConv2d as StridedConv2d
    from attnpool.spec import ModelSpec as ModelSpec
    from attnpool.spec import PoolSpec as PoolSpec
    from attnpool.spec import SpecError as SpecError
    from attnpool.spec import parse as parse

__version__ = "0.1.0"

_HOMES = {
    "ULSAM": "layers.ulsam",
    "AttentionConvPool2d": "pools.attnpool",
    "DynamicConv2d": "layers.dynamic_conv",
    "GaussianPool2d": "pools.gaussian_pool",
    "LocalImportancePool2d": "pools.lip",
    "ModelSpec": "spec",
    "PoolSpec": "spec",
    "Profile": "accounting.profile",
    "SelfAttentivePool2d": "pools.nlp",
    "SpecError": "spec",
    "StridedConv2d": "pools.skip",
    "compare": "jobs.compare",
    "convert": "jobs.convert",
    "create_model": "models.build",
    "evaluate": "jobs.evaluate",
    "fit": "jobs.fit",
    "fuse_": "models.fuse",
    "insert_attention_": "models.attention",
    "load": "models.checkpoint",
    "make_dynamic_": "layers.dynamic_conv",
    "parse": "spec",
    "predict": "jobs.predict",
    "profile": "accounting.profile",
    "prune": "jobs.prune",
    "prune_channels": "models.prune",
    "pull": "jobs.pull",
    "push": "jobs.push",
    "replace_downsampling_": "models.surgery",
    "report": "jobs.report",
    "train": "jobs.train",
}
"""Public name to its module, imported when asked for: torch takes seconds, and the verbs bring Lightning."""
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "visualise":
        return import_module("attnpool.visualise")
    if name not in _HOMES:
        raise AttributeError(f"module 'attnpool' has no attribute {name!r}")
    globals()[name] = found = _load(f"attnpool.{_HOMES[name]}:{name}")
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
