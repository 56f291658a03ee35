"""What the engine believes of the objective at the target: mean, deviation, joint draws.

Surrogates answer per evaluation set and treat sets as independent. The objective is formed here,
and two things are added that a sum of independent sets would lack:

- *Correlation between sets.* A model that is wrong on one set tends to be wrong on others. ``R`` is
  the correlation of the leave-one-out errors, shrunk towards independence by the number of runs,
  and the variance of the weighted sum is ``(w s)' R (w s)`` with ``s`` the sets' deviations.
- *Inflation.* ``kappa^2 = (1 + 6 / K) max(1, mean z^2)`` over the ``K`` leave-one-out errors of
  the objective itself, in units of the deviation claimed for them; at most three. The factor is for
  what leaving a run out does not undo: hyperparameters, floors and weights chosen with it. It
  multiplies every deviation.

For a weighted mean the moments are closed form. For the worst excess they are averages over one
fixed set of normal numbers: smooth in ``p`` and the same on every call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cuvee.engine.goal import Goal
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Indices, Model
from cuvee.engine.surrogates.default import LEAST, scored_rung

__all__ = ["Belief", "ObjectiveLoo"]

MOST = 3.0
"""Greatest inflation: beyond, the surrogate is not merely too sure of itself but wrong."""

_OPTIMISM = 6.0
"""Runs' worth of optimism in leave-one-out errors, as ``n / (n - p)`` in least squares. On splits
of RegMix's training runs, 90 % intervals of the mean loss from 24, 32, 64 and 128 runs hold 0.83,
0.89, 0.86 and 0.90 of held-out runs without it."""

_SHRINK = 16.0  # runs at which the correlation between sets counts half
_COMMON = 256  # normal numbers per set for objectives that are not linear
_JITTER = 1e-9


@dataclass(frozen=True)
class ObjectiveLoo:
    """The objective of runs and what was predicted of each without it; bits per byte.

    Attributes:
        rows: Which of the model's runs, shape ``(n,)``.
        rung: Their rung: the target, or the highest that has runs enough.
        measured: Shape ``(n,)``.
        predicted: Shape ``(n,)``.
        se: Standard deviation of the measurement about the prediction, inflated, shape ``(n,)``.
    """

    rows: Indices
    rung: int
    measured: Array
    predicted: Array
    se: Array


@dataclass(frozen=True)
class Belief:
    """The posterior of the objective at the target, noise-free.

    Attributes:
        model: The fitted surrogate.
        goal: The objective.
        inflation: ``kappa``, at least one.
        correlation: ``R``, shape ``(E, E)``.
        own: How many of the model's runs, the first ones, this search paid for; all when None.
            Runs of earlier jobs that were taken for this job's come behind them.
    """

    model: Model
    goal: Goal
    inflation: float
    correlation: Array
    own: int | None = None

    @classmethod
    def of(cls, model: Model, goal: Goal, own: int | None = None) -> Belief:
        """From a fitted surrogate; correlation and inflation by its leave-one-out errors.

        All runs taken for this job's tell those two: optimism is less with more runs fitted.
        """
        sets = model.runs.y.shape[1]
        if not len(model.runs):
            return cls(model, goal, 1.0, np.eye(sets), own)
        plain = cls(model, goal, 1.0, np.eye(sets))
        _, rows = plain._judges()
        left = model.loo()
        z = (model.runs.y[rows] - left.mean[rows]) / np.sqrt(left.var[rows])
        plain = replace(plain, correlation=_correlation(z))
        if not len(rows):
            return replace(plain, own=own)
        square = 1.0
        if len(rows) >= LEAST:
            loo = plain.loo()
            square = max(float(np.mean(((loo.measured - loo.predicted) / loo.se) ** 2)), 1.0)
        kappa = float(np.sqrt(square * (1 + _OPTIMISM / len(rows))))
        return replace(plain, inflation=min(kappa, MOST), own=own)

    @property
    def target(self) -> int:
        return self.model.runs.target

    def mean(self, p: Array) -> Array:
        """Expected objective at mixtures ``(n, m)``, shape ``(n,)``."""
        mean = self.model.mean(p, self.target)
        if self.goal.linear:
            return self.goal.value(mean)
        return self._common(mean, self.model.var(p, self.target))[0]

    def sd(self, p: Array) -> Array:
        """Its standard deviation, inflated, shape ``(n,)``."""
        var = self.model.var(p, self.target)
        if self.goal.linear:
            return self._spread(var)
        return self._common(self.model.mean(p, self.target), var)[1]

    def losses(self, rng: np.random.Generator, p: Array, count: int) -> Array:
        """Joint draws of the losses at mixtures ``(n, m)``, inflated, shape ``(count, n, E)``."""
        posterior = self.model.posterior(p, self.target)
        sets, n, _ = posterior.cov.shape
        normal = rng.standard_normal((count, n, sets)) @ _root(self.correlation).T
        moved = np.einsum("enk,bke->bne", _root(posterior.cov), normal, optimize=True)
        return np.asarray(posterior.mean + self.inflation * moved)

    def draws(self, rng: np.random.Generator, p: Array, count: int) -> Array:
        """Joint draws of the objective at mixtures ``(n, m)``, shape ``(count, n)``."""
        return self.goal.value(self.losses(rng, p, count))

    def loo(self) -> ObjectiveLoo:
        """Leave-one-out predictions of the objective where there are runs enough to judge by.

        Of this search's runs only: they are what a reader, and the stopping rule, may count.
        """
        runs, left = self.model.runs, self.model.loo()
        rung, rows = self._judges()
        mean, var = left.mean[rows], left.var[rows]
        if self.goal.linear:
            predicted, se = self.goal.value(mean), self._spread(var)
        else:
            predicted, se = self._common(mean, var)
        return ObjectiveLoo(rows, rung, self.goal.value(runs.y[rows]), predicted, se)

    def _judges(self) -> tuple[int, Indices]:
        """The rung that judges, and its runs but for those with a loss of the objective muted.

        A muted loss is foreseen as badly as it likes, so such a run would flatter the belief; they
        judge only where nearly no others are left.
        """
        runs = self.model.runs
        own = np.arange(len(runs)) < (len(runs) if self.own is None else self.own)
        rung = scored_rung(runs.where(own))
        here = own & (runs.rung == rung) & (runs.task == 0)
        sound = here & ~runs.muted[:, self.goal.w > 0].any(axis=1)
        return rung, np.flatnonzero(sound if np.count_nonzero(sound) >= LEAST // 2 else here)

    def _spread(self, var: Array) -> Array:
        each = np.sqrt(np.maximum(var, 0.0)) * self.goal.w
        square = np.einsum("ne,ef,nf->n", each, self.correlation, each)
        return np.asarray(self.inflation * np.sqrt(np.maximum(square, 0.0)))

    def _common(self, mean: Array, var: Array) -> tuple[Array, Array]:
        """Moments of an objective that is not linear, over fixed normal numbers."""
        half = np.random.default_rng(0).standard_normal((_COMMON // 2, len(self.goal.w)))
        normal = np.concatenate([half, -half]) @ _root(self.correlation).T
        sd = self.inflation * np.sqrt(np.maximum(var, 0.0))
        values = self.goal.value(mean + normal[:, None, :] * sd)
        return values.mean(axis=0), values.std(axis=0)


def _correlation(z: Array) -> Array:
    """Correlation of standardised errors ``(n, E)``, about zero, shrunk towards independence."""
    count, sets = z.shape
    length = np.maximum(np.sqrt(np.sum(z**2, axis=0)), 1e-12)
    raw = (z / length).T @ (z / length)
    shrunk = raw * count / (count + _SHRINK)
    return np.asarray(np.where(np.eye(sets, dtype=bool), 1.0, shrunk))


def _root(cov: Array) -> Array:
    """Lower triangular root of covariances ``(..., n, n)`` that may be singular."""
    size = cov.shape[-1]
    scale = np.maximum(np.einsum("...nn->...n", cov).mean(axis=-1), 1e-300)[..., None, None]
    jitter = _JITTER
    while True:
        try:
            return np.linalg.cholesky(cov + jitter * scale * np.eye(size))
        except np.linalg.LinAlgError:
            jitter *= 10
