"""The goal of every search, at every budget: no more regret than the best competitor.

The best competitor is the other method of the same run with the least mean regret at that budget,
chosen afterwards, which flatters it. ``KNOWN`` is the least that was measured on these tables
before this engine, by its forerunner (a ladder of Gaussian processes) or a competitor, with the
same seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.replay.markdown import markdown
from benchmarks.replay.paired import OURS, Difference, by_seed, difference
from benchmarks.replay.record import Record

__all__ = ["KNOWN", "Goal", "goals", "goals_json", "goals_table"]

KNOWN: dict[tuple[str, str, float], float] = {
    ("B2", "mean", 4.0): 0.013,
    ("B2", "mean", 8.0): 0.0,
    ("B2", "pile_cc", 0.512): 0.019,
    ("B2", "pile_cc", 4.0): 0.0,
    ("B2", "pile_cc", 8.0): 0.0,
    ("B2", "random", 4.0): 0.0,
    ("B1", "mean", 4.0): 0.049,
    ("B1", "mean", 8.54): 0.0,
    ("B1", "mean", 12.0): 0.0,
    ("B1", "pile_cc", 8.54): 0.0,
    ("B1", "random", 8.54): 0.0,
}
"""Mean normalised regret by protocol, objective and budget, ten seeds."""

_PRECISION = 5e-4  # known figures have three decimals


@dataclass(frozen=True)
class Goal:
    """One budget of one search.

    Attributes:
        protocol: B1 or B2.
        objective: What was searched for.
        budget: In units of one run at the target.
        ours: Mean normalised regret of the default strategy.
        best: The least of any other method in the same run.
        method: Which.
        known: Measured before, None where nothing was.
        less: The competitor's regret less ours, over seeds in pairs.
    """

    protocol: str
    objective: str
    budget: float
    ours: float
    best: float
    method: str
    known: float | None
    less: Difference

    @property
    def met(self) -> bool:
        """At most the best competitor's regret, and what was known."""
        known = np.inf if self.known is None else self.known + _PRECISION
        return self.ours <= min(self.best + 1e-9, known)


def goals(records: Sequence[Record]) -> list[Goal]:
    """Every budget of every search that has ours and a competitor in these records."""
    found = []
    searches = [r for r in records if "regret" in r.values]
    settings = sorted({(r.protocol, r.objective, r.n) for r in searches})
    for protocol, objective, budget in settings:
        here = [
            r for r in searches if (r.protocol, r.objective, r.n) == (protocol, objective, budget)
        ]
        methods = dict.fromkeys(r.method for r in here)
        by_method = {m: by_seed(here, m, "regret") for m in methods}
        ours = by_method.pop(OURS, {})
        means = {m: float(np.mean(list(of.values()))) for m, of in by_method.items()}
        if not ours or not means:
            continue
        best = min(means, key=means.__getitem__)
        less = difference(by_method[best], ours)
        if less is None or ours.keys() != by_method[best].keys():
            continue  # a partial run: means over different seeds compare nothing
        found.append(
            Goal(
                protocol,
                objective,
                budget,
                float(np.mean(list(ours.values()))),
                means[best],
                best,
                KNOWN.get((protocol, objective, budget)),
                less,
            )
        )
    return found


def goals_json(records: Sequence[Record]) -> list[dict[str, object]]:
    """The goals as objects of JSON."""
    return [
        asdict(goal) | {"met": goal.met, "resolved": goal.less.resolved} for goal in goals(records)
    ]


def goals_table(records: Sequence[Record]) -> str:
    """A row per search and budget, and how many were met; empty without searches."""
    judged = goals(records)
    if not judged:
        return ""
    rows = [
        [
            f"{goal.protocol} {goal.objective}",
            f"{goal.budget:g}",
            f"{goal.ours:.3f}",
            f"{goal.best:.3f}, {goal.method}",
            "–" if goal.known is None else f"{goal.known:.3f}",
            "yes" if goal.met else "no",
            str(goal.less),
            "yes" if goal.less.resolved else "no",
        ]
        for goal in judged
    ]
    head = ["search", "budget", "ours", "best competitor", "known", "met"]
    head += ["competitor less ours, 90 % interval", "resolved"]
    behind = [goal for goal in judged if goal.less.resolved and goal.less.mean < 0]
    ahead = [goal for goal in judged if goal.less.resolved and goal.less.mean > 0]
    return (
        "## Mean regret at every budget, ours against the best competitor\n\n"
        + markdown(head, rows)
        + f"\nMet at {sum(goal.met for goal in judged)} of {len(judged)} budgets; "
        f"resolved in our favour at {len(ahead)}, in the competitor's at {len(behind)}.\n"
    )
