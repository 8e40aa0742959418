"""The tables of docs/cifar10.md, of the rows beside this file; `python experiments/cifar10/table.py` renews them."""

from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from attnpool.jobs import _reported
from attnpool.jobs._quantities import COSTS, Quantity
from attnpool.jobs._report_words import estimate_text
from attnpool.jobs._results import Configuration, read_results
from attnpool.jobs._statistics import paired

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "cifar10.md"
ACCURACY = _reported.ACCURACY.measures[0]
COST = {quantity.key: quantity for quantity in COSTS}


def rows(name: str, strides: str = "") -> list[Configuration]:
    """The configurations of NAME.jsonl, those of one stride setting alone if it is given."""
    found = read_results([str(FOLDER / f"{name}.jsonl")]).data[0].configurations
    return [c for c in found if str(c.settings["architecture"]).endswith(strides)]


def label(c: Configuration) -> str:
    """What tells a configuration from the others of its table."""
    said = str(c.settings["architecture"]).removeprefix("prepool-skip-1-mobilenet_v2-").rpartition("-")[0]
    more = {"attention": "ULSAM", "placement": str(c.settings["placement"])}
    more["pool_lr"] = f"`pool_lr` {c.settings['pool_lr']:g}"
    plain = {"attention": "", "placement": "before", "pool_lr": 1.0}
    return ", ".join([f"`{said}`", *(more[name] for name in more if c.settings[name] != plain[name])])


def table(configurations: Sequence[Configuration], baselines: Sequence[str]) -> str:
    """Accuracy, paired differences to those with the labels, and costs; the best mean first."""
    bases = {name: next(c for c in configurations if label(c) == name) for name in baselines}
    titles = ["method", "seeds", "test accuracy, %", *(f"minus {name}" for name in bases)]
    titles += ["peak, kB", "parameters", "MACs, M"]
    lines = ["| " + " | ".join(titles) + " |", "|---" + "|--:" * (len(titles) - 1) + "|"]
    for c in sorted(configurations, key=lambda c: -(c.mean(ACCURACY) or 0)):
        cells = [label(c), str(len(c.trials)), estimate_text(c.estimate(ACCURACY), ACCURACY).removesuffix(" %")]
        cells += [difference(c, base) for base in bases.values()]
        cells += [mean(c, key) for key in ("int8_peak", "params", "macs")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference(c: Configuration, base: Configuration) -> str:
    """Paired by seed, in points; bold where its interval excludes 0."""
    found = paired(c.values(ACCURACY), base.values(ACCURACY))
    if c is base or found is None:
        return ""
    text = estimate_text(found, ACCURACY, sign=True).removesuffix(" %")
    return f"**{text}**" if found.excludes_zero else text


def mean(c: Configuration, key: str) -> str:
    """A cost, as a report shows it."""
    quantity: Quantity = COST[key]
    value = c.mean(quantity)
    return "" if value is None else quantity.text(value)


def spread(configurations: Sequence[Configuration]) -> str:
    """How far single runs stray, and what that means for a difference: a two-way analysis of variance.

    What is left of the accuracies when the mean of each network and of each seed is taken out is the error of all
    networks together; those that lack a seed are left out.
    """
    seeds = sorted({seed for c in configurations for seed in c.trials})
    whole = [c for c in configurations if len(c.trials) == len(seeds)]
    grid = 100 * np.array([[c.values(ACCURACY)[seed] for seed in seeds] for c in whole])
    left = grid - grid.mean(1, keepdims=True) - grid.mean(0) + grid.mean()
    freedom = (len(whole) - 1) * (len(seeds) - 1)
    error = sqrt((left**2).sum() / freedom)
    least = student.ppf(0.975, freedom) * error * sqrt(2 / len(seeds))
    strays = f"A single run of these {len(whole)} networks strays by {error:.2f} points (standard deviation; {freedom}"
    return (
        f"{strays} degrees of freedom), so that\ntwo of these means over {len(seeds)} seeds differ at 95 % from "
        f"{least:.2f} points on."
    )


def put(text: str, name: str, made: str) -> str:
    """The page with what was made between the marks of its name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    return before + begin + "\n" + made + "\n" + end + rest.partition(end)[2]


def section(configurations: list[Configuration], baselines: Sequence[str]) -> str:
    """A table, and what chance does to it."""
    return f"{table(configurations, baselines)}\n\n{spread(configurations)}"


BASELINES = ("`maxp`", "`skip`", "`lip`", "`avgp`")
CENTRE = "`nlp_headfix2_reduced2111111`"
SAME = (CENTRE, "`nlp_headfix2_nowin_reduced2111111`", "`avgp`", "`lip`", "`maxp`", "`skip`")
"""What the networks of ablate.yaml differ from in one thing, the one that differs in its windows, and other methods."""
SECTIONS: dict[str, Callable[[], str]] = {
    "usual": lambda: section(rows("survey", "1222121"), BASELINES),
    "early": lambda: section(rows("survey", "4121121"), BASELINES),
    "ablations": lambda: section(
        [*rows("ablate"), *(c for c in rows("survey", "4121121") if label(c) in SAME)],
        (CENTRE, "`avgp`", *(f"{name}, after_first" for name in ("`avgp`", "`lip`"))),
    ),
}
"""The marks of the page, and what stands between them."""

if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    for name, make in SECTIONS.items():
        text = put(text, name, make())
    PAGE.write_text(text, encoding="utf-8")
