"""Ways to make an .onnx file in 8 bits, beside float32 and what `export` makes: docs/deployment.md.

Each is executed on test images, and timed with all others in turn; the networks are trained here, for a few epochs.

    python benchmarks/onnx_int8.py
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import torch
from environment import environment
from measure import alternate
from onnxruntime.quantization import QuantType

from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import open_source
from attnpool.export import prepare
from attnpool.export._arrays import Array
from attnpool.export.onnx import OnnxRuntime, quantised, to_onnx
from attnpool.jobs._checkpoint import load_classifier
from attnpool.jobs._export_data import spread
from attnpool.jobs._export_result import compared
from attnpool.jobs.train import train

RESULTS = Path(__file__).parent / "results" / "onnx_int8.json"
NETWORKS = {
    "resnet18-nlp_headfix2-1222": 0.25,
    "resnet18-skip-1222": 0.25,
    "mobilenet_v2-nlp_headfix2-2122121": 0.35,
    "mobilenet_v2-skip-2122121": 0.35,
}
"""Architecture to width."""
SIGNED, UNSIGNED = QuantType.QInt8, QuantType.QUInt8
WAYS: dict[str, dict[str, Any]] = {
    "activations signed, weights signed": {"activation_type": SIGNED, "reduce_range": False},
    "activations signed, weights of 7 bits": {"activation_type": SIGNED},
    "activations unsigned, weights signed": {"reduce_range": False},
    "activations unsigned, weights of 7 bits": {},
    "both unsigned": {"weight_type": UNSIGNED, "reduce_range": False},
}
"""What `quantised` is told besides; the first are the defaults of ONNX Runtime's quantiser."""
OURS = "as `export` does: the same, with means of windows as convolutions"


def main() -> None:
    """Measure, write, and print the table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in NETWORKS for row in measured(name, Path(folder))]
    RESULTS.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """That of the page: same class in per cent, mean error, and time relative to float32, of each network."""
    lines = [f"| | {' | '.join(f'`{name}`' for name in NETWORKS)} |", f"|---{'|---' * len(NETWORKS)}|"]
    for way in [*WAYS, OURS]:
        found = [row for row in rows if row["way"] == way]
        cells = [f"{r['agreement']:.1%}, {r['mean_error']:.3f}, {r['time']:.2f}" for r in found]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measured(architecture: str, folder: Path) -> list[dict[str, Any]]:
    """One network, trained for a few epochs, in all ways."""
    run = folder / architecture
    train(architecture, data="fashion_mnist", image_size=32, width=NETWORKS[architecture], epochs=4, batch_size=64,
          lr=0.05, output=str(run), workers=0)  # fmt: skip
    model = load_classifier(str(run))
    source, preprocessing = open_source("fashion_mnist"), Preprocessing.from_dict(model.description.preprocessing)
    images, labels = spread(source, preprocessing, 2000, test=True)
    shown = spread(source, preprocessing, 256, test=False)[0].numpy()
    with torch.inference_mode():
        expected = torch.cat([model(some) for some in images.split(100)]).numpy()
    files = written(prepare(model, (32, 32)), shown, run)
    runs = {way: OnnxRuntime(file) for way, file in files.items()}
    batch = images[:50].numpy()
    times = {way: median(took) for way, took in alternate(bound(runs, batch), limit=20).items()}
    print(architecture, {way: f"{time:.3f} ms" for way, time in times.items()}, file=sys.stderr)
    return [
        {
            "architecture": architecture, "way": way, "time": times[way] / times["float32"],
            "bytes": files[way].stat().st_size, **asdict(compared(runs[way](images.numpy()), expected, labels.numpy())),
        }
        for way in runs
    ]  # fmt: skip


def bound(runs: dict[str, OnnxRuntime], batch: Array) -> dict[str, Callable[[], Array]]:
    """Each on the same images."""
    return {way: lambda runtime=runtime: runtime(batch) for way, runtime in runs.items()}  # type: ignore[misc]


def written(ready: torch.nn.Module, shown: Array, folder: Path) -> dict[str, Path]:
    """A file for each way."""
    size = (shown.shape[1], shown.shape[2], shown.shape[3])
    files = {"float32": folder / "float32.onnx", OURS: folder / "ours.onnx"}
    to_onnx(ready, size, files["float32"], {}, None)
    to_onnx(ready, size, files[OURS], {}, shown)
    for number, (way, settings) in enumerate(WAYS.items()):
        files[way] = folder / f"{number}.onnx"
        onnx.save(quantised(onnx.load(files["float32"]), shown, **settings), files[way])
    return files


if __name__ == "__main__":
    main()
