"""What `run.sh` made, as lines of JSON and as the table of docs/device.md."""

import json
from dataclasses import asdict
from pathlib import Path

import attnpool

RUNS, RESULTS = Path("runs/device"), Path(__file__).parent / "results.jsonl"
NAMES = ("256-strided", "256-attention", "128-strided", "128-attention")


def main() -> None:
    rows = []
    for name in NAMES:
        trained, made = (
            json.loads((RUNS / name / part).read_text()) for part in ("results.json", "export-micro/report.json")
        )
        network = attnpool.load(str(RUNS / name))
        settings = {**network.spec.settings, "query_blocks": made["query_blocks"]}
        exported = attnpool.create_model(str(network.spec), **settings)
        counted = attnpool.profile(exported, (3, 96, 96), dtype="int8", latency=False, training=False)
        rows.append(
            {
                "budget": name.partition("-")[0] + " kB",
                "architecture": trained["architecture"],
                "width": network.spec.width,
                "query_blocks": made["query_blocks"],
                "params": counted.params,
                "macs": counted.macs,
                "test_accuracy": trained["test_accuracy"],
                "counted": asdict(counted.device),
                "file": made["size"],
                "arena": made["arena"],
                "comparison": made["comparison"],
            }
        )
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))
    titles = "budget network width trained int8 PyTorch arena counted file operations"
    print("| " + titles.replace(" ", " | ") + " |", "|---|---" + "|--:" * 8 + "|", sep="\n")
    for row in rows:
        found, counted = row["comparison"], row["counted"]
        accuracies = (row["test_accuracy"], found["accuracy"], found["network_accuracy"])
        print(
            f"| {row['budget']} | `{row['architecture']}` | {row['width']:g} | "
            + " | ".join(f"{100 * accuracy:.2f} %" for accuracy in accuracies)
            + f" | {row['arena']['size']:,} | {counted['activations'] + counted['structures']:,} | {row['file']:,} "
            + f"| {row['macs'] / 1e6:.1f} |"
        )


if __name__ == "__main__":
    main()
