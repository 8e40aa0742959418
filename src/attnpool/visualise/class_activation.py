"""Class activation: where in the image the evidence for a class lies, by the methods of the library grad-cam."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from attnpool.pools._eval_mode import eval_mode
from attnpool.registry import did_you_mean
from attnpool.visualise._frame import frame_of
from attnpool.visualise._layers import last_maps
from attnpool.visualise._watch import Images, hooked, without_gradients_of_its_own

METHODS = {
    "gradcam": ("GradCAM", "Grad-CAM"),
    "gradcam++": ("GradCAMPlusPlus", "Grad-CAM++"),
    "hirescam": ("HiResCAM", "HiResCAM"),
    "xgradcam": ("XGradCAM", "XGrad-CAM"),
    "layercam": ("LayerCAM", "Layer-CAM"),
    "gradcamelementwise": ("GradCAMElementWise", "Grad-CAM, element-wise"),
    "eigencam": ("EigenCAM", "Eigen-CAM"),
    "eigengradcam": ("EigenGradCAM", "Eigen-Grad-CAM"),
}
"""Our name of a method to the library's class and to what it is called in pictures."""
WITHOUT_CLASS = ("eigencam",)
"""Methods that do not look at what the network says: the same for all classes."""


@dataclass(frozen=True)
class ClassActivation:
    """Where the evidence for a class lies.

    Args:
        map: From 0 to 1, the largest, (H, W) in pixels of what the network sees of the image.
        target: The class, counted from 0.
        layers: Paths of the layers whose maps were looked at.
    """

    map: npt.NDArray[np.float32]
    target: int
    layers: tuple[str, ...]


def class_activation(
    model: nn.Module,
    x: Images,
    method: str = "gradcam",
    *,
    target: int | None = None,
    layers: Sequence[str] = (),
    threshold: float = 0.5,
) -> ClassActivation:
    """Where in one image the evidence for a class lies: the gradient of its score by the maps of a layer, times these.

    The library grad-cam computes it (Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391, and its successors)
    of the logit of a classifier; of a detector, of the sum of the scores of the boxes of that class, or of the surest
    if none reaches `threshold`. The network stays as it is.

    Args:
        model: A classifier, (1, C, H, W) to (1, classes), or a detector of `attnpool.detection`.
        x: One image as the network takes it: (1, C, H, W), normalised; for a detector a list of one (3, H, W) in 0..1.
        method: One of `METHODS`.
        target: The class, counted from 0; default: the one that the network says, of a detector that of the surest box.
        layers: Paths of layers that make maps; of several the mean is taken. Default: of a classifier the last stage
            (or layer, if the network is not ours) whose map still has four rows and columns, of a detector all
            stages that its head looks at.
        threshold: Lowest score of a box that counts, 0 to 1.

    Raises:
        ValueError: for an unknown method, more than one image, a class that is none, a layer that makes no map, or a
            detector that finds nothing of that class.
        ImportError: if grad-cam is not installed: pip install attnpool[visualise].
    """
    if method not in METHODS:
        raise ValueError(
            f"method has to be one of {', '.join(METHODS)}{did_you_mean(method, METHODS)}, but got {method!r}"
        )
    if len(x) != 1:
        raise ValueError(f"x has to be one image, but got {len(x)}")
    kind = getattr(need_grad_cam(), METHODS[method][0])
    paths = tuple(layers) or last_maps(model, x)
    with eval_mode(model), without_gradients_of_its_own(model), torch.enable_grad():
        explained = _Scores(model, isinstance(x, Tensor), target, threshold)
        return _activation(explained, x, kind, paths)


def need_grad_cam() -> Any:
    """The library grad-cam; `ImportError` names the extra if it is missing."""
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise ImportError(f"class activation needs grad-cam: pip install attnpool[visualise] ({error})") from error
    return pytorch_grad_cam


def _activation(model: "_Scores", x: Images, kind: Callable[..., Any], paths: tuple[str, ...]) -> ClassActivation:
    modules = {path: _layer(model.network, path) for path in paths}
    image = x[0].detach().clone().unsqueeze(0).requires_grad_()  # maps have gradients by it
    frame = frame_of(model.network, x)
    cam = kind(model, [*modules.values()])
    cam.get_target_width_height = lambda _: frame.size[::-1]  # a detector's maps are of what it resized the image to
    try:
        with hooked(modules.items(), model.keep):
            found = cam(image, [lambda score: score])[0]
    finally:
        cam.activations_and_grads.release()
    height, width = frame.shown
    return ClassActivation(found[:height, :width], model.explained, paths)


def _layer(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        near = did_you_mean(path, [name for name, _ in model.named_modules() if name])
        raise ValueError(f"layers has to hold paths of the network's layers{near}, but got {path!r}") from None


class _Scores(nn.Module):
    """The network as the library wants it: from one image to what is to be explained, one number.

    Args:
        network: Classifier or detector.
        is_classifier: Which.
        target: The class, or None.
        threshold: Lowest score of a box.
    """

    def __init__(self, network: nn.Module, is_classifier: bool, target: int | None, threshold: float) -> None:
        super().__init__()
        self.network, self.is_classifier, self.target, self.threshold = network, is_classifier, target, threshold
        self.explained = -1
        self.maps: list[Tensor] = []

    def keep(self, path: str, given: tuple[Any, ...], made: Any) -> None:
        """Remember the map of a layer, so that its gradient is one of zeros where the score does not hang on it."""
        if not isinstance(made, Tensor) or made.ndim != 4:
            raise ValueError(f"layers has to hold paths of layers that make maps, but {path!r} does not")
        self.maps.append(made)

    def forward(self, x: Tensor) -> Tensor:
        score = self._logit(self.network(x)) if self.is_classifier else self._boxes(self.network([*x])[0])
        return (score + 0 * sum(made.sum() for made in self.maps)).unsqueeze(0)

    def _logit(self, logits: Tensor) -> Tensor:
        classes = logits.shape[1]
        self.explained = int(logits[0].argmax()) if self.target is None else self.target
        if not 0 <= self.explained < classes:
            raise ValueError(f"target has to be a class, 0 to {classes - 1}, but got {self.target}")
        return logits[0, self.explained]

    def _boxes(self, found: dict[str, Tensor]) -> Tensor:
        labels, scores = found["labels"], found["scores"]
        if not len(scores):
            raise ValueError("x has to be an image in which the detector finds something, but it finds nothing")
        self.explained = int(labels[scores.argmax()]) - 1 if self.target is None else self.target
        own = scores[labels == self.explained + 1]
        if not len(own):
            raise ValueError(f"target has to be a class that the detector finds in the image, but got {self.explained}")
        least = min(self.threshold, float(own.detach().max()))
        return torch.where(own >= least, own, 0.0).sum()
