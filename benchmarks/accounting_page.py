"""`docs/memory.md` from `benchmarks/results/accounting.json` alone."""

from typing import Any

Results = dict[str, Any]
SHOWN = 8


def page(results: Results) -> str:
    """The page."""
    parts = (_head(results), _known(results), _ulsam(results), _rnnpool(results), _smaller(results))
    return "\n".join((*parts, _fits(results), _methods(results)))


def _head(results: Results) -> str:
    where = results["environment"]
    return f"""# What networks cost, by every convention

Made by `make accounting` at commit {where["commit"]} (torch {where["torch"]}, timm {where["timm"]}). Figures are counted, so
another machine gives the same; `attnpool profile STRING --input 3x224x224` gives them for any network.

**Operations** are multiply-accumulates of the exported graph with attention in explicit products: convolutions, linear
layers, matrix products, samples of deformable ones (4 a value). Norms, activations, soft-max, sums and means count as
none, as in published figures; in int8, means of windows are convolutions and count. An operation without a formula is
an error.

**Memory** is that of activations, the image included, by four conventions:

| name | counts | whose |
|---|---|---|
| `peak` | all that is live at any operation, by liveness over the graph | what a planned runtime needs |
| `arena` | the same at fixed places: the largest first, each in the first gap | TensorFlow Lite Micro's plan |
| `in_out` | the largest input + output of a layer; a pool is one layer | MCUNet |
| `largest` | the largest map between layers, insides of inverted residuals left out | RNNPool |

In `peak`, batch norms are folded into the convolution or linear layer before them, ReLU and ReLU6 are part of what they
follow, views share their memory, operations in place stay in place, what depends on parameters alone is a constant.
A test holds one figure against a runtime: a tiny network with whole attention has a `peak` of 1,363,968 bytes in int8,
of which TensorFlow Lite Micro took 1,373,184 in an earlier trial. Nothing on this page was measured on a device.

![Memory over the course of MobileNetV2: with strided convolution, and with attention in {results["blocks"]} blocks](memory.png)
"""


def _known(results: Results) -> str:
    rows = [
        f"| `{row['string']}` | {row['published'][0]} | {_millions(row['params'])} | {row['published'][1]:g} | "
        f"{_millions(row['macs'])} |"
        for row in results["known"]
    ]
    table = "| network at 224 pixels | parameters, M: published | here | operations, M: published | here |\n|---|---|---|---|---|"
    return "\n".join(("## Known counts\n", table, *rows, ""))


def _ulsam(results: Results) -> str:
    plain: dict[Any, Results] = {(r["network"], r["width"]): r for r in results["ulsam"] if not r["attention"]}
    rows = []
    for row in results["ulsam"]:
        base = plain[row["network"], row["width"]]
        off = 100 * (row["found_macs"] / 1e6 / row["macs"] - 1)
        said, less = "-", "-"
        if row["params"] is not None and row["attention"]:
            said = f"{base['params'] - row['params']:.2f}"
            less = f"{(base['found_params'] - row['found_params']) / 1e6:.3f}"
        where = row["attention"].replace(",", ", ") or "none"
        name = f"`{row['network']}`" + (f" x {row['width']:g}" if row["width"] != 1 else "")
        rows.append(
            f"| {name} | {where} | {row['macs']:g} | {row['found_macs'] / 1e6:.2f} ({off:+.2f} %) | "
            f"{row['params'] or '-'} | {row['found_params'] / 1e6:.3f} | {said} | {less} |"
        )
    text = """## ULSAM's table

Saini et al., WACV 2020, at 224 pixels. We found no source for their positions: these are the last of the blocks whose cost
gives their figures (blocks.4.1 and 4.2, 5.1 and 5.2, 3.1 to 3.5 of MobileNetV1 cost the same; so does any number of
groups, but for a few parameters). Parameters are compared as what attention saves, from the published 3.4 M and 4.2 M;
the true counts are 3.505 M and 4.232 M.

All operations are within 0.5 %, and what attention saves on MobileNetV2 within 3 %. On MobileNetV1 the two published
figures have one decimal, so that their difference, 0.3 M, may be anything from 0.2 to 0.4; ours, 0.266 M, gives 3.9 M from
4.2 M, as published.

| network | attention | operations, M: published | here | parameters, M: published | here | saved: published | here |
|---|---|---|---|---|---|---|---|"""
    return "\n".join((text, *rows, ""))


def _rnnpool(results: Results) -> str:
    found = {name: value / 2**20 for name, value in results["rnnpool"].items()}
    return f"""## RNNPool's figures

Saha et al., NeurIPS 2020, in MiB of float32 at 224 pixels. One rule does not give all of them:

| network | published | here | rule |
|---|---|---|---|
| ResNet-18 | 3.06 | {found["resnet18"]:.4f} | `largest`: what the stem makes, 64 x 112 x 112 |
| MobileNetV2 | 2.29 | {found["mobilenet"]:.4f} | input + output of its first inverted residual, its inside not counted |
| MobileNetV2 with RNNPool (patch 6, stride 4, hidden 16) | 0.24 | {found["with_rnnpool"]:.4f} | the same; stem and RNNPool are computed patch by patch |

By `peak` MobileNetV2 needs {_at(results, "mobilenet-skip-1222121") * 4 / 2**20:.2f} MiB: the expansion inside its second block
is there, unless it, too, is computed piece by piece.
"""


