"""Uniform draws from the feasible region, the best seen wins: the yardstick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cuvee.engine import design
from cuvee.engine.bootstrap import Draws
from cuvee.engine.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, crowded, unseen, verified
from cuvee.engine.surrogates.base import Surrogate
from cuvee.engine.surrogates.registry import SURROGATES
from cuvee.engine.table import Table

if TYPE_CHECKING:
    from cuvee.engine.fitted import Fits, Fitted

__all__ = ["RandomSearch"]

_TRIES = 16  # a draw that repeats a run is drawn again so often; in a wide region none does


class RandomSearch(Strategy):
    """Draws uniformly from the feasible region, at the target."""

    name = "random"

    def surrogate(self, table: Table) -> Surrogate:
        return SURROGATES["default"]

    def next_point(self, table: Table, fits: Fits, rng: np.random.Generator) -> Point | None:
        rung = table.target
        if table.left(rung) == 0:
            return None
        if table.pool is not None:
            rows = table.untaken(rung)
            return Point(rows[rng.integers(len(rows))], rung, "drawn at random")
        for p in table.region.sample(rng, _TRIES):
            if not crowded(p, table.taken(rung), 1e-6):
                return Point(p, rung, "drawn at random from the feasible region")
        found = design.fill(table, rung, rng)
        return Point(found.p, rung, found.reason)

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        x, y = verified(table)
        if len(x) == 0:
            return unseen(table, rng)
        return np.asarray(x[np.argmin(table.goal.value(y))])

    def answers(self, table: Table, fitted: Fitted, draws: Draws) -> Array:
        x, _ = verified(table)
        return np.asarray(x[np.argmin(draws.at(x) @ table.w, axis=1)])
