"""What a protocol returns: one record per (protocol, objective, method, n or budget, seed)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Record", "select"]


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        protocol: ``regression``, ``slopes``, ``outliers``, ``B1``, ``B2`` or ``time``.
        objective: ``mean``, ``pile_cc``, ``random``; for ``time``, what was timed.
        method: Name of the surrogate or of the strategy, with the variant after a blank.
        n: Runs that were given, or the budget in units of one target run.
        seed: Repeat.
        values: By name of the figure.
    """

    protocol: str
    objective: str
    method: str
    n: float
    seed: int
    values: dict[str, float] = field(default_factory=dict)


def select(
    records: Iterable[Record], protocol: str, objective: str, method: str, n: float, value: str
) -> Sequence[float]:
    """A figure over all repeats of one setting, in the order of the seeds."""
    found = [
        (r.seed, r.values[value])
        for r in records
        if (r.protocol, r.objective, r.method) == (protocol, objective, method)
        and np.isclose(r.n, n)
        and value in r.values
    ]
    return [v for _, v in sorted(found)]
