"""Count and time the networks of rows again, as this version does: `python experiments/cifar10/recount.py ROWS...`.

A comparison can be stopped and gone on with for days; its rows have the costs as the version of that day counted them,
and latencies of a machine that may have been busy. This renews both, in place, on a machine that does nothing else.
Attention is counted and timed in `BLOCKS` blocks of queries, which `spec` says then: `settings` are those of training,
which blocks do not change.
"""

import json
import sys
from pathlib import Path

from rich.progress import track

from attnpool.jobs._trial import measure_costs
from attnpool.spec import parse

BLOCKS = 256


def main(files: list[str]) -> None:
    known: dict[str, dict[str, object]] = {}
    for file in map(Path, files):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in track(rows, file.name):
            spec = row["spec"] = {**row["spec"], **({"query_blocks": BLOCKS} if "nlp" in row["name"] else {})}
            key = json.dumps(spec, sort_keys=True)
            if key not in known:
                settings = {name: value for name, value in spec.items() if name != "architecture"}
                known[key] = measure_costs(parse(spec["architecture"], **settings))
            row.update(known[key])
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main(sys.argv[1:])
