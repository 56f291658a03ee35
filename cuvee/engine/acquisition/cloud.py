"""Mixtures worth considering for the next run: a pool's rows, or a cloud about what looks good."""

from __future__ import annotations

import numpy as np

from cuvee.engine.evidence.table import Table
from cuvee.engine.space import design
from cuvee.engine.space.simplex import Array

__all__ = ["LEAST_GAP", "apart", "cloud", "near"]

LEAST_GAP = 0.01
"""Least total variation between a proposal and any other run at its rung: nearer mixtures hardly
differ in loss. Rows of a pool need only differ."""

_SWARM = 64
_SPARE = 0.01  # a share below it may as well be none: optima often lie on faces


def cloud(table: Table, rng: np.random.Generator, about: Array, count: int) -> Array:
    """Feasible mixtures to score, shape ``(n, m)``; all untaken rows of the pool, if there is one.

    A quarter is uniform over the region, a quarter around the prior at many strengths, the rest
    near the mixtures of ``about``; then these themselves, and the best feasible mixtures that lower
    rungs have measured.

    Args:
        table: The history so far.
        rng: Source of randomness.
        about: Feasible mixtures that look good, shape ``(k, m)``.
        count: How many to draw.
    """
    if table.pool is not None:
        return table.untaken(table.target)
    quarter = count // 4
    strengths = np.exp(rng.uniform(0.0, np.log(30.0), size=quarter))
    drawn = [
        table.region.sample(rng, quarter),
        table.region.sample_around(rng, design.centre(table), strengths),
        near(table, rng, about, count - 2 * quarter),
        about,
    ]
    swarm = table.rung < table.target
    order = np.argsort(table.goal.value(table.losses[swarm]), kind="stable")[:_SWARM]
    swarm_best = table.shares[swarm][order]
    drawn.append(swarm_best[table.region.contains(swarm_best, slack=1e-6)])
    return apart(table, np.concatenate(drawn), table.target)


def near(table: Table, rng: np.random.Generator, about: Array, count: int) -> Array:
    """Draws about each mixture of ``about``, from far to close; half drop their smallest shares."""
    m = table.region.dimension
    each = -(-count // max(len(about), 1))
    strengths = np.exp(np.linspace(np.log(2.0 * m), np.log(300.0 * m), each))
    drawn = np.concatenate([table.region.sample_around(rng, p, strengths) for p in about])
    sparse = drawn[::2]
    drawn[::2] = table.region.project(np.where(sparse < _SPARE, 0.0, sparse))
    return drawn[:count] if len(about) == 1 else drawn


def apart(table: Table, p: Array, rung: int) -> Array:
    """Those of the mixtures ``(n, m)`` that are far enough from every run at a rung."""
    taken = table.taken(rung)
    if len(taken) == 0 or len(p) == 0:
        return p
    gap = np.full(len(p), np.inf)
    for q in taken:
        gap = np.minimum(gap, 0.5 * np.abs(p - q).sum(axis=1))
    return np.asarray(p[gap >= LEAST_GAP])