def _at(results: Results, string: str) -> int:
    return int(next(row["peak"] for row in results["known"] if row["string"] == string))


def _smaller(results: Results) -> str:
    base, rows = results["smaller"]["base"], results["smaller"]["rows"]
    keys = ("largest", "in_out", "arena", "peak", "early", "early_with_pools")
    lines = []
    for row in rows:
        ratios = [base[{"early_with_pools": "early"}.get(key, key)] / row[key] for key in keys]
        lines.append(f"| `{row['string']}` | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return f"""## What "22x less memory" corresponds to

Chen et al. write that their pooling shrinks memory in the early layers by up to 22 times. By how much smaller
MobileNetV2 gets at 224 pixels against `{base["string"]}` (attention in {results["blocks"]} blocks; below 1 is larger):

| string | `largest` | `in_out` | `arena` | `peak` | maps of the first two stages, summed | the same with their pools' |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}

Of the whole network's memory, by any convention, nothing is 22 times smaller. What is, is the sum of the maps that the
first two stages make, if they shrink by 4 and by 2 with a pool before each, and what the pools themselves make and hold
is left out: a figure of strides and placement, the same for every pooling method, and of memory that no chip holds at
once. The stem, which makes the largest map, is as it was. Attention with patches of one pixel needs many times what it
saves; with the published larger patches, in blocks, it adds nothing to the peak.
"""


def _fits(results: Results) -> str:
    parts = []
    for found in results["fits"]:
        lines = [
            f"| `{c['architecture']}` | {c['settings'].get('width', 1):g} | {c['settings']['input_size'][0]} | "
            f"{c['settings'].get('query_blocks', '-')} | {c['arena']:,} | {c['peak']:,} | {c['file']:,} | "
            f"{c['macs'] / 1e6:.1f} |"
            for c in found["front"][:SHOWN]
        ]
        rest = len(found["front"]) - len(lines)
        more = f" The table has the {SHOWN} with the most operations." if rest > 0 else ""
        parts.append(f"""### {found["ram"]} of RAM, {found["flash"]} of flash

{found["fitting"]:,} of {found["searched"]:,} candidates fit, and {len(found["front"])} of these do more operations than any other in
their memory; {found["confirmed"]} were built and confirmed by `profile`, to the byte.{more}

| network | width | side | blocks | arena, B | of it the peak, B | file, B | operations, M |
|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}
""")
    speed = max(found["per_second"] or 0 for found in results["fits"])
    text = f"""## What fits

`attnpool fit --ram RAM --flash FLASH` over its default space: MobileNetV1 and V2 for 10 classes, four widths, sides 96,
128 and 160, every stride string that shrinks as much as the backbone and nowhere later, strided convolution, max pooling
and attention. The RAM holds the whole arena of TensorFlow Lite Micro, the flash its file, both counted, not measured
([device.md](device.md) has them beside what was measured). {speed:.1f} candidates a second on one core. In small memories
attention is not among them: what the runtime keeps for its blocks of queries goes to wider strided networks instead. Which of
them is the most accurate, training has to tell (`--train-top`).
"""
    return "\n".join((text, *parts))


def _methods(results: Results) -> str:
    parts = [
        f"""## Every method, stride string and placement

MobileNetV2, kB at one byte a number (four times as much in float32; `profile --dtype int8` adds what gates and
exponentials take in that type). *In blocks*: attention's queries in {results["blocks"]} blocks, one after
the other. `nlp_headfix2_nowin_reduced` has the published larger patches.
"""
    ]
    seen = dict.fromkeys((row["placement"], row["side"], row["strides"]) for row in results["methods"])
    for placement, side, strides in seen:
        rows = [
            r for r in results["methods"] if (r["placement"], r["side"], r["strides"]) == (placement, side, strides)
        ]
        lines = [
            f"| `{r['pool']}` | {_kb(r['peak'])} | {_kb(r.get('blocked_peak'))} | {_kb(r['arena'])} | "
            f"{_kb(r.get('blocked_arena'))} | {_kb(r['in_out'])} | {_kb(r['largest'])} | {r['macs'] / 1e6:,.1f} | "
            f"{r['params'] / 1e6:.3f} |"
            for r in rows
        ]
        where = (
            "before the stage" if placement == "before" else "after its first block, as published for `mobilenet_v2`"
        )
        parts.append(f"""### {strides} at {side} pixels, {where}

| method | peak | in blocks | arena | in blocks | in_out | largest | operations, M | parameters, M |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}
""")
    return "\n".join(parts)


def _kb(count: int | None) -> str:
    return "" if count is None else f"{count / 1e3:,.1f}"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f}"
