"""Olmix: laws per evaluation set on a cheap swarm, a convex program, then verification.

After the description of AI2's Olmix (2026): a log-linear law per evaluation set, fitted to
``3 (m + 1)`` runs of the cheapest rung; the mixture that minimises their weighted sum plus
``lambda KL(p || natural)``, ``lambda = 0.05``. The paper stops there; what is left of the target's
budget is spent on verifying the mixtures that the program ranks best, and the best verified wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cuvee.engine.acquisition.cloud import apart, near
from cuvee.engine.evidence.table import Table
from cuvee.engine.space import design, optima
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, best_verified, fill, unseen
from cuvee.engine.surrogates import laws
from cuvee.engine.surrogates.base import Runs, Surrogate
from cuvee.engine.surrogates.laws import Laws
from cuvee.engine.surrogates.memo import Memo, digest
from cuvee.engine.surrogates.registry import SURROGATES

if TYPE_CHECKING:
    from cuvee.engine.surrogates.fitted import Fits

__all__ = ["Olmix"]

LAMBDA = 0.05
"""Weight of the divergence from the natural mixture, in bits per byte per nat."""

_LAWS: Memo[Laws] = Memo(8)
_NEAR = 128  # mixtures near the optimum that verification chooses from


class Olmix(Strategy):
    """See the module."""

    name = "olmix"

    def surrogate(self, table: Table) -> Surrogate:
        return SURROGATES["default"]

    def rungs(self, table: Table) -> tuple[int, ...]:
        return tuple(sorted({0, table.target}))

    def next_point(self, table: Table, fits: Fits, rng: np.random.Generator) -> Point | None:
        if table.left(table.target) == 0:
            return None
        if table.issued(0) < _swarm(table) and table.left(0) > 0:
            return fill(table, 0, rng)
        law = _law(table)
        if law is None:
            return fill(table, table.target, rng)
        rows = _ranked(table, law, rng)
        rows = rows if table.pool is not None else apart(table, rows, table.target)
        if len(rows) == 0:
            return fill(table, table.target, rng)
        predicted = np.stack([law.at(rows[0])[0], law.scale], axis=1) if table.target == 0 else None
        reason = "verifies what the laws of the cheapest rung rank best"
        return Point(rows[0], table.target, reason, predicted=predicted)

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        best, law = best_verified(table), _law(table)
        if best is not None and (law is None or table.issued(table.target) > 1):
            return best
        return unseen(table, rng) if law is None else np.asarray(_ranked(table, law, rng)[0])


def _swarm(table: Table) -> int:
    size = 3 * (table.region.dimension + 1)
    budget = table.problem.rungs[0].runs
    return min(size, budget // 2 if table.target == 0 else budget)


def _law(table: Table) -> Laws | None:
    x, y = table.at(0)
    if len(np.unique(np.round(x, 6), axis=0)) < x.shape[1] + 1:
        return None
    # The swarm's laws do not change while the target's runs are chosen.
    return _LAWS.get(digest("olmix", Runs.of(x, y)), lambda: laws.fit(x, y))


def _ranked(table: Table, law: Laws, rng: np.random.Generator) -> Array:
    """Mixtures from best to worst by the program's objective, shape ``(n, m)``."""
    natural = np.maximum(table.vector(table.problem.natural), 1e-9)

    def program(p: Array) -> Array:
        divergence = np.sum(p * np.log(np.maximum(p, 1e-12) / natural), axis=1)
        return np.asarray(table.goal.value(law.at(p)) + LAMBDA * divergence)

    if table.pool is not None:
        rows = table.untaken(table.target)
        rows = rows if len(rows) else table.pool[table.target]
    else:
        start = table.region.project(design.centre(table))
        best = optima.descend(program, table.region, start)
        rows = np.concatenate([best[None], near(table, rng, best[None], _NEAR)])
    return np.asarray(rows[np.argsort(program(rows), kind="stable")])
