"""The laws of a rung with what decisions need of them, fitted once per decision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from cuvee.engine.evidence.table import Table
from cuvee.engine.space.optimum import minimise
from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.strategies import STRATEGIES
from cuvee.engine.surrogates import bootstrap, laws
from cuvee.engine.surrogates.base import Model, Runs, Surrogate
from cuvee.engine.surrogates.belief import Belief
from cuvee.engine.surrogates.bootstrap import Draws
from cuvee.engine.surrogates.laws import Laws
from cuvee.engine.surrogates.memo import Memo, digest
from cuvee.errors import EngineError

__all__ = ["Fits", "Fitted", "fit_model", "objective_noise", "repeat_noise"]

TRUST = 0.5
"""Distance at which a run counts half, in median gaps to the best runs."""

_LEAST_SCALE = 0.08  # of the range; a smaller scale would weigh runs by their luck
_BEST = 3  # the best objective is a mean of three runs: the least of many is lucky
_LEAST_WEIGHT = 0.01  # far runs still hold the laws where nothing else does
_LEAST_SHARE = 0.01  # below it a share counts as nearly absent, and the law may go to zero


@dataclass(frozen=True)
class Fitted:
    """Laws of all evaluation sets at one rung, with the objective's weights."""

    laws: Laws
    w: Array
    noise: Array | None

    def objective(self, p: Array) -> Array:
        """Predicted objective at mixtures ``(n, m)``, shape ``(n,)``, bits per byte."""
        return np.asarray(self.laws.at(p) @ self.w)

    def optimum(self, region: Region, start: Array) -> Array:
        """The mixture of ``region`` with the least predicted objective, shape ``(m,)``."""
        return np.asarray(minimise(self.laws.t[None], self.w, region, start)[0])

    def draws(self, rng: np.random.Generator, replicates: int) -> Draws:
        return bootstrap.draw(self.laws, rng, replicates, self.noise)

    def reach(self, region: Region, *, stretch: bool) -> Region:
        """``region`` cut to the shares that were seen, or to a little beyond with ``stretch``.

        Stretching halves the least share seen of each domain (to zero once it is nearly absent)
        and adds half to the greatest: a proposal may go where no run has been, for its measurement
        will tell; a recommendation may not.
        """
        low, high = self.laws.x.min(axis=0), self.laws.x.max(axis=0)
        if stretch:
            low = np.where(low > _LEAST_SHARE, low / 2, 0.0)
            high = np.minimum(1.5 * high, 1.0)
        return region.within(low, high)

    def predicted(self, p: Array) -> Array:
        """Mean and standard error per set at one mixture, shape ``(E, 2)``."""
        mean = self.laws.at(p)[0]
        se = self.laws.scale * np.sqrt(self.laws.leverages_at(p)[:, 0])
        return np.stack([mean, se], axis=1)

    @property
    def loo_rank(self) -> float:
        """Spearman correlation of the measured objective with leave-one-out predictions.

        Unlike R2 it does not hang on one extreme run that no law predicts when it is left out.
        """
        measured, predicted = self.laws.y @ self.w, self.laws.loo @ self.w
        if np.ptp(measured) == 0 or np.ptp(predicted) == 0:
            return 0.0
        return float(stats.spearmanr(measured, predicted).statistic)

    @property
    def loo_r2(self) -> float:
        """Share of the objective's variance that leave-one-out predictions explain."""
        return r2(self.laws.y @ self.w, self.laws.loo @ self.w)


_MODELS: Memo[Model | None] = Memo(16)
_LAWS: Memo[Laws] = Memo(32)


def fit_model(surrogate: Surrogate, runs: Runs) -> Model | None:
    """A surrogate fitted to runs, remembered by content; None when they are too few for it."""

    def make() -> Model | None:
        if len(runs) == 0:
            return None
        try:
            return surrogate.fit(runs)
        except EngineError:
            return None

    return _MODELS.get(digest(surrogate.name, runs), make)


