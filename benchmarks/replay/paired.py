"""Differences between two methods on the same seeds, resampled in pairs, and what they resolve.

Seeds differ far more than methods do, so methods are compared seed by seed. The interval is the
percentile bootstrap's over seeds, widened about the mean as Student's t widens a normal interval
(Hesterberg 2015, "expanded percentile"): with ten seeds the plain one calls one in six differences
of nothing resolved where it should be one in ten. An interval that holds zero does not tell the two
methods apart, nor do fewer than ``_LEAST`` seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.replay.markdown import markdown
from benchmarks.replay.record import Record

__all__ = ["OURS", "Difference", "areas_table", "by_seed", "difference"]

OURS = "multi_fidelity"
_REPLICATES = 4000
_LEAST = 5  # seeds


@dataclass(frozen=True)
class Difference:
    """Mean of another's figure less ours, its 90 % interval, and over how many seeds."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def resolved(self) -> bool:
        return self.seeds >= _LEAST and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        return f"{self.low:+.3f} to {self.high:+.3f}"


def difference(theirs: dict[int, float], ours: dict[int, float]) -> Difference | None:
    """Of figures by seed, over the seeds that both have; None where there is none."""
    both = sorted(theirs.keys() & ours.keys())
    if not both:
        return None
    less = np.array([theirs[seed] - ours[seed] for seed in both])
    draws = np.random.default_rng(0).integers(len(both), size=(_REPLICATES, len(both)))
    count, mean = len(both), float(less.mean())
    ends = np.quantile(less[draws].mean(axis=1), [0.05, 0.95])
    wider = 1.0
    if count > 1:
        wider = (
            float(stats.t.ppf(0.95, count - 1) / stats.norm.ppf(0.95))
            * (count / (count - 1)) ** 0.5
        )
    low, high = mean + wider * (ends - mean)
    return Difference(mean, float(low), float(high), count)


def by_seed(records: Sequence[Record], method: str, value: str) -> dict[int, float]:
    """A figure of a method by seed; of several budgets, the last that has it."""
    return {r.seed: r.values[value] for r in records if r.method == method and value in r.values}


def areas_table(records: Sequence[Record]) -> str:
    """Mean area under regret by method, and how sure its difference from ours is."""
    ours = by_seed(records, OURS, "area")
    rows = []
    for method in dict.fromkeys(r.method for r in records):
        areas = by_seed(records, method, "area")
        if not areas:
            continue
        row = [method, f"{np.mean(list(areas.values())):.3f}", "–", "–"]
        less = None if method == OURS else difference(areas, ours)
        if less is not None:
            row[2:] = [str(less), "yes" if less.resolved else "no"]
        rows.append(row)
    return markdown(["", "area", f"less {OURS}'s, 90 % interval", "resolved"], rows)
