"""RegMix: trees on a cheap swarm, the mean of the best of many draws, then verification.

Liu et al. 2024 (arXiv 2407.01492), with the sampler of their code: Dirichlet draws about the token
shares raised to one half, at fifteen strengths from 0.1 to 5; draws with a share above fifteen
times its prior are dropped, shares below 2e-4 are none. All runs of the lowest rung are spent on
such mixtures; LightGBM predicts the objective (one model, as published); the answer is the mean of
the 128 best of 100 000 draws, in a replay the row that is predicted best. What is left of the
target's budget verifies the best predicted mixtures in turn, and the best verified wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cuvee.engine.acquisition.cloud import apart
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, best_verified, drawn, fill, unseen
from cuvee.engine.surrogates.base import Model, Runs, Surrogate
from cuvee.engine.surrogates.memo import Memo, digest
from cuvee.engine.surrogates.registry import SURROGATES
from cuvee.errors import EngineError

if TYPE_CHECKING:
    from cuvee.engine.surrogates.fitted import Fits

__all__ = ["RegMix", "regmix_draws", "regmix_point"]

_STRENGTHS = (0.1, 5.0, 15)
_MOST = 15.0  # times the prior
_NOTHING = 2e-4
_DRAWS = 100_000
_BEST = 128
_KEPT = 1024  # ranked mixtures that verification chooses from
_MODELS: Memo[Model | None] = Memo(4)
_RANKED: Memo[Array] = Memo(4)


class RegMix(Strategy):
    """See the module."""

    name = "regmix"

    def surrogate(self, table: Table) -> Surrogate:
        return SURROGATES["default"]

    def rungs(self, table: Table) -> tuple[int, ...]:
        return tuple(sorted({0, table.target}))

    def next_point(self, table: Table, fits: Fits, rng: np.random.Generator) -> Point | None:
        target = table.target
        if table.left(target) == 0:
            return None
        budget = table.problem.rungs[0].runs
        swarm = budget if target > 0 else budget // 2
        if table.issued(0) < swarm and table.left(0) > 0:
            return regmix_point(table, 0, rng)
        ranked = _ranked(table)
        rows = ranked if table.pool is not None else apart(table, ranked, target)
        if len(rows) == 0:
            return fill(table, target, rng)
        return Point(rows[0], target, "verifies what the trees of the cheapest rung rank best")

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        best = best_verified(table)
        if best is not None:
            return best
        ranked = _ranked(table)
        return ranked[0] if len(ranked) else unseen(table, rng)


def regmix_draws(table: Table, rng: np.random.Generator, count: int) -> Array:
    """About ``count`` mixtures of RegMix's sampler that the constraints allow, shape ``(n, m)``.

    Where they allow fewer than one in ten, all are moved into the region instead.
    """
    prior = np.sqrt(np.maximum(table.vector(table.problem.natural), 1e-6))
    prior /= prior.sum()
    strengths = np.geomspace(*_STRENGTHS)
    each = -(-count // len(strengths))
    gamma = rng.standard_gamma(
        strengths[:, None, None] * prior, size=(len(strengths), each, len(prior))
    )
    drawn = gamma.reshape(-1, len(prior))
    drawn = drawn[drawn.sum(axis=1) > 1e-100]
    drawn /= drawn.sum(axis=1, keepdims=True)
    usual = drawn[np.all(drawn <= _MOST * prior, axis=1)]
    drawn = usual if len(usual) else drawn
    drawn = np.where(drawn < _NOTHING, 0.0, drawn)
    drawn /= drawn.sum(axis=1, keepdims=True)
    inside = drawn[table.region.contains(drawn, slack=1e-9)]
    if len(inside) >= count / 10:
        return np.asarray(inside)
    return np.asarray(table.region.project_kl(drawn[:: max(1, len(drawn) * 10 // count)]))


def regmix_point(table: Table, rung: int, rng: np.random.Generator) -> Point:
    """A draw of RegMix's sampler, or a row of the pool, that was not run at a rung."""

    def draw() -> Array:
        return np.asarray(rng.permutation(regmix_draws(table, rng, 256)))

    return drawn(table, rung, rng, draw, "drawn by RegMix's sampler")


def _ranked(table: Table) -> Array:
    """Mixtures ``(n, m)``, best first by the trees of the cheapest rung; before them the answer."""
    x, y = table.at(0)
    runs = Runs.of(x, table.goal.value(y)[:, None])

    def fit() -> Model | None:
        try:
            return SURROGATES["trees"].fit(runs)
        except EngineError:
            return None

    key = digest("regmix", runs)
    model = _MODELS.get(key, fit)
    if table.pool is not None:
        rows = table.untaken(table.target)
        rows = rows if len(rows) else table.pool[table.target]
        return rows if model is None else rows[np.argsort(model.mean(rows, 0)[:, 0], kind="stable")]

    def rank() -> Array:
        # One set of draws per job, so that what is verified next does not change without a reason.
        rng = np.random.default_rng(table.problem.spec.seed)
        draws = regmix_draws(table, rng, _DRAWS)
        if model is not None:
            order = np.argsort(model.mean(draws, 0)[:, 0], kind="stable")
            draws = draws[order[:_KEPT]]
        middle = table.region.project(draws[:_BEST].mean(axis=0))
        return np.concatenate([middle[None], draws[:_KEPT]])

    held = key + table.problem.model_dump_json(exclude={"spec": {"name"}}).encode()
    return _RANKED.get(held, rank)
