"""The firmware example, compiled, and run by TensorFlow Lite Micro's own code: it says of images what the file says.

The headers of TensorFlow Lite Micro are in no package, so the example is compiled here with declarations of ours
(tests/firmware); what it is linked to is the runtime itself, the compiled code in the wheel tflite-micro.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import attnpool.data.source
from attnpool.data.preprocessing import Preprocessing
from attnpool.export._arrays import Array, quantized
from attnpool.export._flatbuffer import operators
from attnpool.export.files import open_exported
from attnpool.export.firmware import write_firmware
from attnpool.export.litert import litert_program, to_litert
from attnpool.export.micro import Interpreter, measure_arena
from attnpool.jobs.export import export
from attnpool.jobs.train import train

EXAMPLE = Path(__file__).parents[1] / "examples" / "firmware"
DECLARATIONS = Path(__file__).parent / "firmware"
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-fPIC", "-shared"]
COUNT = 60
RUN = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).main())"
"""The runtime's code needs the interpreter of Python around it, so the program is loaded by one."""

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++"),
    pytest.mark.usefixtures("warm_converter"),
]


@dataclass(frozen=True)
class Exported:
    """What was exported, real images of its size, and the logits that the file gives for them."""

    folder: Path
    images: list[Image.Image]
    logits: Array

    @property
    def lines(self) -> list[str]:
        """What the example has to print."""
        classes = open_exported(self.folder / "model.tflite").classes
        likely = torch.from_numpy(self.logits).softmax(1).max(1)
        pairs = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
        return [f"{classes[index]} {int(100 * value + 0.5)}%" for index, value in pairs]


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A trained network with attention, of coloured images: real ones, with other channels made of them."""
    folder = tmp_path_factory.mktemp("colour")
    source, parts = attnpool.data.source.open_source("fashion_mnist"), {}
    for name, held in (("train", source.train), ("test", source.test)):
        images = np.stack([np.asarray(held[i][0]) for i in range(600)])
        parts[f"x_{name}"] = np.stack([images, 255 - images, images // 2], -1)
        parts[f"y_{name}"] = np.array([held[i][1] for i in range(600)])
    data = f"npz:{folder / 'images.npz'}"
    np.savez(folder / "images.npz", **parts)
    train("resnet18-nlp_headfix2-1112", data=data, image_size=32, width=0.125, epochs=2, batch_size=32, augment=False,
          lr=0.05, output=str(folder / "run"), progress=False, workers=0)  # fmt: skip
    export(str(folder / "run"), to="micro", images=20, calibration_images=32, query_blocks=1,
           output=str(folder / "out"))  # fmt: skip
    return exported(folder / "out")


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A few layers for grey images, as what exports them writes them."""
    folder = tmp_path_factory.mktemp("grey")
    layers = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    preprocessing = Preprocessing((28, 28), 1, (0.286,), (0.353,))
    about = {"architecture": "layers", "classes": [f'"{i}"' for i in range(10)], "runtime": "micro"}
    about["preprocessing"] = preprocessing.to_dict()
    some = torch.stack([*map(preprocessing.transform(), photographs((28, 28)))]).numpy()
    file = folder / "model.tflite"
    to_litert(litert_program(layers.eval(), (1, 28, 28)), file, about, some)
    write_firmware(
        folder, file.read_bytes(), about, tuple(operators(file)), measure_arena(file), Interpreter(file).given
    )
    return exported(folder)


@pytest.fixture(params=["grey", "colour"])
def each(request: pytest.FixtureRequest) -> Exported:
    """One, then the other."""
    found: Exported = request.getfixturevalue(request.param)
    return found


def photographs(size: tuple[int, int]) -> list[Image.Image]:
    """Real images of a size, in colours of our making: three are one."""
    held = attnpool.data.source.open_source("fashion_mnist").test
    grey = [held[i][0].convert("L").resize(size[::-1]) for i in range(COUNT + 2)]
    return [Image.merge("RGB", grey[i : i + 3]) for i in range(COUNT)]


