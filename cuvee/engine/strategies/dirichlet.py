"""RegMix's sampler at the target, the best seen wins: random search from a better distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, best_or_unseen
from cuvee.engine.strategies.regmix import regmix_point
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
        return None if table.left(table.target) == 0 else regmix_point(table, table.target, rng)

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        return best_or_unseen(table, rng)
