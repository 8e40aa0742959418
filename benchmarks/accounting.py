"""What networks cost by every convention, beside what papers say, and what fits micro-controllers.

`make accounting` runs it and writes `benchmarks/results/accounting.json` and, from that file alone, `docs/memory.md`.
"""

import json
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accounting_page import page
from environment import environment
from jsonargparse import auto_cli
from published import ULSAM, block_bytes, rnnpool_mobilenet
from rich.progress import track

import attnpool
from attnpool.accounting.graph import Graph, record
from attnpool.accounting.memory import boundaries, group, layers_of, measure
from attnpool.jobs._figures import memory_figure
from attnpool.jobs.fit import fit
from attnpool.poolspec import parse_pool
from attnpool.registry import POOLS

ROOT = Path(__file__).parents[1]
RESULTS, PAGE, PICTURE = ROOT / "benchmarks/results/accounting.json", ROOT / "docs/memory.md", ROOT / "docs/memory.png"
STRIDES, SIDES, PLACEMENTS, BLOCKS = ("1222121", "2222121", "4222121"), (128, 224), ("before", "after_first"), 16
BUDGETS = {"96kB": "500kB", "128kB": "1MB", "256kB": "1MB", "512kB": "2MB"}
KNOWN = {
    "mobilenet-skip-1222121": (3.50, 300.0),
    "resnet18-skip-1222": (11.69, 1820.0),
    "mobilenetv1-skip-12222": (4.2, 569.0),
}


def recorded(string: str, side: int, **settings: Any) -> tuple[torch.nn.Module, Graph]:
    """A network without weights, and its graph."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # published strings that are average pooling
        model = attnpool.create_model(string, **settings).eval()
        return model, record(model, torch.empty(1, 3, side, side))


def costs(string: str, side: int, **settings: Any) -> dict[str, int]:
    """Parameters, multiply-accumulates, and all conventions of memory at one byte a number."""
    model, graph = recorded(string, side, **settings)
    params = sum(p.numel() for p in model.parameters())
    return {"params": params, "macs": graph.macs, **asdict(measure(graph, layers_of(model), 1))}


def token(method: str) -> str:
    """The method, with two heads everywhere if it has heads."""
    return f"{method}_headfix2" if POOLS[method].takes("num_heads") else method


def methods() -> list[dict[str, Any]]:
    """Every method, and the published larger patches, in MobileNetV2."""
    tokens = [*map(token, POOLS), "nlp_headfix2_nowin_reduced"]
    cases = [(p, s, d, t) for p in PLACEMENTS for s in SIDES for d in STRIDES for t in tokens]
    rows = []
    for placement, side, strides, pool in track(cases, "methods"):
        string, settings = f"mobilenet-{pool}-{strides}", {"placement": placement}
        row = {
            "placement": placement,
            "side": side,
            "strides": strides,
            "pool": pool,
            **costs(string, side, **settings),
        }
        if POOLS[parse_pool(pool).method].takes("query_blocks"):
            blocked = costs(string, side, **settings, query_blocks=BLOCKS)
            row |= {"blocked_peak": blocked["peak"], "blocked_arena": blocked["arena"]}
        rows.append(row)
    return rows


def ulsam() -> list[dict[str, Any]]:
    """ULSAM's table: published, found."""
    rows = []
    for row in ULSAM:
        found = costs(row.network, 224, attention=row.attention, width=row.width)
        rows.append({**row._asdict(), "found_params": found["params"], "found_macs": found["macs"]})
    return rows


def early_maps(string: str) -> tuple[int, int]:
    """Numbers that the layers of the first two stages make for each other, without and with what pools make."""
    model, graph = recorded(string, 224)
    groups, found = group(graph, layers_of(model)), {True: 0, False: 0}
    for steps, (_, makes) in zip(groups, boundaries(graph, groups), strict=True):
        layer = graph.steps[steps.start].layer
        if layer.startswith(("blocks.0", "blocks.1")):
            found[".pool" in layer] += sum(graph.buffers[b].numbers for b in makes)
    return found[False], sum(found.values())


def smaller() -> dict[str, Any]:
    """By how much shrinking early shrinks MobileNetV2, by every convention."""
    base = "mobilenet-skip-1222121"
    strings = [f"mobilenet-{pool}-4222121" for pool in ("skip", "nlp_headfix2", "nlp_headfix2_nowin_reduced")]
    rows = []
    for string in strings:
        blocks = {} if "skip" in string else {"query_blocks": BLOCKS}
        maps = early_maps(string)
        rows.append({"string": string, **costs(string, 224, **blocks), "early": maps[0], "early_with_pools": maps[1]})
    return {"base": {"string": base, **costs(base, 224), "early": early_maps(base)[0]}, "rows": rows}


def fits() -> list[dict[str, Any]]:
    """The front of every budget, all from one search."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for ram, flash in reversed(BUDGETS.items()):  # the largest flash first: it evaluates the most
            result = fit(ram=ram, flash=flash, output=folder)
            front = [c.to_dict() for c in result.front]
            figures = {"searched": result.searched, "fitting": result.fitting, "confirmed": result.confirmed}
            found.append({"ram": ram, "flash": flash, **figures, "per_second": result.per_second, "front": front})
    return found[::-1]


def run() -> None:
    """Count everything, and write the results, the page and the picture."""
    torch.set_num_threads(1)
    results = {
        "schema": "attnpool-accounting-1",
        "environment": environment(),
        "blocks": BLOCKS,
        "known": [{"string": s, "published": p, **costs(s, 224)} for s, p in KNOWN.items()],
        "ulsam": ulsam(),
        "rnnpool": {
            "resnet18": costs("resnet18-skip-1222", 224)["largest"] * 4,
            "mobilenet": block_bytes(attnpool.create_model("mobilenet-skip-1222121")),
            "with_rnnpool": block_bytes(rnnpool_mobilenet()),
        },
        "methods": methods(),
        "smaller": smaller(),
        "fits": fits(),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))
    draw()


def draw() -> None:
    """Memory over the course of MobileNetV2 with strided convolution and with attention to a coarser grid."""
    networks = ("mobilenet-skip-1222121", {}), ("mobilenet-nlp_headfix2_kv4-1222121", {"query_blocks": BLOCKS})
    options: dict[str, Any] = {"dtype": "int8", "latency": False, "training": False}
    made = [attnpool.profile(attnpool.create_model(s, **settings), (3, 96, 96), **options) for s, settings in networks]
    memory_figure(made).savefig(PICTURE)


if __name__ == "__main__":
    auto_cli(run, as_positional=False)
