"""Records as Markdown: the bars, and for each protocol a table of methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.replay.bars import BARS, Range
from benchmarks.replay.goals import goals_table
from benchmarks.replay.markdown import markdown
from benchmarks.replay.paired import areas_table
from benchmarks.replay.record import Record
from benchmarks.replay.timing import REAL

__all__ = ["bars_table", "by_n", "failed", "growth_tables", "judged", "tables"]


def judged(records: Sequence[Record]) -> list[dict[str, object]]:
    """Every bar that these records measure: figure, goal, and whether each was met."""
    found: list[dict[str, object]] = []
    for bar in BARS:
        figure = bar.figure(records)
        if figure is None:
            continue
        found.append(
            {
                "what": bar.what,
                "known": bar.known,
                "goal": _words(bar.goal),
                "measured": round(figure, 4),
                "met": _inside(figure, bar.goal),
                "asserted": None if bar.floor is None else _words(bar.floor),
                "holds": bar.floor is None or _inside(figure, bar.floor),
            }
        )
    return found


def failed(records: Sequence[Record]) -> list[str]:
    """The bars whose asserted floor does not hold, in words."""
    return [
        f"{bar['what']} is {bar['measured']}, asserted {bar['asserted']}"
        for bar in judged(records)
        if not bar["holds"]
    ]


def bars_table(records: Sequence[Record]) -> str:
    """The table of bars."""
    rows = [
        [bar["what"], bar["known"], bar["goal"], bar["measured"], "yes" if bar["met"] else "no"]
        for bar in judged(records)
    ]
    return "## Bars\n\n" + markdown(["what", "known", "goal", "measured", "met"], rows)


def tables(records: Sequence[Record]) -> str:
    """Methods by protocol: medians of correlations, means of regret and coverage, seconds."""
    shown = (
        ("regression", ("spearman_1m", "spearman_60m", "spearman_1b"), np.median, "Spearman"),
        ("regression", ("coverage",), np.mean, "Coverage of 90 % intervals"),
        ("transfer to 60m", ("spearman",), np.median, "Spearman"),
        ("transfer to 60m", ("coverage",), np.mean, "Coverage of 90 % intervals"),
        ("transfer to 1b", ("spearman",), np.median, "Spearman"),
        ("transfer to 1b", ("coverage",), np.mean, "Coverage of 90 % intervals"),
        ("outliers", ("clean", "planted"), np.median, "Spearman"),
        ("B1", ("regret",), np.mean, "Mean normalised regret"),
        ("B2", ("regret",), np.mean, "Mean normalised regret"),
    )
    parts = [goals_table(records)]
    for protocol, values, aggregate, title in shown:
        ours = [r for r in records if r.protocol == protocol]
        for objective in dict.fromkeys(r.objective for r in ours):
            here = [r for r in ours if r.objective == objective]
            heading = f"## {protocol}, {objective}: {title} ({' / '.join(values)})"
            parts.append(f"{heading}\n\n{by_n(here, values, [aggregate] * len(values))}")
            if values == ("regret",):
                parts.append(areas_table(here))
    parts.append(growth_tables(records))
    return "\n\n".join(part for part in parts if part)


def growth_tables(records: Sequence[Record]) -> str:
    """Seconds of one proposal against runs on the tables, and against domains; medians."""
    title = "Seconds of the processor for one proposal"
    timed = [r for r in records if r.protocol == "time"]
    by_runs = [r for r in timed if r.objective == REAL]
    by_domains = [
        replace(r, n=float(r.objective.split()[0]), method=f"{r.method}, {r.n:g} runs")
        for r in timed
        if r.objective != REAL
    ]
    parts = []
    if by_runs:
        grown = by_n(by_runs, ("cpu_seconds",), (np.median,))
        parts.append(f"## {title}, {REAL}, against runs\n\n{grown}")
    if by_domains:
        grown = by_n(by_domains, ("cpu_seconds",), (np.median,))
        parts.append(f"## {title}, synthetic laws, against domains\n\n{grown}")
    return "\n\n".join(parts)


def by_n(
    records: Sequence[Record],
    values: Sequence[str],
    aggregates: Sequence[Callable[[list[float]], float]],
) -> str:
    """A row per method, a column per n or budget; each value by its aggregate over the seeds."""
    ns = sorted({r.n for r in records})
    rows = []
    for method in dict.fromkeys(r.method for r in records):
        row: list[object] = [method]
        for n in ns:
            here = [r.values for r in records if r.method == method and r.n == n]
            cells = []
            for value, aggregate in zip(values, aggregates, strict=True):
                known = [v[value] for v in here if value in v]
                cells.append(f"{aggregate(known):.3f}" if known else "–")
            row.append(" / ".join(cells))
        rows.append(row)
    return markdown(["", *(f"{n:g}" for n in ns)], rows)


def _inside(figure: float, wanted: Range) -> bool:
    return wanted[0] - 1e-9 <= figure <= wanted[1] + 1e-9


def _words(wanted: Range) -> str:
    low, high = wanted
    if low <= 0:
        return f"at most {high:.3g}"
    return f"at least {low:g}" if high >= 1 else f"{low:g} to {high:g}"
