"""Uniform draws from the feasible region, the best seen wins: the yardstick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, best_or_unseen, crowded, fill
from cuvee.engine.surrogates.base import Surrogate
from cuvee.engine.surrogates.registry import SURROGATES

if TYPE_CHECKING:
    from cuvee.engine.surrogates.fitted import Fits

__all__ = ["RandomSearch"]

_TRIES = 16  # a draw that repeats a run is drawn again so often; in a wide region none does


class RandomSearch(Strategy):
    """See the module."""

    name = "random"

    def surrogate(self, table: Table) -> Surrogate:
        return SURROGATES["default"]

    def rungs(self, table: Table) -> tuple[int, ...]:
        return (table.target,)

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
        return fill(table, rung, rng)

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        return best_or_unseen(table, rng)
