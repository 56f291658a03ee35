"""Bridges: few runs above the swarm's rung that repair the ranking between rungs.

A cheap rung ranks mixtures well on each evaluation set and badly on their mean, for a larger model
flattens every set by its own factor. Mixtures measured at both rungs reveal the factors. Which
ones reveal most is not a matter of spreading them out: a bridge is chosen by how much it lowers
the variance of the objective's differences among the best candidates, and the next is worth its
cost only while it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from cuvee.answer import BridgePlan, Interval
from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.acquisition.outlook import Outlook
from cuvee.engine.evidence.table import Table, same
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief

if TYPE_CHECKING:
    from cuvee.engine.surrogates.fitted import Fits

__all__ = ["bridge_quota", "plan", "ranking", "swarm_size"]

_SWARM_SHARE = 0.1  # of what the target's budget costs
_SWARM_LEAST = (32, 3)  # runs; and per free parameter of a law, m + 1
_SWARM_MOST = (64, 7)
_BRIDGES = 6  # between swarm and target, at most per rung
_CANDIDATES = 64
_DRAWS = 256
_WORTH = 0.05
"""A bridge that lowers the variance of differences by less repairs nothing that shows."""


def swarm_size(table: Table) -> int:
    """Runs of the lowest rung's design, before anything is learned from them.

    Where the lowest rung is the target, half of its budget, at most ``m + 3``. Runs of earlier jobs
    at that rung take the place of up to two thirds.
    """
    rung, m = table.problem.rungs[0], table.region.dimension
    if table.target == 0:
        return min(rung.runs // 2, m + 3)
    budget = table.problem.rungs[table.target].runs / float(table.cost[0])
    least = max(_SWARM_LEAST[0], _SWARM_LEAST[1] * (m + 1))
    most = max(_SWARM_MOST[0], _SWARM_MOST[1] * (m + 1))
    size = int(np.clip(_SWARM_SHARE * budget, least, most))
    if table.earlier is not None:  # as many again from before, but some of ours to trust them by
        size = max(size // 3, size - int(np.sum(table.earlier.rung == 0)))
    return min(rung.runs, size, max(1, int(budget / 2)))


def bridge_quota(table: Table, rung: int) -> int:
    """Most bridges at a rung between the lowest and the target."""
    return min(table.problem.rungs[rung].runs, _BRIDGES)


def ranking(belief: Belief, p: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """How well mixtures ``(n, m)`` are ranked as the target would rank them.

    Returns:
        Spearman's correlations, over joint draws of the target's objective, of that objective with
        its prediction from the lowest rung alone and with the posterior mean; shapes ``(B,)``.
    """
    target = belief.goal.value(belief.losses(rng, p, _DRAWS))
    below = belief.goal.value(belief.model.mean(p, 0))
    return _spearman(below, target), _spearman(belief.mean(p), target)


def plan(table: Table, fits: Fits, settled: str | None = None) -> BridgePlan | None:
    """What the bridges have repaired, and whether another is worth its cost.

    Args:
        table: The history so far.
        fits: Its fits.
        settled: Why the search is over, if it is; said beside what another bridge would tell.

    Returns:
        None on a ladder of one rung, and where the lowest or the target has no runs yet.
    """
    belief = fits.belief
    counts = np.bincount(table.rung, minlength=table.target + 1)
    if belief is None or table.target == 0 or min(counts[0], counts[-1]) == 0:
        return None
    rng = np.random.default_rng(0)  # fixed: a history is always judged the same
    if table.pool is not None:
        rows = table.pool[table.target]
    else:
        rows = table.region.sample(rng, 4 * _CANDIDATES)
    p = rows[np.argsort(belief.mean(rows), kind="stable")[:_CANDIDATES]]
    level = table.problem.spec.verification.confidence
    before, after = (_interval(values, level) for values in ranking(belief, p, rng))
    different = np.unique(np.round(table.at(table.target)[0], 5), axis=0)
    bridged = sum(bool(np.any(same(q, np.round(table.at(0)[0], 5)))) for q in different)
    best = p[: _CANDIDATES // 4]
    outlook = Outlook(belief, Guards.of(table), best[0])
    told, now = outlook.information(best, best, table.target)
    share = float(told.max()) / now if now > 0 else 0.0
    noise = float(np.sqrt(outlook.weights**2 @ belief.model.noise(table.target)))
    apart = float(np.sqrt(now))
    if share < _WORTH or apart < noise:
        worth = False
        reason = (
            f"the best candidates differ by {apart:.2g} bits per byte beyond what is known, "
            f"against {noise:.2g} of noise in a run; another bridge would settle {share:.0%} of it"
        )
    else:
        worth = True
        reason = (
            f"another bridge would settle {share:.0%} of what is unknown of the differences "
            f"between the best candidates ({apart:.2g} bits per byte)"
        )
    if settled is not None:
        reason += f"; the search is over: {settled}"
    return BridgePlan(
        runs=bridged,
        agreement_before=before,
        agreement_after=after,
        worth_another=worth,
        reason=reason,
    )


def _spearman(one: Array, many: Array) -> Array:
    a = stats.rankdata(one)
    b = stats.rankdata(many, axis=1)
    a, b = a - a.mean(), b - b.mean(axis=1, keepdims=True)
    size = np.sqrt(np.sum(a**2) * np.sum(b**2, axis=1))
    return np.asarray(b @ a / np.maximum(size, 1e-300))


def _interval(values: Array, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))
