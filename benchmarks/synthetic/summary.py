"""Synthetic searches as Markdown: one table of all problems, one for each, and the time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.replay.markdown import markdown
from benchmarks.replay.paired import OURS, by_seed, difference
from benchmarks.replay.record import Record
from benchmarks.replay.spent import Spent

__all__ = ["overview", "problem_table", "seconds_table"]


def overview(records: Sequence[Record]) -> str:
    """Mean area under regret by problem and strategy, marked where the difference is resolved."""
    strategies = list(dict.fromkeys(r.method for r in records))
    rows = []
    for name in dict.fromkeys(r.objective for r in records):
        here = [r for r in records if r.objective == name]
        ours = by_seed(here, OURS, "area")
        row = [name]
        for strategy in strategies:
            areas = by_seed(here, strategy, "area")
            less = None if strategy == OURS else difference(areas, ours)
            mark = ""
            if less is not None and less.resolved:
                mark = " +" if less.mean > 0 else " −"
            row.append(f"{np.mean(list(areas.values())):.2f}{mark}" if areas else "–")
        rows.append(row)
    return (
        "## Mean area under regret\n\n"
        + markdown(["", *strategies], rows)
        + f"\n+ and −: resolved as more and as less than {OURS}'s, seeds resampled in pairs, "
        "90 % interval.\n"
    )


def problem_table(records: Sequence[Record]) -> str:
    """One problem: a row per strategy, and how its rungs below the target rank mixtures."""
    budgets = sorted({r.n for r in records})
    below = sorted({k for r in records for k in r.values if k.startswith("runs_")})[:-1]
    ours = by_seed(records, OURS, "area")
    rows = []
    for strategy in dict.fromkeys(r.method for r in records):
        own = [r for r in records if r.method == strategy]
        row = [strategy]
        for budget in budgets:
            row.append(f"{np.median([r.values['regret'] for r in own if r.n == budget]):.3f}")
        areas = by_seed(own, strategy, "area")
        less = None if strategy == OURS else difference(areas, ours)
        row.append(f"{np.mean(list(areas.values())):.3f}")
        row += ["–", "–"] if less is None else [str(less), "yes" if less.resolved else "no"]
        ends = [r.values for r in own if r.n == budgets[-1]]
        row.append(" / ".join(f"{np.median([v.get(k, 0.0) for v in ends]):g}" for k in below))
        rows.append(row)
    head = ["median regret at", *(f"{b:g}" for b in budgets), "mean area"]
    head += [f"less {OURS}'s, 90 % interval", "resolved", "runs below the target"]
    return f"## {records[0].objective}\n\n" + markdown(head, rows) + _agreement(records)


def _agreement(records: Sequence[Record]) -> str:
    """What the default learned of each rung below the target, and the truth."""
    lines = []
    for key in sorted({k for r in records for k in r.values if k.startswith("true_agreement_")}):
        rung = key.rsplit("_", 1)[1]
        true = list(by_seed(records, OURS, key).values())
        learned = list(by_seed(records, OURS, f"agreement_{rung}").values())
        if not learned:
            continue
        low, middle, high = np.quantile(learned, [0.05, 0.5, 0.95])
        lines.append(
            f"\nRung {rung} ranks mixtures as the target does: rank correlation as {OURS} learned "
            f"it {middle:.2f} ({low:.2f} to {high:.2f} in 90 % of {len(learned)} seeds), "
            f"truly {np.median(true):.2f}.\n"
        )
    return "".join(lines)


def seconds_table(spent: Sequence[Spent]) -> str:
    """Median seconds of the processor for one search, and minutes in all."""
    problems = list(dict.fromkeys(one.protocol for one in spent))
    strategies = list(dict.fromkeys(one.method for one in spent))
    rows = []
    for problem in problems:
        own = [one for one in spent if one.protocol == problem]
        row = [problem]
        for strategy in strategies:
            used = [one.cpu_seconds for one in own if one.method == strategy]
            row.append(f"{np.median(used):.1f}" if used else "–")
        rows.append([*row, f"{sum(one.seconds for one in own) / 60:.1f}"])
    whole = ["minutes in all"]
    for strategy in strategies:
        minutes = sum(one.seconds for one in spent if one.method == strategy) / 60
        whole.append(f"{minutes:.1f}")
    rows.append([*whole, f"{sum(one.seconds for one in spent) / 60:.1f}"])
    return "## Seconds of the processor for one search\n\n" + markdown(
        ["", *strategies, "minutes in all"], rows
    )
