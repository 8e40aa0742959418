"""A detector without what comes after its layers: from one image tensor to what its heads say."""

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from attnpool.detection.yolov3 import YOLOv3


class RawHeads(nn.Module):
    """The layers of a detector, for counting and for export; boxes are decoded, and the best picked, apart from it.

    YOLOv3 gives its three maps; SSD and RetinaNet moves of the anchors, then logits of the classes; Faster R-CNN what
    its first stage says: of each level whether there is an object, then of each level moves of the anchors.

    Args:
        detector: Of `attnpool.detection.build`; its parameters are shared.

    Shape:
        (B, 3, H, W), resized and normalised as the detector does it, to a tuple of tensors.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector: Any = detector
        self.spec = detector.spec

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if isinstance(self.detector, YOLOv3):
            return tuple(self.detector.heads(x))
        maps = list(self.detector.backbone(x).values())
        if isinstance(self.detector, FasterRCNN):
            objectness, moves = self.detector.rpn.head(maps)
            return (*objectness, *moves)
        said = self.detector.head(maps)
        return said["bbox_regression"], said["cls_logits"]
