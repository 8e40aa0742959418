"""Object detection on any of our backbones: torchvision's detectors, YOLOv3, their data and their measure."""

from attnpool.detection.builder import build

__all__ = ["build"]
