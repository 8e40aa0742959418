"""`attnpool convert`: files of the published repository, in all their forms, and files that are not."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import GOLDEN, NETWORKS, model_input, state_of
from PIL import Image
from torch import Tensor

from attnpool import load, parse
from attnpool.cli import main
from attnpool.models.build import build
from attnpool.models.convert import published_state_dict

STRING = "mobilenet_v2-nlp_headfix2-4222121"
Captured = pytest.CaptureFixture[str]


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


FORMS = {
    "bare": lambda state: state,
    "as the training script saves it": lambda state: {
        "accuracy": 0.9,
        "epoch": 3,
        "state_dict": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0, 1]}]},
    },
    "DataParallel": lambda state: {"state_dict": prefixed("module.", state)},
    "in half precision": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_published_outputs(form: str, tmp_path: Path, capsys: Captured) -> None:
    file, out = tmp_path / "best.pth", tmp_path / "converted"
    torch.save(FORMS[form](state_of(STRING)), file)
    assert main(["convert", str(file), "--arch", STRING, str(out)]) == 0
    assert f"{NETWORKS[STRING]['params']:,}" in capsys.readouterr().out
    model: Any = load(out)
    assert model.spec == parse(STRING, num_classes=10)
    assert model.description.training == {"converted_from": "best.pth"}
    x = torch.tensor(model_input(STRING, tuple(NETWORKS[STRING]["input_shape"])))
    with torch.no_grad(), np.load(GOLDEN / "networks.npz", allow_pickle=False) as golden:
        logits, expected = model.double()(x), torch.tensor(golden[f"{STRING}/logits"])
    tolerance = 1e-2 if "half" in form else 1e-5  # a checkpoint is stored in float32
    assert (logits - expected).norm() / expected.norm() < tolerance


def test_a_converted_checkpoint_is_one_like_any_other(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    for label in range(10):
        (photos / f"kind{label}").mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (40, 40), (20 * label, 9 * i, 99)).save(photos / f"kind{label}" / f"{i}.png")
    file, out = tmp_path / "best.pth", tmp_path / "converted"
    torch.save(state_of(STRING), file)
    words = ["convert", str(file), str(out), "--arch", STRING, "--data", "folder:photos", "--image-size", "128"]
    assert main(words) == 0
    model: Any = load(out)
    assert model.description.classes[3] == "kind3"
    assert model.description.preprocessing["image_size"] == [128, 128]
    assert main(["evaluate", str(out), "--workers", "0", "--no-progress"]) == 0
    assert main(["predict", str(out), str(photos / "kind1" / "0.png")]) == 0
    assert "kind" in capsys.readouterr().out
    assert main(words) == 2  # it is not overwritten
    assert "--overwrite" in capsys.readouterr().err
    (out / "results.json").write_text("of another run")
    assert main([*words, "--overwrite"]) == 0
    assert {path.name for path in out.iterdir()} == {"README.md", "model.json", "model.safetensors"}
    card = (out / "README.md").read_text()
    assert "Weights of the published repository, converted from `best.pth`." in card
    assert "Not measured: `attnpool evaluate CHECKPOINT --data SOURCE` does it." in card
    monkeypatch.chdir(out)
    assert main(["evaluate", str(out), "--workers", "0", "--no-progress"]) == 0  # the data is found from anywhere


def test_one_without_names_says_what_evaluation_needs(tmp_path: Path, capsys: Captured) -> None:
    torch.save(state_of(STRING), tmp_path / "best.pth")
    assert main(["convert", str(tmp_path / "best.pth"), str(tmp_path / "out"), "--arch", STRING]) == 0
    assert main(["evaluate", str(tmp_path / "out")]) == 2
    assert "data has to be given" in capsys.readouterr().err


class Attack:
    """What a malicious file would run."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return (Path.touch, (self.proof,))


