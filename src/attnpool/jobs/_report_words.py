"""What a report says in words: a summary of each data set, what its trials ran with, and what has to be known of it."""

from collections import Counter
from collections.abc import Sequence

from attnpool.jobs._quantities import COSTS, COUNTED, Quantity
from attnpool.jobs._results import DataSet, Results
from attnpool.jobs._rows import Row
from attnpool.jobs._statistics import Estimate, front, paired

NAMED = 5
"""Most configurations that a summary names."""
PEAK = COSTS[0]


def summary(data: DataSet, baseline: int, failed: int) -> str:
    """A paragraph on a data set: how much was trained, the front, and the differences to the baseline."""
    lost = f"; {_number(failed, 'trial')} failed" if failed else ""
    text = f"{_counted(data)} on {data.name}{lost}. {_front(data)}"
    return f"{text} {_differences(data, baseline)}" if len(data.configurations) > 1 else text


def estimate_text(estimate: Estimate | None, quantity: Quantity, *, sign: bool = False) -> str:
    """E.g. "85.17 ± 1.45 %"; one seed: the value alone."""
    if estimate is None:
        return "not measured"
    mean = ("+" if sign and estimate.mean > 0 else "") + quantity.text(estimate.mean)
    half = "" if estimate.half is None else f" ± {quantity.text(estimate.half)}"
    return f"{mean}{half} {quantity.unit}".strip()


def environment(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """What the trials ran with: a name, and its values, with how many trials had each if they are several."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        known = row.get("versions")
        versions = {f"version of {name}": value for name, value in known.items()} if isinstance(known, dict) else {}
        about = {"device": row.get("device"), "commit": row.get("commit"), **versions}
        for name, value in about.items():
            found.setdefault(name, Counter())[str(value or "unknown")] += 1
    told = [(name, [_times(value, n, len(count)) for value, n in count.most_common()]) for name, count in found.items()]
    dates = sorted(str(row["finished_at"]) for row in rows if row.get("finished_at"))
    return [*told, ("finished", [f"{dates[0]} to {dates[-1]}" if len(set(dates)) > 1 else dates[0]])] if dates else told


def remarks(results: Results) -> list[str]:
    """What a reader has to know of these very trials: costs that differ between seeds, seeds that are missing."""
    found = []
    for data in results.data:
        for c in data.configurations:
            unequal = [q.label for q in COUNTED if len(set(c.values(q).values())) > 1]
            if unequal:
                found.append(
                    f"{c.name}, {data.name}: {', '.join(unequal)} differ between the seeds; the mean is shown."
                )
        seeds = Counter(seed for c in data.configurations for seed in c.trials)
        partial = [f"{c.name} ({len(c.trials)})" for c in data.configurations if len(c.trials) < len(seeds)]
        if partial:
            found.append(f"{data.name}: fewer than all {len(seeds)} seeds have a result of {', '.join(partial)}.")
    return found


def _counted(data: DataSet) -> str:
    seeds = Counter(len(c.trials) for c in data.configurations)
    count = _number(len(data.configurations), "configuration")
    if len(seeds) == 1:
        (n,) = seeds
        return f"{count}, {_number(n, 'seed')}{' each' if len(data.configurations) > 1 else ''},"
    parts = [f"{of} with {_number(n, 'seed')}" for n, of in sorted(seeds.items(), reverse=True)]
    return f"{count} ({', '.join(parts)})"


def _front(data: DataSet) -> str:
    found, measure = data.configurations, data.reported.measures[0]
    places = front([c.mean(PEAK) for c in found], [c.mean(measure) or 0.0 for c in found])
    texts = []
    for c in [found[i] for i in places[:NAMED]]:
        memory = f"{PEAK.text(c.mean(PEAK) or 0.0)} {PEAK.unit}"
        texts.append(f"{c.name} ({estimate_text(c.estimate(measure), measure)} in {memory})")
    return f"On the front of {measure.label} against the int8 peak: {_listed(texts, len(places))}."


def _differences(data: DataSet, baseline: int) -> str:
    base, measure = data.configurations[baseline], data.reported.measures[0]
    others = [c for c in data.configurations if c is not base]
    found = [(c.name, paired(c.values(measure), base.values(measure))) for c in others]
    sure = [(name, d) for name, d in found if d is not None and d.excludes_zero]
    sure.sort(key=lambda item: -abs(item[1].mean))
    tested = sum(d is not None and d.half is not None for _, d in found)
    start = f"Paired by seed with {base.name}, "
    if not tested:
        return f"{start}no difference has an interval: that takes two seeds in common."
    if not sure:
        none = f"none of {_number(tested, 'difference')} in {measure.label}"
        return f"{start}{none} has a 95 % interval that excludes\u00a00."
    texts = [f"{name} by {estimate_text(d, measure, sign=True).removesuffix(' %')} points" for name, d in sure[:NAMED]]
    count = f"{len(sure)} of {_number(tested, 'difference')} in {measure.label}"
    verb = "has a 95 % interval that excludes" if len(sure) == 1 else "have 95 % intervals that exclude"
    return f"{start}{count} {verb}\u00a00: {_listed(texts, len(sure))}."


def _listed(texts: Sequence[str], count: int) -> str:
    return ", ".join(texts) + (f" and {count - len(texts)} more" if count > len(texts) else "")


def _times(value: str, n: int, kinds: int) -> str:
    return value if kinds == 1 else f"{value} ({_number(n, 'trial')})"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
