"""The default surrogate: every candidate fitted, stacked per evaluation set by what it foresaw.

Stacking of predictive distributions (Yao, Vehtari, Simpson & Gelman 2018, Bayesian Analysis 13):
weights on the simplex maximise the log of the mixed leave-one-out predictive densities of the runs
that matter, here with a Dirichlet prior so that few runs do not decide everything. The candidates'
leave-one-out predictions are closed form or already there, so choosing costs no refit.

The runs that matter are the target's; while the target has fewer than ``LEAST`` runs, those of the
highest rung that has so many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cuvee.engine.simplex import Array
from cuvee.engine.surrogates.base import Loo, Model, Runs, Surrogate
from cuvee.engine.surrogates.log_linear import LogLinear
from cuvee.engine.surrogates.power import Power
from cuvee.engine.surrogates.rungs import log_density
from cuvee.errors import EngineError

__all__ = ["LEAST", "Chosen", "Default", "scored_rung", "stack"]

LEAST = 8
"""Runs of a rung below which leave-one-out scores there say little."""

_PRIOR = 2.0  # pseudo-runs of the Dirichlet prior, shared equally by the candidates
_SWEEPS = 200


def scored_rung(runs: Runs) -> int:
    """The rung whose runs judge: the highest with ``LEAST`` runs, else the one with most."""
    counts = np.bincount(runs.rung[runs.task == 0], minlength=runs.rungs)
    enough = np.flatnonzero(counts >= LEAST)
    return int(enough[-1]) if len(enough) else int(np.argmax(counts))


def stack(density: Array, prior: float = _PRIOR) -> Array:
    """Stacking weights from log densities ``(K, C)`` of ``C`` candidates, shape ``(C,)``.

    Expectation-maximisation on a concave objective: deterministic, and always on the simplex.
    """
    runs, candidates = density.shape
    relative = np.exp(np.maximum(density - density.max(axis=1, keepdims=True), -700.0))
    weights = np.full(candidates, 1 / candidates)
    for _ in range(_SWEEPS):
        share = weights * relative
        share /= share.sum(axis=1, keepdims=True)
        weights = (share.sum(axis=0) + prior / candidates) / (runs + prior)
    return np.asarray(weights)


@dataclass(frozen=True)
class Chosen(Model):
    """Candidates mixed per evaluation set.

    Attributes:
        runs: The runs fitted.
        models: The candidates by name, those that could be fitted.
        shares: Stacking weights, shape ``(C, E)``, in the order of ``models``.
        scores: Mean leave-one-out log density by candidate, one mapping per evaluation set.
        weights: ``shares`` by candidate, one mapping per evaluation set.
    """

    runs: Runs
    models: dict[str, Model]
    shares: Array
    scores: tuple[dict[str, float], ...]
    weights: tuple[dict[str, float], ...]

    def mean(self, p: Array, rung: int) -> Array:
        means = [model.mean(p, rung) for model in self.models.values()]
        return np.asarray(np.einsum("ce,cne->ne", self.shares, np.array(means)))

    def var(self, p: Array, rung: int) -> Array:
        means = np.array([model.mean(p, rung) for model in self.models.values()])
        variances = np.array([model.var(p, rung) for model in self.models.values()])
        return _mixed(self.shares[:, None, :], means, variances)[1]

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        """Covariance within the candidates and between them: where they differ, nobody knows."""
        found = np.zeros((self.shares.shape[1], len(p), len(q)))
        ours, theirs = self.mean(p, rung), self.mean(q, other)
        for weight, model in zip(self.shares, self.models.values(), strict=True):
            left = (model.mean(p, rung) - ours).T[:, :, None]
            right = (model.mean(q, other) - theirs).T[:, None, :]
            found += weight[:, None, None] * (model.cov(p, rung, q, other) + left * right)
        return found

    def loo(self) -> Loo:
        left = [model.loo() for model in self.models.values()]
        return Loo(
            *_mixed(
                self.shares[:, None, :],
                np.array([one.mean for one in left]),
                np.array([one.var for one in left]),
            )
        )

    def noise(self, rung: int) -> Array:
        noises = [model.noise(rung) for model in self.models.values()]
        return np.asarray(np.sum(self.shares * np.array(noises), axis=0))


def _mixed(weights: Array, means: Array, variances: Array) -> tuple[Array, Array]:
    """Mean and variance of a mixture; the candidates are the first axis."""
    mean = np.sum(weights * means, axis=0)
    return mean, np.asarray(np.sum(weights * (variances + (means - mean) ** 2), axis=0))


class Default(Surrogate):
    """All candidates, stacked per evaluation set."""

    name = "default"

    def __init__(self, candidates: Sequence[Surrogate] | None = None) -> None:
        self.candidates = (LogLinear(), Power()) if candidates is None else tuple(candidates)

    def least_runs(self, domains: int) -> int:
        return min(one.least_runs(domains) for one in self.candidates)

    def fit(self, runs: Runs) -> Chosen:
        models: dict[str, Model] = {}
        refused = []
        for candidate in self.candidates:
            try:
                models[candidate.name] = candidate.fit(runs)
            except EngineError as error:
                refused.append(str(error))
        if not models:
            raise EngineError("no surrogate can be fitted: " + "; ".join(refused))
        rung = scored_rung(runs)
        rows = (runs.rung == rung) & (runs.task == 0)
        density = np.array([log_density(runs.y, model.loo())[rows] for model in models.values()])
        shares = np.array([stack(density[:, :, e].T) for e in range(runs.y.shape[1])]).T
        return Chosen(
            runs, models, shares, _by_name(models, density.mean(axis=1)), _by_name(models, shares)
        )


def _by_name(models: dict[str, Model], values: Array) -> tuple[dict[str, float], ...]:
    return tuple(dict(zip(models, column.tolist(), strict=True)) for column in values.T)
