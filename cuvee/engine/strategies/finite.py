"""Constraints that allow only so many mixtures: which, and which of them to run next.

With at most one active domain the region is its corners; with all but one domain fixed and few
active, it is a handful of points. No strategy is made for that: each would name the same mixtures
again and again. So each mixture is run once at a rung below the target, where a repeat tells
nothing that matters, and ``REPEATS`` times at the target, where it tells the noise; a strategy's
own choice comes first.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, islice
from math import comb

import numpy as np

from cuvee.engine.evidence.table import Table, same
from cuvee.engine.space import design
from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.strategies.base import Point, Strategy, verified
from cuvee.engine.surrogates.fitted import Fits
from cuvee.records import Explanation

__all__ = ["REPEATS", "every_mixture", "instead", "wanting"]

REPEATS = 2
"""Runs of each mixture at the target: a third says more of the noise, but nothing of the choice."""

_MOST = 512  # sets of active domains that are looked at
_SINGLE = 1e-6  # a region narrower than this is one mixture


def every_mixture(table: Table) -> Array | None:
    """All mixtures that the constraints allow, shape ``(n, m)``; None where they are a continuum.

    Also None for one mixture alone, which needs no search, and for a pool, whose rows are all there
    is.
    """
    region = table.region
    if table.pool is not None or region.max_active is None or table.single:
        return None
    forced = np.flatnonzero(region.lower > 0)
    free = np.flatnonzero((region.lower <= 0) & (region.upper > 0))
    room = min(region.max_active - len(forced), len(free))
    if room < 0 or comb(len(free), room) > _MOST:
        return None
    found: list[Array] = []
    for chosen in islice(combinations(free, room), _MOST):
        upper = np.zeros(region.dimension)
        active = [*forced, *chosen]
        upper[active] = region.upper[active]
        part: Region = replace(region, upper=upper, max_active=None)
        if part.empty:
            continue
        if part.width >= _SINGLE:
            return None
        p = part.project(np.full(region.dimension, 1.0 / region.dimension))
        if not found or not np.any(same(p, np.array(found))):
            found.append(p)
    return np.array(found)


def wanting(table: Table, rung: int, mixtures: Array) -> Array:
    """The mixtures ``(n, m)`` that another run at a rung would be of use for: the least often run.

    Pending and failed runs count, so that a search ends. Empty when each was run often enough, or
    when the rung has no runs left.
    """
    taken = table.taken(rung)
    counts = np.array([np.sum(same(p, taken)) for p in mixtures])
    most = REPEATS if rung == table.target else 1
    if table.left(rung) == 0 or counts.min() >= most:
        return mixtures[:0]
    return np.asarray(mixtures[counts == counts.min()])


def instead(
    table: Table, fits: Fits, strategy: Strategy, point: Point, mixtures: Array
) -> Point | None:
    """A strategy's point if a run there is of use; else one that is, at its rung or at the target.

    Args:
        table: The history so far.
        fits: Its fits.
        strategy: Whose point it is.
        point: What it wants run.
        mixtures: All that the constraints allow, shape ``(n, m)``.
    """
    others = sorted(set(strategy.rungs(table)) - {point.rung}, reverse=True)
    for rung in (point.rung, *others):
        rows = wanting(table, rung, mixtures)
        if len(rows) == 0:
            continue
        if rung == point.rung and np.any(same(point.p, rows)):
            return point
        return _of(table, fits, rung, rows)
    return None


def _of(table: Table, fits: Fits, rung: int, rows: Array) -> Point:
    """One of the mixtures: by the belief at the target, where there is one, else by the design."""
    if rung == table.target and fits.belief is not None and len(verified(table)[0]):
        p = rows[np.argmin(fits.belief.mean(rows))]
    else:
        values = design.leverage(rows, table.taken(rung))
        p = rows[np.argmax(values)]
    again = np.any(same(p, table.taken(rung)))
    reason = (
        "again with another seed: every mixture that the constraints allow was run once"
        if again
        else "one of the few mixtures that the constraints allow, not run at this rung yet"
    )
    why = Explanation(method="repeat" if again else "enumeration", cost=float(table.cost[rung]))
    return Point(p, rung, reason, explanation=why)
