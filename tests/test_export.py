"""Exported files: every method as far as it goes, run beside the network; what cannot be is refused at the start."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import nn

import attnpool
import attnpool.data.source
import attnpool.jobs.export
import attnpool.pools  # fills the registry
from attnpool import create_model
from attnpool.export import ExportError, prepare, worst_difference
from attnpool.export._flatbuffer import operators
from attnpool.export.files import open_exported
from attnpool.export.firmware import method
from attnpool.export.litert import LiteRT, litert_program, to_litert
from attnpool.export.micro import Interpreter, runs_in
from attnpool.export.onnx import OnnxRuntime, to_onnx
from attnpool.jobs.export import export
from attnpool.jobs.predict import predict
from attnpool.jobs.train import train
from attnpool.pools._attention import SelfAttention
from attnpool.pools._int8_forms import Int8Forms
from attnpool.registry import POOLS

pytestmark = pytest.mark.usefixtures("warm_converter")

SIDE = (32, 32)
ON_DEVICE = ("nlp_headfix2", "lip", "maxp", "avgp", "skip", "softpool", "blurpool", "ulsam")


def network(method: str, **settings: Any) -> nn.Module:
    """A small network whose batch norms have seen something."""
    settings = {"num_classes": 7, "width": 0.25, **settings}
    model = create_model(f"resnet18-{method}-1212", input_size=SIDE, **settings)
    with torch.no_grad():
        model.train()(torch.randn(8, 3, *SIDE))
    return model.eval()


@pytest.mark.parametrize("name", POOLS)
def test_every_method_runs_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    token = {"nlpnosigmoid": "nlpnosigmoid_nowin"}.get(name, name)
    model = network(token if not POOLS[name].takes("num_heads") or name == "attnpool" else f"{token}_headfix2")
    ready = prepare(model, SIDE)
    images = torch.randn(5, 3, *SIDE)
    assert worst_difference(model, ready, images) < 1e-5
    to_onnx(ready, (3, *SIDE), tmp_path / "model.onnx", {"classes": ["a"]}, None)
    runtime = OnnxRuntime(tmp_path / "model.onnx")
    with torch.no_grad():
        np.testing.assert_allclose(runtime(images.numpy()), model(images).numpy(), rtol=1e-4, atol=1e-5)
    assert json.loads(runtime.about or "") == {"classes": ["a"]}


@pytest.mark.parametrize("blocks", [1, 3, 24])
def test_the_deploy_form_is_the_network_and_leaves_it_alone(blocks: int) -> None:
    model = network("nlp_headfix2", attention="after:layer1.1")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ready = prepare(model, SIDE, blocks)
    assert worst_difference(model, ready, torch.randn(4, 3, *SIDE)) < 1e-5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_deploy_form_notices_a_difference() -> None:
    model = network("lip")
    other = prepare(model, SIDE)
    with torch.no_grad():
        next(other.parameters()).mul_(1.01)
    assert worst_difference(model, other, torch.randn(4, 3, *SIDE)) > 1e-4


def test_strided_convolutions_are_padded_by_the_runtime() -> None:
    model = network("skip")
    strided = [m for m in prepare(model, SIDE).modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1]
    assert {m.kernel_size for m in strided if max(m.padding) > 0} == {(8, 8), (4, 4)}  # 7 and 3 with a row of zeros
    program = litert_program(prepare(model, SIDE), (3, *SIDE))
    image = torch.randn(1, 3, *SIDE)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(image.permute(0, 2, 3, 1)), model(image), rtol=1e-4, atol=1e-5)


class Branches(nn.Module):
    """A convolution, then every method that a runtime takes, side by side: what each makes, (B, methods * H * W)."""

    def __init__(self, runtime: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.names = [name for name in POOLS if runtime not in POOLS[name].limits]
        options: dict[str, dict[str, Any]] = {"nlpnosigmoid": {"normalize": False}}
        self.pools = nn.ModuleList(POOLS[name](8, 2, **options.get(name, {})) for name in self.names)
        self.scales = [1.0] * len(self.names)  # that all are as large: they share the scale of what is returned

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        made = [pool(x).mean(1) * scale for pool, scale in zip(self.pools, self.scales, strict=True)]
        tens = [made[i : i + 10] for i in range(0, len(made), 10)]  # TensorFlow Lite Micro joins so many at most
        return torch.cat([torch.stack(ten, 1).flatten(1) for ten in tens], 1)


@pytest.mark.parametrize("runtime", ["litert", "micro"])
def test_every_method_runs_where_the_list_says(runtime: str, tmp_path: Path) -> None:
    model, images, file = Branches(runtime), torch.randn(32, 3, 16, 16), tmp_path / "model.tflite"
    with torch.no_grad():
        for attention in (m for m in model.modules() if isinstance(m, SelfAttention)):
            attention.qkv.weight *= 5  # as if it had learned: places differ, which a batch norm would blow up otherwise
        model.train()(images)
        model.scales = [1 / float(made.std()) for made in model.eval()(images).chunk(len(model.names), 1)]
        expected = model(images).unflatten(1, (len(model.names), -1)).numpy()
    program = litert_program(prepare(model, (16, 16)), (3, 16, 16))
    to_litert(program, file, {"runtime": runtime}, None if runtime == "litert" else images.numpy())
    made = (LiteRT if runtime == "litert" else Interpreter)(file)(images.numpy()).reshape(expected.shape)
    most = dict.fromkeys(model.names, 1e-4 if runtime == "litert" else 0.1)
    most["attnpool"] *= 3  # it shrinks what attention made, and has no map beside it
    for name, error in zip(model.names, np.abs(made - expected).mean((0, 2)), strict=True):  # of a standard deviation
        assert error < most[name], name


@pytest.mark.parametrize("window", [(2,), (3, 2), ((2, 4), (1, 2)), ([2, 2], []), (3, 2, 1), (3, 2, 0, True)])
def test_means_in_int8_are_the_same_by_convolutions(window: tuple[Any, ...]) -> None:
    x = torch.randn(2, 3, 13, 12)
    expected = F.avg_pool2d(x, *window)
    with Int8Forms():
        torch.testing.assert_close(F.avg_pool2d(x, *window), expected)


def test_no_mean_in_int8_has_the_scale_of_what_it_is_of() -> None:
    program = litert_program(prepare(network("nlp_headfix2"), SIDE), (3, *SIDE))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert "aten.avg_pool2d.default" not in called
    assert "aten.adaptive_avg_pool2d.default" in called  # the last one may have a scale of its own


@pytest.fixture(scope="module")
def clothes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embedded data with the first 4,000 of its training images, which are enough to learn something."""
    file = tmp_path_factory.mktemp("clothes") / "clothes.npz"
    source = attnpool.data.source.open_source("fashion_mnist")
    train, test = source.train, source.test
    np.savez(file, x_train=train.images[:4000], y_train=train.targets[:4000], x_test=test.images, y_test=test.targets,
             classes=np.array(source.classes))  # fmt: skip
    return f"npz:{file}"


