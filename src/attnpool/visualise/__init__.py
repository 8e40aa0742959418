"""What a network looks at: the weights of its pools, its attention, what its pools lose, and class activation.

All four run a network on images, whatever it is (a classifier, a detector, or your own with pools of this library put
in), and leave it as it was: mode, gradients and hooks.
"""

from attnpool.visualise.attention_maps import AttentionMap, attention_maps
from attnpool.visualise.class_activation import METHODS, ClassActivation, class_activation
from attnpool.visualise.kept_maps import KeptMap, kept_maps
from attnpool.visualise.weight_maps import WeightMap, weight_maps

__all__ = [
    "METHODS",
    "AttentionMap",
    "ClassActivation",
    "KeptMap",
    "WeightMap",
    "attention_maps",
    "class_activation",
    "kept_maps",
    "weight_maps",
]