class Fits:
    """Fits of a table's runs, made when first asked for. Pending runs do not enter a fit."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._made: dict[int, Fitted | None] = {}

    @cached_property
    def model(self) -> Model | None:
        """What the job's strategy models the losses with; None with too few runs to fit it."""
        strategy = STRATEGIES[self._table.problem.spec.strategy]
        return fit_model(strategy.surrogate(self._table), self._table.runs)

    @cached_property
    def belief(self) -> Belief | None:
        """What ``model`` says of the objective at the target; None with too few runs."""
        if self.model is None:
            return None
        return Belief.of(self.model, self._table.goal, len(self._table.shares))

    def at(self, rung: int) -> Fitted | None:
        """The fit of a rung, or None with fewer than ``m + 1`` different mixtures measured."""
        if rung not in self._made:
            self._made[rung] = self._fit(rung)
        return self._made[rung]

    def _fit(self, rung: int) -> Fitted | None:
        x, y = self._table.at(rung)
        if len(np.unique(np.round(x, 5), axis=0)) < x.shape[1] + 1:
            return None
        below = self.at(rung - 1) if rung > 0 else None
        shape = None if below is None else below.laws.t
        noise, _ = repeat_noise(x, y)
        k = closeness(y @ self._table.w)
        told = np.zeros(0) if shape is None else shape
        key = digest("laws", Runs.of(x, y)) + told.tobytes() + k.tobytes()
        made = _LAWS.get(key, lambda: laws.fit(x, y, shape, k))
        return Fitted(made, self._table.w, noise)


def closeness(objective: Array) -> Array:
    """Weights of runs for the fit, shape ``(K,)``: one near the best objective, less far from it.

    Losses rise more steeply towards the faces than any log-linear law, so a law that must follow
    the worst runs is wrong near the best ones, where the decision is. Cauchy weights at a scale
    of half the median gap lower the regret on worlds with steep faces by nearly half; where the
    law is exact they cost half as much again (docs/math.md has both).
    """
    gap = np.maximum(objective - np.sort(objective)[:_BEST].mean(), 0.0)
    # Once most runs crowd the optimum their median gap is noise: keep a share of the range.
    scale = max(TRUST * float(np.median(gap)), _LEAST_SCALE * float(gap.max()))
    if scale <= 0:
        return np.ones_like(gap)
    return np.asarray(np.maximum(1.0 / (1.0 + (gap / scale) ** 2), _LEAST_WEIGHT))


_LEAST_FREEDOM = 0.5
"""Degrees of freedom, weighted, below which residuals tell nothing of the noise."""


def r2(measured: Array, predicted: Array) -> float:
    """One minus the residual over the total sum of squares (0 when nothing varies)."""
    spread = float(np.sum((measured - measured.mean()) ** 2))
    return 1 - float(np.sum((measured - predicted) ** 2)) / spread if spread > 0 else 0.0


def repeat_noise(x: Array, y: Array) -> tuple[Array | None, int]:
    """Standard deviation between runs of one mixture, per column of ``y``; and its freedom.

    Args:
        x: Mixtures, shape ``(K, m)``.
        y: Measurements, shape ``(K, E)``.
    """
    _, which = np.unique(np.round(x, 5), axis=0, return_inverse=True)
    which = which.reshape(-1)
    freedom, squares = 0, np.zeros(y.shape[1])
    for group in range(which.max(initial=-1) + 1):
        rows = y[which == group]
        freedom += len(rows) - 1
        squares += np.sum((rows - rows.mean(axis=0)) ** 2, axis=0)
    return (np.sqrt(squares / freedom), freedom) if freedom else (None, 0)


def objective_noise(table: Table, fitted: Fitted | None) -> float | None:
    """Standard deviation of one target run's objective between seeds, bits per byte.

    Pools repeated runs with the law's residuals, each with its degrees of freedom. Residuals hold
    lack of fit too, so the estimate errs upwards. None when neither is there.
    """
    x, y = table.at(table.target)
    squares, freedom = 0.0, 0.0
    repeats, count = repeat_noise(x, (y @ table.w)[:, None])
    if repeats is not None:
        squares, freedom = count * float(repeats[0]) ** 2, float(count)
    if fitted is not None:
        residual = fitted.laws.residuals @ table.w
        squares += float(fitted.laws.k @ residual**2)
        # With equal noise s, the weighted squares have the expectation s^2 sum k (1 - h).
        freedom += float(fitted.laws.k @ (1 - fitted.laws.leverage @ table.w))
    return float(np.sqrt(squares / freedom)) if freedom >= _LEAST_FREEDOM else None
