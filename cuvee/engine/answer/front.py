"""The Pareto front of an objective with several parts, under the posterior mean.

A mixture is on the front when no candidate is at least as good on all parts and better on one.
Candidates are those about the answer and the minima of weighted sums of the parts, each started at
the minimum of its neighbour: a weighted sum finds every point of a convex front, the candidates
what there is of another. Mixtures that the guardrails do not allow are left out.

The recommendation is on its own front: the strategy's answer, mostly a measured mixture. Among so
many candidates one nearly always has posterior means a little lower on all parts, but that is no
reason to leave what was measured: such mixtures are left out, unless the mean over the parts of
the best of them is lower with a chance of ``SURE``; then it is recommended. So the recommendation
gives up none of what the answer had, unlike a knee or the nearest point.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import stats

from cuvee.answer import FrontPoint, Interval
from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.answer.contrast import gap
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.optima import descend
from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.strategies.multi_fidelity import SURE
from cuvee.engine.surrogates.belief import Belief

__all__ = ["front", "nondominated"]

_MOST = 12
_GRID = {2: 8, 3: 4, 4: 3}  # parts to steps of the grid of weights: 9, 15, 20 sums
_ROUNDS = 12
_WAY = 8  # steps from the answer to a minimum that the guardrails may forbid
_CORNER = 0.02  # of a weight: a part that weighs nothing would end on the front by luck


def front(
    table: Table,
    belief: Belief,
    guards: Guards,
    region: Region,
    best: Array,
    cloud: Array,
    confidence: float,
) -> tuple[tuple[FrontPoint, ...], Array]:
    """At most twelve mixtures spread over the front, by their first part; () unless pareto.

    Args:
        table: The search.
        belief: The posterior.
        guards: The guardrails; ``best`` is taken to hold them.
        region: Where mixtures may be recommended.
        best: The strategy's answer, shape ``(m,)``.
        cloud: Candidates, shape ``(n, m)``.
        confidence: Level of the intervals.

    Returns:
        The points, and which mixture to recommend, shape ``(m,)``: one of theirs, see the module.
    """
    parts = table.problem.spec.objective.parts
    weights = belief.goal.parts
    if parts is None or weights is None:
        return (), best
    count, steps = len(weights), _GRID[len(weights)]
    found, start = [best], best
    for shares in product(range(steps + 1), repeat=count):
        if sum(shares) != steps:
            continue
        mix = (1 - _CORNER) * np.array(shares) / steps + _CORNER / count
        w = mix @ weights

        def total(q: Array, w: Array = w) -> Array:
            return np.asarray(belief.model.mean(q, belief.target) @ w)

        start = descend(total, region, start, _ROUNDS)
        found.append(start)
    candidates = np.concatenate([np.array(found), cloud])
    if len(guards):
        steps_out = np.linspace(0.0, 1.0, _WAY + 1)[1:-1, None, None]
        way = (best + steps_out * (np.array(found[1:]) - best)).reshape(-1, len(best))
        candidates = np.concatenate([candidates, way[region.contains(way)]])
        allowed = guards.allowed(belief, candidates)
        allowed[0] = True  # rounding its shares must not drop the answer
        candidates = candidates[allowed]
    values = belief.model.mean(candidates, belief.target) @ weights.T  # (n, Q)
    chosen = _chosen(belief, candidates, values)
    beating = np.all(values <= values[chosen], axis=1) & np.any(values < values[chosen], axis=1)
    rest = np.flatnonzero(~beating)
    kept = rest[nondominated(values[rest])]
    kept = _thin(values, kept, _MOST, chosen)
    kept = kept[np.argsort(values[kept, 0], kind="stable")]
    deviation = belief.inflation * np.sqrt(belief.model.var(candidates[kept], belief.target))
    half = stats.norm.ppf(0.5 + confidence / 2)
    points = []
    for row, each in zip(kept, deviation, strict=True):
        spread = weights * each  # (Q, E)
        square = np.einsum("qe,ef,qf->q", spread, belief.correlation, spread)
        width = half * np.sqrt(np.maximum(square, 0.0))
        points.append(
            FrontPoint(
                mixture=table.mixture(candidates[row]),
                parts={
                    name: Interval(mean=float(v), low=float(v - h), high=float(v + h))
                    for name, v, h in zip(parts, values[row], width, strict=True)
                },
            )
        )
    return tuple(points), np.asarray(candidates[chosen])


def _chosen(belief: Belief, candidates: Array, values: Array) -> int:
    """The row to recommend: the first, or one that beats it on every part and surely on their mean.

    Args:
        belief: The posterior of an objective with parts.
        candidates: Shape ``(n, m)``, the answer first.
        values: Posterior means of the parts there, shape ``(n, Q)``.
    """
    better = np.flatnonzero(np.all(values <= values[0], axis=1))
    top = int(better[np.argmin(values[better].mean(axis=1))])
    chance = gap(belief, candidates[:1], candidates[top], SURE).chance[0]
    return top if chance >= SURE else 0


def nondominated(values: Array) -> Array:
    """Which rows ``(n, Q)`` no other row is at least as low as everywhere and lower somewhere.

    Returns:
        Indices in increasing order; of equal rows, the first.
    """
    _, first = np.unique(values, axis=0, return_index=True)
    rows = values[np.sort(first)]
    at_least = np.all(rows[:, None, :] <= rows[None, :, :], axis=2)
    np.fill_diagonal(at_least, False)
    return np.asarray(np.sort(first)[~np.any(at_least, axis=0)])


def _thin(values: Array, kept: Array, count: int, chosen: int) -> Array:
    """At most ``count`` of the rows, spread out: ``chosen``, the ends of each part, then max-min
    distance."""
    if len(kept) <= count:
        return kept
    scale = np.maximum(np.ptp(values[kept], axis=0), 1e-12)
    at = values[kept] / scale
    first = int(np.flatnonzero(kept == chosen)[0])
    taken = list(dict.fromkeys([first, *np.argmin(at, axis=0).tolist()]))
    while len(taken) < count:
        gaps = np.abs(at[:, None, :] - at[taken][None, :, :]).max(axis=2).min(axis=1)
        taken.append(int(np.argmax(gaps)))
    return np.asarray(kept[taken])
