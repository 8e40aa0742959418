"""What `profile` counts for a network in int8, beside what TensorFlow Lite Micro takes for its file: docs/device.md.

Weights are random, and so are the images that calibrate: neither changes the memory.

    python benchmarks/device.py
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from attnpool import create_model
from attnpool.accounting.profile import profile
from attnpool.export import prepare
from attnpool.export.litert import litert_program, to_litert
from attnpool.export.micro import measure_arena

RESULTS = Path(__file__).parent / "results" / "device.json"
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("mobilenet_v2-skip-1222121", 96, {"width": 0.35}),
    ("mobilenet_v2-skip-4121121", 96, {"width": 0.35}),
    ("mobilenet_v2-maxp-4121121", 96, {"width": 0.35}),
    ("mobilenet_v2-avgp-4121121", 96, {"width": 0.35}),
    ("mobilenet_v2-lip-4121121", 96, {"width": 0.35}),
    ("mobilenet_v2-blurpool-4121121", 96, {"width": 0.35}),
    ("mobilenet_v2-softpool-4121121", 96, {"width": 0.35}),
    ("mobilenet_v2-nlp_headfix2_nowin_reduced4111111-4121121", 96, {"width": 0.35, "query_blocks": 16}),
    ("mobilenet_v2-nlp_headfix2_kv2-4121121", 96, {"width": 0.35, "query_blocks": 16}),
    ("mobilenet_v2-nlp_headfix2-1222121", 64, {"width": 0.35, "query_blocks": 8}),
    ("mobilenetv1-nlp_headfix2_nowin_reduced04211-12222", 96, {"width": 0.25, "query_blocks": 8}),
    ("mobilenet-skip-1222121", 96, {"width": 0.5}),
    ("mobilenet-nlp_headfix2_nowin_reduced4021010-2122121", 96, {"width": 0.35, "query_blocks": 1}),
    ("mobilenetv1-skip-21222", 96, {"width": 0.5}),
    ("mobilenetv1-nlp_headfix2_nowin_reduced04011-14122", 96, {"width": 0.25, "query_blocks": 4}),
    ("mobilenetv1-nlp_headfix2_nowin_reduced40011-41122", 96, {"width": 0.25, "query_blocks": 4}),
    ("resnet18-nlp_headfix2-1222", 64, {"width": 0.25, "query_blocks": 8}),
    ("resnet18-skip-1222", 64, {"width": 0.25, "attention": "after:layer1.1"}),
]
"""Architecture, side of the image, settings."""


def main() -> None:
    """Measure, write, and print the table."""
    torch.set_num_threads(1)
    rows = [measured(*case) for case in track(CASES, "networks")]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """The table of the page."""
    print("| network | width | blocks | side | peak | arena | head | | structures | tail | | file | measured | |")
    print("|---" + "|--:" * 13 + "|")
    for row in rows:
        blocks = str(row["settings"].get("query_blocks", "-"))
        cells = [f"`{row['architecture']}`", f"{row['settings']['width']:g}", blocks, str(row["side"])]
        cells.append(f"{row['peak']:,}")
        for part, real in (("activations", "head"), ("structures", "tail"), ("file", "file")):
            count, size = row["counted"][part], row["measured"][real]
            cells += [f"{count:,}", f"{size:,}", f"{count / size - 1:+.1%}"]
        print(f"| {' | '.join(cells)} |")


def measured(architecture: str, side: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One network, counted and run."""
    torch.manual_seed(0)
    model = create_model(architecture, num_classes=10, input_size=(side, side), **settings).eval()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):  # those that begin with zeros would make a smaller file
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    size = (3, side, side)
    said = profile(model, size, dtype="int8", latency=False, training=False)
    images = np.random.default_rng(0).standard_normal((2, *size)).astype(np.float32)
    ready = prepare(model, (side, side), settings.get("query_blocks", 1))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        to_litert(litert_program(ready, size), file, {"runtime": "micro"}, images)
        arena, bytes_ = measure_arena(file), file.stat().st_size
    return {
        "architecture": architecture, "side": side, "settings": settings, "params": said.params,
        "peak": said.memory.peak,
        "counted": asdict(said.device), "measured": {**asdict(arena), "file": bytes_},
    }  # fmt: skip


if __name__ == "__main__":
    main()
