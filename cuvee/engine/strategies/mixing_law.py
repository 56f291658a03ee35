"""Fill the space, then follow the log-linear laws: their optimum, and what could beat it.

The target's laws are shrunk towards those of the rung below, whose runs are spent first
(``laws``; Ye et al. 2024, arXiv 2403.16952, give the law but no way to choose runs by it). The
answer is the optimum of the target's laws, or, with fewer than ``m + 1`` mixtures there, of the
laws of the rung below: fitted to cheap runs and carried over, as published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cuvee.engine.evidence.table import Table
from cuvee.engine.space import design
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, best_or_unseen, crowded
from cuvee.engine.surrogates.base import Surrogate
from cuvee.engine.surrogates.registry import SURROGATES

if TYPE_CHECKING:
    from cuvee.engine.surrogates.fitted import Fits, Fitted

__all__ = ["MixingLaw"]

DISTINCT = 0.02
"""Least total variation between a law's proposal and any other run at the rung: nearer
mixtures hardly differ in loss, and a run there would only repeat the other."""

_REPLICATES = 32  # enough to rank candidates; intervals, which need tails, use many more


class MixingLaw(Strategy):
    """Alternates between the laws' optimum and what could beat it, once the space is filled."""

    name = "mixing_law"

    def surrogate(self, table: Table) -> Surrogate:
        return SURROGATES["log_linear"]

    def spent(self, table: Table) -> bool:
        return all(table.left(rung) == 0 for rung in self.rungs(table))

    def next_point(self, table: Table, fits: Fits, rng: np.random.Generator) -> Point | None:
        rung = next((r for r in self.rungs(table) if table.left(r) > 0), None)
        if rung is None:
            return None
        if rung != table.target:
            return _fill(table, rung, rng)
        issued = table.issued(rung)
        first = self.design_size(table)
        if issued < first:
            return self._design_point(table, fits, rng, last=issued == first - 1)
        fitted = fits.at(rung)
        if fitted is None:
            return _fill(table, rung, rng)
        if (issued - first) % 2 == 0:
            return self._exploit(table, fitted, rng)
        return self._explore(table, fitted, rng)

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        # With too few target runs for its own law, the law of the rung below, as published.
        known = next(
            (f for r in reversed(range(table.target + 1)) if (f := fits.at(r)) is not None), None
        )
        if table.pool is not None and known is not None:
            rows = table.pool[table.target]
            return np.asarray(rows[np.argmin(known.objective(rows))])
        if known is None:
            return best_or_unseen(table, rng)
        return known.optimum(known.reach(table.region, stretch=False), design.centre(table))

    @staticmethod
    def design_size(table: Table) -> int:
        """Runs at the target before the laws lead: as many as a law has parameters, and two."""
        budget = table.problem.rungs[table.target].runs
        return min(budget, table.region.dimension + 3)

    @staticmethod
    def _design_point(table: Table, fits: Fits, rng: np.random.Generator, *, last: bool) -> Point:
        rung = table.target
        lower = fits.at(rung - 1) if last and rung > 0 else None
        if lower is not None:
            reason = "near the optimum of the rung below"
            if table.pool is not None:
                rows = table.untaken(rung)
                return Point(rows[np.argmin(lower.objective(rows))], rung, reason)
            best = lower.optimum(table.region, design.centre(table))
            p = design.inward(table, best[None])[0]
            if not crowded(p, table.taken(rung), DISTINCT):
                return Point(p, rung, reason)
        if rung == 0 or table.issued(rung) % 2 == 0 or table.pool is not None:
            return _fill(table, rung, rng)
        # Every other point has been measured by the rung below, to show how well the rungs agree.
        # Not every point: the fewer candidates fill the space less evenly (docs/math.md).
        x, _ = table.at(rung - 1)
        shared = x[table.region.contains(x, slack=1e-6)]
        shared = shared[[not crowded(p, table.taken(rung), DISTINCT) for p in shared]]
        return _fill(table, rung, rng, shared if len(shared) else None)

    @staticmethod
    def _exploit(table: Table, fitted: Fitted, rng: np.random.Generator) -> Point:
        """The laws' optimum, or a neighbour of it once it has been run."""
        rung, reason = table.target, "optimum of the laws fitted so far"
        if table.pool is not None:
            rows = table.untaken(rung)
            p = rows[np.argmin(fitted.objective(rows))]
            return Point(p, rung, reason, predicted=fitted.predicted(p))
        taken = table.taken(rung)
        best = fitted.optimum(fitted.reach(table.region, stretch=True), design.centre(table))
        near = table.region.sample_around(rng, best, np.full(64, 100.0))
        for p in np.concatenate([best[None], near]):
            if not crowded(p, taken, DISTINCT):
                return Point(p, rung, reason, predicted=fitted.predicted(p))
        return _fill(table, rung, rng)

    @staticmethod
    def _explore(table: Table, fitted: Fitted, rng: np.random.Generator) -> Point:
        """The candidate expected to improve most over the laws' optimum, by their uncertainty."""
        rung = table.target
        if table.pool is not None:
            candidates = table.untaken(rung)
            best = table.pool[rung][np.argmin(fitted.objective(table.pool[rung]))]
        else:
            region = fitted.reach(table.region, stretch=True)
            best = fitted.optimum(region, design.centre(table))
            strengths = np.exp(rng.uniform(np.log(10.0), np.log(200.0), size=256))
            near = region.sample_around(rng, best, strengths)
            candidates = np.concatenate([near, region.project(design.cloud(table, rng))])
        draws = fitted.draws(rng, _REPLICATES)
        here = draws.at(candidates) @ table.w  # (B, n)
        there = draws.at(best) @ table.w  # (B, 1)
        gain = np.maximum(there - here, 0).mean(axis=0)
        # Ties (no replicate improves) go to where the runs support a prediction least.
        gain = gain + 1e-6 * (table.w @ fitted.laws.leverages_at(candidates))
        taken = table.taken(rung)
        least = DISTINCT if table.pool is None else 0.0
        for i in np.argsort(-gain, kind="stable"):
            if not crowded(candidates[i], taken, least):
                reason = "could beat the laws' optimum, by their uncertainty"
                p, value = candidates[i], float(gain[i])
                return Point(p, rung, reason, None, value, fitted.predicted(p))
        return _fill(table, rung, rng)


def _fill(table: Table, rung: int, rng: np.random.Generator, among: Array | None = None) -> Point:
    if table.pool is not None:
        among = table.untaken(rung)
    found = design.fill(table, rung, rng, among, interior=True)
    return Point(found.p, rung, found.reason)
