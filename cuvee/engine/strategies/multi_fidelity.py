"""The default: a cheap swarm, bridges, then whichever run improves the target most for its cost.

1. *Swarm.* A designed set of mixtures at the lowest rung, as large as a tenth of the target's
   budget pays for, within ``3 (m + 1)`` and ``7 (m + 1)``.
2. *Bridges.* A few runs at each rung between, while they tell more of the differences among the
   best candidates for their cost than a run at the target would (``bridges``).
3. *Target.* The best predicted mixture; then the run that tells most of those differences; then
   the run that is worth most for its cost, at whichever rung (``acquisition.outlook``).

The order among rungs is this strategy's; a rung's ``runs`` is a cap that it may leave unspent.
The answer is the best mixture that was measured at the target, by its posterior mean, unless
another one is better with a chance of ``SURE``. In a replay over finished runs a row that was run
counts by what it measured.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from cuvee.engine.acquisition.cloud import apart, cloud, near
from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.acquisition.outlook import Outlook, Worth
from cuvee.engine.acquisition.pending import awaiting
from cuvee.engine.answer.contrast import gap
from cuvee.engine.bridges import bridge_quota, swarm_size
from cuvee.engine.evidence.table import Table
from cuvee.engine.goal import Goal
from cuvee.engine.space import design, optima
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, best_verified, fill, unseen, verified
from cuvee.engine.surrogates.base import Surrogate
from cuvee.engine.surrogates.belief import Belief
from cuvee.engine.surrogates.registry import SURROGATES
from cuvee.records import Explanation

if TYPE_CHECKING:
    from cuvee.engine.surrogates.fitted import Fits

__all__ = ["MultiFidelity", "Prospect"]

SURE = 0.7
"""Chance of being better above which a mixture is recommended that the target has not seen. On 30
synthetic searches (docs/log.md) 0.9 costs up to a quarter of the regret after six target runs
and gains nothing later."""

_CLOUD = 512  # candidates whose mean is predicted
_SCORED = 128  # of these, the best are scored; and half as many of the others, at random
_REFINED = 64  # more candidates near the best few, once they are scored
_TELLING = 32  # mixtures considered for a run below the target
_STARTS = 4
_ROUNDS = 10  # of the descent to where candidates are drawn; scoring finds the rest of the way
_CLOSE = 0.2  # share of candidates that count as the best ones, for what a run would tell of them
_TOP_UP = 0.25
"""Most that runs below the target, after swarm and bridges, may cost of what the target has
spent: their worth is a forecast, and forecasts of forecasts flatter."""

_LEVEL = 3  # the first runs at a rung fix its level; only then can one tell of differences
_MARGIN = 1.1
"""How far a run below the target must beat one at it: the best of 32 forecasts flatters itself, by
2 to 9 % where the rung is unrelated to the target."""


class Prospect:
    """Candidates for the next run, seen from the best mixture so far.

    Args:
        table: The history so far.
        belief: Fitted to it; runs under way are added here.
        rng: Source of the candidates, and of the weights of a front's parts.
        count: How many candidates to draw.
        goal: What to improve; None: the table's objective, of a front one weighted mean, drawn.
    """

    def __init__(
        self,
        table: Table,
        belief: Belief,
        rng: np.random.Generator,
        count: int = _CLOUD,
        goal: Goal | None = None,
    ) -> None:
        goal = _scalar(table.goal, rng) if goal is None else goal
        self.table = table = replace(table, goal=goal)
        self.guards = Guards.of(table)
        waits = table.waits
        model = awaiting(belief.model, table.busy[waits], table.busy_rung[waits])
        self.belief = replace(belief, model=model, goal=goal)
        points = cloud(table, rng, self._good(), count)
        mean = self.belief.mean(points) if len(points) else np.zeros(0)
        if len(points) > _SCORED * 2:
            order = np.argsort(mean, kind="stable")
            rest = rng.choice(order[_SCORED:], _SCORED // 2, replace=False)
            keep = np.sort(np.concatenate([order[:_SCORED], rest]))
            points, mean = points[keep], mean[keep]
        self.points, self.mean = points, mean
        self.outlook = Outlook(self.belief, self.guards, self._incumbent())

    def _good(self) -> Array:
        """Where to draw candidates: the best mixtures measured anywhere, and the prior."""
        table = self.table
        inside = table.region.contains(table.shares, slack=1e-6)
        if not np.any(inside) or table.pool is not None:
            return design.centre(table)[None]
        rows = table.rung == table.rung[inside].max()
        best = np.argsort(table.goal.value(table.losses[inside & rows]), kind="stable")[:_STARTS]
        start = table.region.project(table.shares[inside & rows][best])
        lowest = start[np.argmin(self.belief.mean(start))]
        found = optima.descend(self.belief.mean, table.region, lowest, rounds=_ROUNDS)
        return np.concatenate([found[None], start])

    def _incumbent(self) -> Array:
        """The best measured at the target that the guardrails allow; else the best candidate."""
        x, _ = verified(self.table)
        for rows in (x, self.points):
            if len(rows) == 0:
                continue
            allowed = rows[self.guards.allowed(self.belief, rows)]
            if len(allowed):
                return np.asarray(allowed[np.argmin(self.belief.mean(allowed))])
        rows = x if len(x) else self.points
        if len(rows) == 0:
            return design.centre(self.table)
        return np.asarray(rows[np.argmax(self.guards.all_hold(self.belief, rows))])

    @property
    def close(self) -> Array:
        """The best fifth of the candidates by posterior mean, at most 64, shape ``(n, m)``."""
        order = np.argsort(self.mean, kind="stable")
        return self.points[order[: min(64, max(8, int(_CLOSE * len(order))))]]

    def telling(self, rung: int, rng: np.random.Generator) -> Array:
        """Mixtures that a run below the target could measure, shape ``(k, m)``."""
        if self.table.pool is not None:
            rows = self.table.untaken(rung)
        else:
            rows = apart(self.table, self.points, rung)
        if len(rows) > _TELLING:
            best = self.close
            near = np.abs(rows[:, None, :] - best[None]).sum(axis=2).min(axis=1)
            order = np.argsort(near, kind="stable")
            rest = rng.choice(order[_TELLING // 2 :], _TELLING // 2, replace=False)
            rows = rows[np.sort(np.concatenate([order[: _TELLING // 2], rest]))]
        return rows

    def point(self, p: Array, rung: int, method: str, reason: str, **values: object) -> Point:
        """A proposal with its explanation."""
        model, target = self.belief.model, self.table.target
        worth = self.outlook.worth(p[None])
        mean = model.mean(p[None], rung)[0]
        se = np.sqrt(model.var(p[None], rung)[0])
        improvement = float(worth.improvement[0])
        explanation = Explanation(
            method=method,
            predicted_gain=float(worth.gain[0]),
            expected_improvement=improvement,
            uncertainty=float(self.belief.sd(p[None])[0]),
            correlation=None if rung == target else self.outlook.correlation(p, rung),
            cost=float(self.table.cost[rung]),
        )
        explanation = explanation.model_copy(update=values)
        predicted = np.stack([mean, se], axis=1)
        return Point(p, rung, reason, None, improvement, predicted, explanation)


class MultiFidelity(Strategy):
    """See the module."""

    name = "multi_fidelity"

    def surrogate(self, table: Table) -> Surrogate:
        return SURROGATES["default"]

    def next_point(self, table: Table, fits: Fits, rng: np.random.Generator) -> Point | None:
        if table.left(table.target) == 0:
            return None
        if table.issued(0) < swarm_size(table) and table.left(0) > 0:
            return fill(table, 0, rng)
        if fits.belief is None:
            if self._will_tell(table):
                return None
            rung = next(r for r in range(table.target + 1) if table.left(r) > 0)
            return fill(table, rung, rng)
        prospect = Prospect(table, fits.belief, rng)
        if len(prospect.points) == 0:
            return fill(table, table.target, rng)
        return self._bridge(prospect, rng) or self._target(prospect, rng)

    def _will_tell(self, table: Table) -> bool:
        """Whether runs under way will make the first fit: until then a run would be blind."""
        waiting = np.bincount(table.busy_rung[table.waits], minlength=table.target + 1)
        measured = np.bincount(table.rung, minlength=table.target + 1)
        least = self.surrogate(table).least_runs(table.region.dimension)
        return bool(np.any(waiting)) and int((waiting + measured).max()) >= least

    @staticmethod
    def _bridge(prospect: Prospect, rng: np.random.Generator) -> Point | None:
        """A run between swarm and target that tells more for its cost than one at the target."""
        table, best = prospect.table, prospect.close
        for rung in range(1, table.target):
            issued = table.issued(rung)
            if table.left(rung) == 0 or issued >= bridge_quota(table, rung):
                continue
            rows = prospect.telling(rung, rng)
            if len(rows) == 0:
                continue
            told, now = prospect.outlook.information(best, rows, rung)
            if issued >= _LEVEL:
                at_target, _ = prospect.outlook.information(best, best, table.target)
                if told.max() / table.cost[rung] < at_target.max():
                    continue
            share = float(told.max() / now) if now > 0 else 0.0
            reason = (
                f"a bridge: measures how the {table.problem.rungs[rung].kind} rung ranks the best "
                f"candidates ({share:.0%} of what is unknown of their differences)"
            )
            return prospect.point(rows[np.argmax(told)], rung, "bridge", reason)
        return None

    @staticmethod
    def _target(prospect: Prospect, rng: np.random.Generator) -> Point:
        table, target, outlook = prospect.table, prospect.table.target, prospect.outlook
        points = prospect.points
        worth = outlook.worth(points)
        mean = prospect.mean
        allowed = prospect.guards.allowed(prospect.belief, points)
        lowest = int(np.argmin(np.where(allowed, mean, np.inf) if allowed.any() else -worth.score))
        chosen = len(np.unique(np.round(table.taken(target), 5), axis=0))
        if chosen == 0 or (table.left(target) == 1 and worth.gain[lowest] > 0):
            reason = "the best predicted mixture, to be measured at the target"
            return prospect.point(points[lowest], target, "best", reason)
        if chosen == 1:
            best = prospect.close
            told, now = outlook.information(best, best, target)
            share = float(told.max() / now) if now > 0 else 0.0
            reason = (
                "tells most of the differences between the best candidates at the target "
                f"({share:.0%} of what is unknown of them)"
            )
            return prospect.point(best[np.argmax(told)], target, "probe", reason)
        points, worth = _refined(prospect, worth, rng)
        top = int(np.argmax(worth.score))
        value = {target: float(worth.improvement[top])}
        best_below: tuple[int, Array] | None = None
        for rung in range(target):
            if not _may_top_up(table, rung):
                continue
            rows = prospect.telling(rung, rng)
            if len(rows) == 0:
                continue
            ahead = outlook.ahead(rows, rung, points, worth) / (1 + table.cost[rung])
            value[rung] = float(ahead.max())
            if value[rung] > _MARGIN * max(value[r] for r in value if r != rung):
                best_below = (rung, rows[np.argmax(ahead)])
        alternatives = {
            f"{table.problem.rungs[r].kind} (rung {r})": v for r, v in sorted(value.items())
        }
        if best_below is not None:
            rung, p = best_below
            reason = (
                f"telling: after it the best run at the target is worth {value[rung]:.2g} bits per "
                f"byte for the cost of both, against {value[target]:.2g} without it"
            )
            kept = prospect.point(p, rung, "information", reason, alternatives=alternatives)
            return replace(kept, acquisition=value[rung])
        reason = (
            f"expected to improve on the best mixture by {value[target]:.2g} bits per byte: "
            f"predicted {'gain' if worth.gain[top] > 0 else 'loss'} {abs(worth.gain[top]):.2g}, "
            f"of which a run would tell {worth.told[top]:.2g}"
        )
        return prospect.point(points[top], target, "improvement", reason, alternatives=alternatives)

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        if fits.belief is None:
            best = best_verified(table)
            return unseen(table, rng) if best is None else best
        x, y = verified(table)
        belief, guards = fits.belief, Guards.of(table)
        wanted = best_predicted(table, belief, guards, rng)
        if len(x) == 0:
            return wanted
        kept = guards.allowed(belief, x)
        if not np.any(kept):
            return wanted
        if table.pool is not None:
            return _row(table, belief, guards, x[kept], y[kept])
        allowed = x[kept]
        known = allowed[np.argmin(belief.mean(allowed))]
        better = float(gap(belief, known[None], wanted, SURE).chance[0])
        return wanted if better >= SURE else np.asarray(known)


def _row(table: Table, belief: Belief, guards: Guards, x: Array, y: Array) -> Array:
    """The row of a pool whose loss is least, shape ``(m,)``, ``x (K, m)`` having been run.

    Its rows are finished runs, and what one measured is what is asked for: a row that was run
    counts by its measurement, the others by what their run will measure, noise included.
    """
    measured = table.goal.value(y)
    known = int(np.argmin(measured))
    rows = table.untaken(table.target)
    if len(rows) == 0:
        return np.asarray(x[known])
    row = rows[_lowest(belief, guards, rows)][None]
    noise = float(table.goal.w**2 @ belief.model.noise(table.target))
    sd = np.sqrt(belief.sd(row)[0] ** 2 + noise)
    better = stats.norm.cdf((measured[known] - belief.mean(row)[0]) / sd)
    return np.asarray(row[0] if better >= SURE else x[known])


def best_predicted(table: Table, belief: Belief, guards: Guards, rng: np.random.Generator) -> Array:
    """The mixture with the least expected objective that the guardrails allow, shape ``(m,)``.

    Where they allow none, the one that most likely keeps them.
    """
    if table.pool is not None:
        rows = table.pool[table.target]
        return np.asarray(rows[_lowest(belief, guards, rows)])
    about = design.centre(table)[None]
    inside = table.shares[table.region.contains(table.shares, slack=1e-6)]
    rows = np.concatenate([about, inside, cloud(table, rng, about, 256)])
    start = rows[_lowest(belief, guards, rows)]
    unit = float(np.ptp(belief.mean(rows))) + 1e-12

    def penalised(p: Array) -> Array:
        if not len(guards):
            return belief.mean(p)
        short = np.maximum(guards.chance - guards.chances(belief, p), 0.0).sum(axis=1)
        return np.asarray(belief.mean(p) + 10.0 * unit * short)

    return optima.descend(penalised, table.region, table.region.project(start))


def _lowest(belief: Belief, guards: Guards, rows: Array) -> int:
    allowed = guards.allowed(belief, rows)
    if not np.any(allowed):
        return int(np.argmax(guards.all_hold(belief, rows)))
    return int(np.argmin(np.where(allowed, belief.mean(rows), np.inf)))


def _refined(prospect: Prospect, worth: Worth, rng: np.random.Generator) -> tuple[Array, Worth]:
    """The candidates with more of them near the best few, and what they are worth."""
    table, points = prospect.table, prospect.points
    if table.pool is not None:
        return points, worth
    top = points[np.argsort(-worth.score, kind="stable")[:4]]
    more = apart(table, near(table, rng, top, _REFINED), table.target)
    if len(more) == 0:
        return points, worth
    found = prospect.outlook.worth(more)
    both = [(getattr(worth, f.name), getattr(found, f.name)) for f in fields(Worth)]
    return np.concatenate([points, more]), Worth(*(np.concatenate(pair) for pair in both))


def _may_top_up(table: Table, rung: int) -> bool:
    """Whether a rung below the target may have another run beyond swarm and bridges."""
    first = swarm_size(table) if rung == 0 else bridge_quota(table, rung)
    extra = table.issued(rung) + 1 - first
    spent = table.issued(table.target)
    within = extra * table.cost[rung] <= _TOP_UP * spent and extra <= 2 * spent
    return table.left(rung) > 0 and bool(within)


def _scalar(goal: Goal, rng: np.random.Generator) -> Goal:
    """One weighted mean out of a front's parts, drawn; other objectives are themselves.

    Losses that are convex in the mixture give a convex front, all of which weighted means reach.
    """
    if goal.parts is None:
        return goal
    return Goal(rng.dirichlet(np.ones(len(goal.parts))) @ goal.parts)
