"""Layers that shrink a feature map, one method a file; all take the sizes and follow the size rules of `nn.AvgPool2d`.

A new method is one new file here that registers itself in `attnpool.registry.POOLS`.
"""

from attnpool.registry import import_all

import_all(__name__)
