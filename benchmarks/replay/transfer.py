"""Protocol S: many cheap runs and a few at a larger size; predict the larger size's other runs.

Repeat ``r`` with ``low`` runs of 1M parameters and ``k`` of the larger size takes
``RandomState(1000 low + r).permutation(512)[:low]`` of the training table, and the first ``k`` of
``RandomState(10 k + 100000 + r).permutation`` of the larger size's rows; the others are predicted.
With ``k = 0`` the cheap runs rank all of them.
"""

from __future__ import annotations

import numpy as np

from benchmarks.replay.objectives import OBJECTIVES, weights_of
from benchmarks.replay.record import Record
from benchmarks.replay.score import ranked, score
from benchmarks.replay.tables import RunTable, Tables
from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.registry import SURROGATES

__all__ = ["transfer"]


def transfer(
    tables: Tables, surrogate: str, low: int, size: str, k: int, repeat: int
) -> list[Record]:
    """One fit on two rungs, scored on every objective.

    Args:
        tables: The run tables.
        surrogate: Which.
        low: Runs of 1M parameters that are given.
        size: The larger size: ``60m`` or ``1b``.
        k: Its runs that are given.
        repeat: Seed.
    """
    large = {"60m": tables.test_60m, "1b": tables.test_1b}[size]
    rng = np.random.RandomState(1000 * low + repeat)
    cheap = tables.train.rows(rng.permutation(len(tables.train))[:low])
    weights = {objective: weights_of(objective, rng) for objective in OBJECTIVES}
    order = np.random.RandomState(10 * k + 100_000 + repeat).permutation(len(large))
    seen, unseen = large.rows(order[:k]), large.rows(order[k:])
    recipe = SURROGATES[surrogate]
    model = recipe.fit(_runs(cheap, seen))
    found = []
    for objective, w in weights.items():
        if k:
            values = score(model, w, 1, unseen)
        else:
            values = ranked("spearman", model.mean(unseen.x, 0) @ w, unseen.y @ w)
        method = f"{surrogate} {low}+k"
        found.append(Record(f"transfer to {size}", objective, method, k, repeat, values))
    return found


def _runs(cheap: RunTable, seen: RunTable) -> Runs:
    if not len(seen):
        return Runs.of(cheap.x, cheap.y)
    return Runs.of(
        np.concatenate([cheap.x, seen.x]),
        np.concatenate([cheap.y, seen.y]),
        np.repeat([0, 1], [len(cheap), len(seen)]),
        rungs=2,
    )