def exported(folder: Path) -> Exported:
    """What a folder holds, and what it says of images."""
    network = open_exported(folder / "model.tflite")
    preprocessing = Preprocessing.from_dict(network.preprocessing)
    images = photographs(preprocessing.image_size)
    return Exported(folder, images, network.run(torch.stack([*map(preprocessing.transform(), images)]).numpy()))


def compiled(folder: Path, program: Path, *flags: str) -> Path:
    """The example, with a network, linked to the runtime."""
    sources = [*sorted(EXAMPLE.glob("*.cc")), folder / "model.cc"]
    paths = (f"-I{path}" for path in (EXAMPLE, folder, DECLARATIONS))
    subprocess.run(["g++", *FLAGS, *flags, *paths, *sources, runtime(), "-o", program], check=True)
    return program


def runtime() -> Path:
    """The compiled code of TensorFlow Lite Micro."""
    import tflite_micro

    (found,) = Path(tflite_micro.__path__[0]).rglob("_runtime*.so")
    return found


def linked(folder: Path) -> Path:
    """The same by a name as linkers want it."""
    link = folder / "libtflm.so"
    link.symlink_to(runtime())
    return link


def run(program: Path, images: list[Image.Image]) -> tuple[int, list[str]]:
    """The exit code, and the lines printed."""
    pixels = b"".join(image.tobytes() for image in images)
    done = subprocess.run([sys.executable, "-c", RUN, program], input=pixels, stdout=subprocess.PIPE, check=False)
    return done.returncode, done.stdout.decode().splitlines()


def test_the_example_says_what_the_file_says(each: Exported, tmp_path: Path) -> None:
    code, (arena, *lines) = run(compiled(each.folder, tmp_path / "firmware.so"), each.images)
    assert code == 0
    assert lines == each.lines
    assert len(set(each.logits.argmax(1))) > 1
    header = (each.folder / "model.h").read_text()
    size = re.search(r"kArenaSize = (\d+);", header)
    used = re.fullmatch(r"arena: (\d+) bytes", arena)
    assert size is not None and used is not None  # noqa: PT018
    assert int(size[1]) * 0.7 < int(used[1]) <= int(size[1])


def test_an_arena_that_is_too_small_is_said(colour: Exported, tmp_path: Path) -> None:
    program = compiled(colour.folder, tmp_path / "firmware.so", "-DARENA_SIZE=4096")
    code, lines = run(program, colour.images)
    assert code == 1
    assert lines[-1] == "the arena is too small, see the log"


def test_pixels_are_what_the_network_is_given(each: Exported) -> None:
    table = re.search(r"kPixels\[kChannels\]\[256\] = \{(.*?)\n\};", (each.folder / "model.cc").read_text(), re.S)
    assert table is not None
    values = np.array(re.findall(r"-?\d+", table[1]), np.int8).reshape(-1, 256)
    file = each.folder / "model.tflite"
    preprocessing = Preprocessing.from_dict(open_exported(file).preprocessing)
    for image in each.images:
        given = quantized(preprocessing.transform()(image).numpy(), Interpreter(file).given)
        pixels = np.asarray(image if preprocessing.channels == 3 else image.convert("L"))
        for channel, row in enumerate(values):
            np.testing.assert_array_equal(row[np.atleast_3d(pixels)[..., channel]], given[channel])


@pytest.mark.skipif(shutil.which("cmake") is None, reason="there is no cmake")
def test_the_project_builds(grey: Exported, tmp_path: Path) -> None:
    settings = {
        "MODEL_DIR": grey.folder,
        "TFLM_DIR": DECLARATIONS,
        "TFLM_LIBRARY": linked(tmp_path),
        "CMAKE_CXX_FLAGS": "-Werror -fPIC",
        "CMAKE_EXE_LINKER_FLAGS": "-shared",
    }
    given = [f"-D{name}={value}" for name, value in settings.items()]
    build = tmp_path / "build"
    subprocess.run(["cmake", "-S", EXAMPLE, "-B", build, *given], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    assert run(build / "firmware", grey.images)[1][1:] == grey.lines
    other = subprocess.run(
        ["cmake", "-S", EXAMPLE, "-B", tmp_path / "other"], check=False, capture_output=True, text=True
    )
    assert "MODEL_DIR, TFLM_DIR and BOARD have to lead to files" in other.stderr