@pytest.fixture(scope="module")
def checkpoints(clothes: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Any:
    """Of each method a network that has learned something, trained when it is asked for; workers share them."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "checkpoints"

    def of(method: str) -> str:
        output = folder / method
        folder.mkdir(exist_ok=True)
        with FileLock(f"{output}.lock"):
            if not output.exists():
                settings: dict[str, Any] = {"attention": "after:layer1.1"} if method == "ulsam" else {}
                architecture = f"resnet18-{'skip' if method == 'ulsam' else method}-1222"
                train(architecture, data=clothes, image_size=32, width=0.25, epochs=3, batch_size=64, augment=False,
                      lr=0.05, output=str(output), progress=False, workers=0, **settings)  # fmt: skip
        return str(output)

    return of


@pytest.fixture(scope="module")
def for_micro(checkpoints: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the export of such a network to a micro-controller gives, and its folder; each is made once."""

    @cache
    def of(method: str) -> tuple[Any, Path]:
        out = tmp_path_factory.mktemp(method) / "out"
        return export(checkpoints(method), to="micro", calibration_images=64, images=200, output=str(out)), out

    return of


@pytest.mark.parametrize("method", ON_DEVICE)
def test_a_trained_network_runs_in_int8_in_the_kernels_of_micro_controllers(method: str, for_micro: Any) -> None:
    found, folder = for_micro(method)
    assert not found.failed
    assert found.comparison.agreement >= 0.97
    assert abs(found.comparison.accuracy - found.comparison.network_accuracy) <= 0.02
    assert found.difference < 1e-5
    assert found.arena is not None
    assert found.arena.total == found.arena.head + found.arena.tail
    assert "EXP" not in found.operators or method == "softpool"
    assert "AVERAGE_POOL_2D" not in found.operators
    least = {"softpool": 0.6, "blurpool": 0.8}.get(method, 0.95)  # of maps so small; docs/device.md has larger ones
    assert least < found.peak / found.arena.head < 1.2
    file = folder / "model.tflite"
    images = np.random.default_rng(0).standard_normal((4, 1, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(LiteRT(file)(images), Interpreter(file)(images), atol=0.5)
    assert runs_in(file, found.arena.size)
    assert not runs_in(file, found.arena.head)
    said = json.loads((folder / "report.json").read_text())
    assert said["arena"]["total"] == found.arena.total
    assert said["operators"] == operators(file)


@pytest.mark.parametrize("method", ["nlp_headfix2", "skip"])
def test_int8_runs_in_onnx_runtime(method: str, checkpoints: Any, tmp_path: Path) -> None:
    whole = export(checkpoints(method), to="onnx", images=50, output=str(tmp_path / "float32"))
    found = export(checkpoints(method), to="onnx", int8=True, images=1000, output=str(tmp_path / "int8"))
    assert not found.failed
    assert found.dtype == "int8"
    assert found.size < whole.size / 2
    assert found.operators["QuantizeLinear"] > 10
    assert abs(found.comparison.accuracy - found.comparison.network_accuracy) <= 0.02


def test_int8_in_onnx_does_not_overflow_where_the_processor_lacks_vnni(checkpoints: Any, tmp_path: Path) -> None:
    export(checkpoints("nlp_headfix2"), to="onnx", int8=True, images=50, output=str(tmp_path))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # kernels that cannot overflow
    precise = onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).standard_normal((32, 1, 32, 32)).astype(np.float32)
    (expected,) = precise.run(None, {"images": images})
    np.testing.assert_allclose(OnnxRuntime(tmp_path / "model.onnx")(images), expected, atol=1e-4)


def test_files_predict_what_the_checkpoint_does(checkpoints: Any, for_micro: Any, tmp_path: Path) -> None:
    checkpoint = checkpoints("maxp")
    pictures = [str(tmp_path / f"{i}.png") for i in range(3)]
    source = attnpool.data.source.open_source("fashion_mnist")
    for i, picture in enumerate(pictures):
        source.test[i][0].save(picture)
    expected = predict(checkpoint, pictures, top=1).images
    for to in ("litert", "onnx"):
        export(checkpoint, to=to, images=100, output=str(tmp_path / to))  # type: ignore[arg-type]
    files = {
        "micro": for_micro("maxp")[1] / "model.tflite",
        "litert": tmp_path / "litert" / "model.tflite",
        "onnx": tmp_path / "onnx" / "model.onnx",
    }
    for to, file in files.items():
        assert open_exported(file).classes == source.classes
        found = predict(str(file), pictures, top=1).images
        for picture, ((label, probability),) in found.items():
            assert label == expected[picture][0][0]
            assert probability == pytest.approx(expected[picture][0][1], abs=1e-4 if to != "micro" else 0.1)


def test_the_c_source_holds_the_file_its_arena_and_its_operators(for_micro: Any) -> None:
    found, folder = for_micro("lip")
    header, source = (folder / "model.h").read_text(), (folder / "model.cc").read_text()
    array = re.search(r"kModel\[\] = \{(.*?)\};", source, re.DOTALL)
    assert array is not None
    assert bytes(int(byte, 16) for byte in array[1].split(",")) == (folder / "model.tflite").read_bytes()
    size = re.search(r"kArenaSize = (\d+);", header)
    assert size is not None and found.arena is not None  # noqa: PT018
    assert found.arena.total <= int(size[1]) == found.arena.size
    assert runs_in(folder / "model.tflite", int(size[1]))
    registered = re.findall(r"resolver\.Add(\w+)\(\)", header)
    assert registered == [method(name) for name in found.operators]
    assert f"MicroMutableOpResolver<{len(registered)}>" in header
    assert '"Ankle boot"' in source


def test_blocks_are_chosen_for_the_memory_there_is(checkpoints: Any, for_micro: Any, tmp_path: Path) -> None:
    checkpoint = checkpoints("nlp_headfix2")
    some: Any = {"to": "micro", "images": 50, "calibration_images": 16}
    free, _ = for_micro("nlp_headfix2")
    enough = export(checkpoint, **some, ram=f"{free.arena.size}B", output=str(tmp_path / "enough"))
    assert not enough.failed
    short = export(checkpoint, **some, ram="20kB", output=str(tmp_path / "short"))
    assert short.exit_code == 1
    assert "more than ram, 20,000" in short.failed[0]
    assert (tmp_path / "short" / "model.cc").exists()


def test_a_file_that_says_something_else_fails(checkpoints: Any, tmp_path: Path) -> None:
    black, labels = np.zeros((40, 28, 28), np.uint8), np.arange(40) % 10
    np.savez(tmp_path / "black.npz", x_train=black, y_train=labels, x_test=black, y_test=labels)
    found = export(checkpoints("maxp"), to="litert", int8=True, images=100, output=str(tmp_path / "out"),
                   calibrate=f"npz:{tmp_path / 'black.npz'}")  # fmt: skip
    assert found.comparison.agreement < 0.9  # black images do not show what the others reach
    assert found.exit_code == 1
    assert "not for 97.00%" in found.failed[0]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["failed"] == list(found.failed)


def test_what_a_runtime_lacks_is_refused_before_anything_runs(clothes: str, tmp_path: Path) -> None:
    settings: Any = {"data": clothes, "image_size": 32, "width": 0.125, "epochs": 1, "progress": False, "workers": 0}
    for token, to, said in (
        (
            "dfmnlp_headfix2",
            "micro",
            "to has to be onnx for dfmnlp, but got micro: LiteRT has no deformable convolution",
        ),
        ("rnnpool", "litert", "to has to be onnx for rnnpool, but got litert"),
        ("lipfull", "micro", "to has to be onnx, litert for lipfull, but got micro: its weights span"),
    ):
        model = create_model(f"resnet18-{token}-1222", num_classes=10, in_channels=1, width=0.125, input_size=(28, 28))
        with pytest.raises(ExportError, match=said):
            attnpool.jobs.export.check_supported(model, to)  # type: ignore[arg-type]
    train("dyresnet18-maxp-1222", output=str(tmp_path / "dy"), **settings)
    with pytest.raises(ExportError, match="train the backbone without dy"):
        export(str(tmp_path / "dy"), to="onnx")
    assert not (tmp_path / "dy" / "export-onnx").exists()


def test_mistakes_are_told_and_nothing_is_lost(checkpoints: Any, tmp_path: Path) -> None:
    checkpoint = checkpoints("maxp")
    for options, said in (
        ({"min_agreement": 1.5}, "min_agreement has to be from 0 to 1, but got 1.5"),
        ({"images": 0}, "images has to be positive, but got 0"),
        ({"ram": "1MB"}, "ram has to be left out for onnx"),
        ({"to": "micro", "ram": "lots"}, "ram has to be a positive number"),
        ({"to": "micro", "ram": "1MB", "query_blocks": 2}, "query_blocks has to be left out where ram is given"),
        ({"calibrate": "nothing", "int8": True}, "nothing"),
    ):
        with pytest.raises(ValueError, match=said):
            export(checkpoint, output=str(tmp_path / "none"), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "none" / "report.json").exists()
    export(checkpoint, images=20, output=str(tmp_path / "out"))
    before = (tmp_path / "out" / "model.onnx").read_bytes()
    with pytest.raises(FileExistsError, match="holds an export; or say --overwrite"):
        export(checkpoint, output=str(tmp_path / "out"))
    assert (tmp_path / "out" / "model.onnx").read_bytes() == before
    for name, content in (("a.onnx", b"nothing"), ("a.tflite", b"nothing"), ("b.tflite", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ExportError, match="has to be a file that attnpool export wrote, but is not"):
            predict(str(tmp_path / name), [])
