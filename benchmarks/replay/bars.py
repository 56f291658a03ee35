"""The bars: what is measured, what was known before, what the goal is, what is asserted.

A bar's figure is the median over the repeats of one setting; the mean where the issue's figure is
one (regret, which is zero for most seeds, and coverage). ``goal`` is what the work was asked to
reach; ``floor`` is what ``--quick`` asserts: the goal, or the best honest figure less the noise of
so few repeats where the goal was not reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.replay.record import Record, select

__all__ = ["BARS", "Bar", "Range"]

Range = tuple[float, float]
"""Least and greatest value that will do."""

_INF = float("inf")


@dataclass(frozen=True)
class Bar:
    """One line of the table.

    Attributes:
        what: For people.
        protocol: This and the next three are as in ``Record``.
        objective: What is predicted or searched.
        method: Surrogate or strategy.
        n: Runs or budget.
        value: Which of the record's values.
        known: Measured before on the same tables, in words.
        goal: Asked for.
        floor: Asserted under ``--quick``; None: shown only.
        aggregate: Over repeats.
        against: The figure is divided by that of this method.
    """

    what: str
    protocol: str
    objective: str
    method: str
    n: float
    value: str
    known: str
    goal: Range
    floor: Range | None
    aggregate: Literal["median", "mean"] = "median"
    against: str | None = None

    def figure(self, records: Iterable[Record]) -> float | None:
        """The measured figure, None where this run did not measure it."""
        records = list(records)
        own = self._of(records, self.method)
        if self.against is None or own is None:
            return own
        other = self._of(records, self.against)
        return None if other is None else own / max(other, 1e-9)

    def _of(self, records: list[Record], method: str) -> float | None:
        found = select(records, self.protocol, self.objective, method, self.n, self.value)
        if not found:
            return None
        return float(np.median(found) if self.aggregate == "median" else np.mean(found))


def _rank(n: int, rows: str, known: str, goal: float, floor: float) -> Bar:
    method = "default" if rows == "random" else "default designed"
    what = f"mean of 13, held-out 1M, n = {n}, {rows} rows"
    return Bar(
        what, "regression", "mean", method, n, "spearman_1m", known, (goal, 1.0), (floor, 1.0)
    )


def _regret(
    protocol: str, objective: str, budget: float, known: str, goal: float, floor: float
) -> Bar:
    return Bar(
        f"{protocol} {objective}, budget {budget:g}, regret",
        protocol,
        objective,
        "multi_fidelity",
        budget,
        "regret",
        known,
        (-_INF, goal),
        (-_INF, floor),
        "mean",
    )


def _area(protocol: str, objective: str, last: float) -> Bar:
    return Bar(
        f"{protocol} {objective}, area under regret, against regmix",
        protocol,
        objective,
        "multi_fidelity",
        last,
        "area",
        "",
        (-_INF, 0.5),
        (-_INF, 0.75),
        "mean",
        "regmix",
    )


def _coverage(protocol: str, where: str, objective: str, method: str, n: int) -> Bar:
    return Bar(
        f"90 % intervals, {objective}, {where}",
        protocol,
        objective,
        method,
        n,
        "coverage",
        "0.67 to 0.88",
        (0.86, 0.94),
        (0.86, 0.985) if protocol == "regression" else (0.75, 1.0),
        "mean",
    )


BARS: tuple[Bar, ...] = (
    _rank(24, "designed", "0.95, designed; 0.90, random", 0.96, 0.96),
    _rank(32, "random", "0.956", 0.97, 0.97),
    _rank(32, "designed", "0.960", 0.97, 0.97),
    _rank(64, "random", "0.980; RegMix 0.869", 0.985, 0.98),
    _rank(64, "designed", "0.981", 0.985, 0.98),
    Bar(
        "pile_cc, held-out 1M, n = 32",
        "regression",
        "pile_cc",
        "default",
        32,
        "spearman_1m",
        "GP 0.971, law 0.896",
        (0.97, 1.0),
        (0.965, 1.0),
    ),
    Bar(
        "pile_cc, 1B, n = 32 at 1M",
        "regression",
        "pile_cc",
        "default",
        32,
        "spearman_1b",
        "GP 0.92, law 0.977",
        (0.975, 1.0),
        (0.965, 1.0),
    ),
    *(
        Bar(
            f"mean of 13, held-out 1B, 512 runs at 1M and {k} at 1B",
            "transfer to 1b",
            "mean",
            "default 512+k",
            k,
            "spearman",
            known,
            (goal, 1.0),
            (floor, 1.0),
        )
        for k, known, goal, floor in (
            (4, "0.73 before; 0.82 to 0.84", 0.86, 0.83),
            (8, "0.86", 0.90, 0.87),
        )
    ),
    _regret("B2", "mean", 4, "0.013", 0.013, 0.05),
    _regret("B2", "mean", 8, "0", 0.0, 0.03),
    _regret("B2", "pile_cc", 0.512, "0.019", 0.019, 0.06),
    _regret("B2", "pile_cc", 4, "0", 0.0, 0.03),
    _regret("B2", "pile_cc", 8, "0", 0.0, 0.03),
    _regret("B2", "random", 4, "0", 0.0, 0.03),
    _regret("B1", "mean", 4, "0.049", 0.049, 0.08),
    _regret("B1", "mean", 8.54, "0", 0.0, 0.03),
    _regret("B1", "mean", 12, "0", 0.0, 0.03),
    _regret("B1", "pile_cc", 8.54, "0", 0.0, 0.03),
    _regret("B1", "random", 8.54, "0", 0.0, 0.03),
    *(
        _area(protocol, objective, last)
        for protocol, last in (("B2", 8), ("B1", 16))
        for objective in ("mean", "pile_cc", "random")
    ),
    *(
        _coverage("regression", f"1M, n = {n}", objective, "default", n)
        for n in (32, 64, 128)
        for objective in ("mean", "pile_cc", "random")
    ),
    *(
        _coverage(
            "transfer to 60m", f"60M, 128 at 1M and {k} at 60M", objective, "default 128+k", k
        )
        for k in (8,)
        for objective in ("mean", "pile_cc", "random")
    ),
    *(
        _coverage("transfer to 1b", f"1B, 512 at 1M and {k} at 1B", objective, "default 512+k", k)
        for k in (4, 8)
        for objective in ("mean", "pile_cc", "random")
    ),
    Bar(
        "pile_cc, 64 runs, three of them planted outliers",
        "outliers",
        "pile_cc",
        "default",
        64,
        "planted",
        "0.897 as is, 0.978 screened",
        (0.975, 1.0),
        (0.96, 1.0),
    ),
    Bar(
        "one proposal, 17 domains, 500 runs, seconds",
        "time",
        "17 domains",
        "multi_fidelity",
        500,
        "cpu_seconds",
        "",
        (0.0, 5.0),
        (0.0, 10.0),
    ),
    Bar(
        "the same, divided by Ax's (one metric)",
        "time",
        "17 domains",
        "multi_fidelity",
        500,
        "cpu_seconds",
        "",
        (0.0, 1 / 3),
        (0.0, 1 / 3),
        against="Ax, 1 metric",
    ),
    Bar(
        "one proposal, 100 domains, 320 runs, seconds",
        "time",
        "100 domains",
        "multi_fidelity",
        320,
        "cpu_seconds",
        "",
        (0.0, 30.0),
        (0.0, 30.0),
    ),
)
