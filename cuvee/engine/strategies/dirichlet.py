"""RegMix's sampler at the target, the best seen wins: random search from a better distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cuvee.engine.acquisition.cloud import apart
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, best_verified, fill, unseen
from cuvee.engine.strategies.regmix import regmix_draws
from cuvee.engine.surrogates.base import Surrogate
from cuvee.engine.surrogates.registry import SURROGATES

if TYPE_CHECKING:
    from cuvee.engine.surrogates.fitted import Fits

__all__ = ["DirichletSearch"]


class DirichletSearch(Strategy):
    """See the module."""

    name = "dirichlet"

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
            return Point(rows[rng.integers(len(rows))], rung, "drawn by RegMix's sampler")
        rows = apart(table, rng.permutation(regmix_draws(table, rng, 256)), rung)
        if len(rows) == 0:
            return fill(table, rung, rng)
        return Point(rows[0], rung, "drawn by RegMix's sampler")

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        best = best_verified(table)
        return unseen(table, rng) if best is None else best
