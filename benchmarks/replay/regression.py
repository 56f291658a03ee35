"""Protocol A: from n runs of 1M parameters, predict held-out runs of 1M, 60M and 1B parameters.

Rows of repeat ``r`` are ``RandomState(1000 n + r).permutation(512)[:n]`` of the training table.
``designed`` rows are chosen by the engine's D-optimal design out of the first half of that
permutation, so that repeats differ. The same fit ranks the runs of the larger models: no run of
theirs is seen. Random weights continue the generator.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from benchmarks.replay.objectives import OBJECTIVES, weights_of
from benchmarks.replay.record import Record
from benchmarks.replay.score import ranked, score
from benchmarks.replay.tables import RunTable, Tables
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Indices, Runs
from cuvee.engine.surrogates.registry import SURROGATES

__all__ = ["AGGREGATE", "Rows", "choose_rows", "regression"]

Rows = Literal["random", "designed"]

AGGREGATE = "trees of the aggregate"
"""RegMix as published: one LightGBM for the objective itself, not one per evaluation set."""


def choose_rows(x: Array, n: int, repeat: int, rows: Rows) -> tuple[Indices, np.random.RandomState]:
    """Indices into the training table, and the generator that drew them."""
    rng = np.random.RandomState(1000 * n + repeat)
    order = rng.permutation(len(x))
    if rows == "random":
        return order[:n], rng
    from cuvee.engine.space.design import d_optimal

    half = np.sort(order[: len(x) // 2])
    return half[d_optimal(x[half], n)], rng


def regression(tables: Tables, surrogate: str, n: int, repeat: int, rows: Rows) -> list[Record]:
    """One fit, scored on every objective; nothing where the surrogate needs more runs."""
    chosen, rng = choose_rows(tables.train.x, n, repeat, rows)
    train = tables.train.rows(chosen)
    method = surrogate if rows == "random" else f"{surrogate} {rows}"
    weights = {objective: weights_of(objective, rng) for objective in OBJECTIVES}
    recipe = SURROGATES["trees" if surrogate == AGGREGATE else surrogate]
    if n < recipe.least_runs(train.x.shape[1]):
        return []
    model = None if surrogate == AGGREGATE else recipe.fit(Runs.of(train.x, train.y))
    found = []
    for objective, w in weights.items():
        if model is None:
            fitted = recipe.fit(Runs.of(train.x, train.y @ w[:, None]))
            predicted = {
                size: fitted.mean(table.x, 0)[:, 0] for size, table in _held_out(tables).items()
            }
            error = predicted["1m"] - tables.test_1m.y @ w
            values = {"mse": float(np.mean(error**2))}
        else:
            values = score(model, w, 0, tables.test_1m)
            values.pop("spearman", None)
            predicted = {
                size: model.mean(table.x, 0) @ w for size, table in _held_out(tables).items()
            }
        for size, table in _held_out(tables).items():
            values |= ranked(f"spearman_{size}", predicted[size], table.y @ w)
        found.append(Record("regression", objective, method, n, repeat, values))
    return found


def _held_out(tables: Tables) -> dict[str, RunTable]:
    return {"1m": tables.test_1m, "60m": tables.test_60m, "1b": tables.test_1b}
