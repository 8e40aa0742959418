"""Where images come from: named sources, and loaders that turn a source into batches.

Import direction: jobs -> data -> registry. Besides its own modules this package imports torch, torchvision, timm, numpy
and PIL, and nothing of attnpool but `attnpool.registry`. Start at `source.open_source`, then `loaders.make_loaders`.
"""