def test_nothing_in_a_file_is_executed(tmp_path: Path, capsys: Captured) -> None:
    proof = tmp_path / "executed"
    for file in ("zip.pth", "raw.pth"):
        if file == "zip.pth":
            torch.save({"state_dict": Attack(proof)}, tmp_path / file)
        else:
            (tmp_path / file).write_bytes(pickle.dumps(Attack(proof)))
        assert main(["convert", str(tmp_path / file), "--arch", STRING, str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert "tensors and plain values alone" in error
    assert not proof.exists()
    assert not (tmp_path / "out").exists()


def wrong_files(folder: Path) -> dict[Path, str]:
    """Files that are no such checkpoint, and what is said of them."""
    (folder / "empty.pth").touch()
    (folder / "text.pth").write_text("hello, I am no checkpoint")
    torch.save(state_of(STRING), folder / "whole.pth")
    (folder / "short.pth").write_bytes((folder / "whole.pth").read_bytes()[:-2000])
    torch.save({"model": 1, "epoch": 2}, folder / "other.pth")
    torch.save([1, 2], folder / "list.pth")
    torch.save({0: torch.zeros(2)}, folder / "numbers.pth")
    torch.save({"state_dict": {}}, folder / "nothing.pth")
    torch.save({"conv1.0.weight": torch.zeros(3)}, folder / "headless.pth")
    torch.save(state_of("resnet18-lip-1222"), folder / "resnet.pth")
    torch.save({k: v for k, v in state_of(STRING).items() if "conv2.1" not in k}, folder / "part.pth")
    return {
        folder / "nowhere.pth": "cannot be read: No such file",
        folder: "cannot be read: Is a directory",
        folder / "empty.pth": "empty.pth",
        folder / "text.pth": "text.pth",
        folder / "short.pth": "is not a whole checkpoint",
        folder / "other.pth": "but holds: model, epoch",
        folder / "list.pth": "but holds: list",
        folder / "numbers.pth": "but holds: 0",
        folder / "nothing.pth": "but it is empty",
        folder / "headless.pth": "no classifier.weight",
        folder / "resnet.pth": "unknown: net.bn1.bias, net.bn1.num_batches_tracked, net.bn1.running_mean",
        folder / "part.pth": "missing: bn2.bias, bn2.num_batches_tracked, bn2.running_mean",
    }


def test_a_wrong_file_is_one_line_and_writes_nothing(tmp_path: Path, capsys: Captured) -> None:
    for file, says in wrong_files(tmp_path).items():
        assert main(["convert", str(file), "--arch", STRING, str(tmp_path / "out")]) == 2, file
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1, error
        assert says in error
        assert not (tmp_path / "out").exists()


def test_images_too_small_for_the_network_are_refused(tmp_path: Path, capsys: Captured) -> None:
    torch.save(state_of(STRING), tmp_path / "best.pth")
    words = ["convert", str(tmp_path / "best.pth"), str(tmp_path / "out"), "--arch", STRING, "--image-size", "32"]
    assert main(words) == 2
    assert "image_size has to suit" in capsys.readouterr().err


def test_data_of_other_classes_is_refused(tmp_path: Path, capsys: Captured) -> None:
    torch.save(state_of(STRING), tmp_path / "best.pth")
    words = ["convert", str(tmp_path / "best.pth"), str(tmp_path / "out"), "--arch", STRING]
    assert main([*words, "--data", "fashion_mnist"]) == 2
    assert "10 classes and 1 channels" in capsys.readouterr().err


STATIC_POOLS = r"logit.pool_weight.logit", "To"
"""Convolutions of `lip` and `gaussian_pool`, which stay as they are in published networks of dynamic convolution."""


def dynamic(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published names and shapes that a network would have with dynamic convolutions."""
    made: dict[str, Tensor] = {}
    for name, value in state.items():
        prefix, _, leaf = name.rpartition(".")
        is_conv = state.get(f"{prefix}.weight", torch.empty(0)).ndim == 4 and not any(s in name for s in STATIC_POOLS)
        made[name] = value.expand(4, *value.shape) if is_conv else value
        if is_conv and leaf == "weight":
            channels = value.shape[1] if "features" not in name or value.shape[1] > 1 else value.shape[0]
            hidden = 4 if channels == 3 else channels // 4 + 1
            made[f"{prefix}.attention.fc1.weight"] = torch.zeros(hidden, channels, 1, 1)
            made[f"{prefix}.attention.fc2.weight"] = torch.zeros(4, hidden, 1, 1)
            made[f"{prefix}.attention.fc2.bias"] = torch.zeros(4)
    return made


@pytest.mark.parametrize("text", [text for text in NETWORKS if "dy" not in text])
def test_every_published_network_has_a_dynamic_form(text: str) -> None:
    """With gates of zero all kernels have an equal share, and four equal kernels are the plain one."""
    head, middle, tail = text.rpartition("-resnet") if "prepool" in text else ("", "", text)
    dy = f"{head}-dyresnet{tail}" if middle else f"dy{text}"
    spec = parse(dy, num_classes=10)
    model = build(spec).double().eval()
    model.load_state_dict(published_state_dict(dynamic(state_of(text)), spec))
    x = torch.tensor(model_input(text, tuple(NETWORKS[text]["input_shape"])))
    with torch.no_grad(), np.load(GOLDEN / "networks.npz", allow_pickle=False) as golden:
        expected = torch.tensor(golden[f"{text}/logits"])
        assert (model(x) - expected).norm() / expected.norm() < 1e-9
