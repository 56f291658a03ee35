"""Gradient-boosted trees exactly as RegMix sets them (Liu et al. 2024, arXiv 2407.01492).

LightGBM regression, 1000 rounds at rate 0.01, everything else at its default: at least 20 runs per
leaf, so that nothing can be split below 40 runs, and no early stopping (the authors' notebook stops
early on its *test* rows). One model per evaluation set; trees know one rung, and ``rungs.Ladder``
carries them over the others. One thread, no sampling: equal runs give equal bits.

Trees give no variance. Runs held out in folds give one: their mean square error is the variance of
a prediction, all of it, and it is multiplied by how much farther a mixture is from the runs than
runs are from each other. Trees are piecewise constant, so the discrepancy is the whole covariance.
"""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
from scipy.spatial.distance import cdist

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Loo, Runs
from cuvee.engine.surrogates.rungs import Ladder, RungFit, kernel, split_noise

__all__ = ["ROUNDS", "Trees"]

ROUNDS = 1000

_FOLDS = 5
_FAR = 2.0  # power of the relative distance by which the variance grows


class _Forest(RungFit):
    """Boosted trees of one rung, one model per set."""

    def __init__(self, runs: Runs, settings: dict[str, Any]) -> None:
        self._models = [_boost(runs.x, y, settings) for y in runs.y.T]
        # Folds by position: the order of runs is canonical, and neighbours in it are alike.
        fold = np.arange(len(runs)) % _FOLDS
        held_out = np.empty_like(runs.y)
        for k in range(_FOLDS):
            rest, out = fold != k, fold == k
            for e, y in enumerate(runs.y.T):
                held_out[out, e] = _boost(runs.x[rest], y[rest], settings).predict(runs.x[out])
        error = np.mean((runs.y - held_out) ** 2, axis=0)
        error = np.maximum(error, (1e-5 * np.abs(runs.y).mean(axis=0)) ** 2)
        self.loo = Loo(held_out, np.broadcast_to(error, runs.y.shape).copy())
        self.noise, self.discrepancy = split_noise(runs, error)
        self._roots = np.sqrt(np.maximum(runs.x, 0.0))
        between = cdist(self._roots, self._roots) + np.diag(np.full(len(runs), np.inf))
        self._near = max(float(np.mean(between.min(axis=1))), 1e-6)

    def _stretch(self, p: Array) -> Array:
        """How much farther mixtures are from the runs than runs from each other, ``(n,)``."""
        gap = cdist(np.sqrt(np.maximum(p, 0.0)), self._roots).min(axis=1)
        return np.asarray(np.maximum(gap / self._near, 1.0) ** (_FAR / 2))

    def mean(self, p: Array) -> Array:
        return np.stack([np.asarray(model.predict(p)) for model in self._models], axis=1)

    def var(self, p: Array) -> Array:
        return np.asarray(self._stretch(p)[:, None] ** 2 * self.discrepancy)

    def cov(self, p: Array, q: Array) -> Array:
        shape = self._stretch(p)[:, None] * kernel(p, q) * self._stretch(q)
        return np.asarray(self.discrepancy[:, None, None] * shape)


def _boost(x: Array, y: Array, settings: dict[str, Any]) -> lightgbm.Booster:
    data = lightgbm.Dataset(x, y, params={"verbosity": -1, "num_threads": 1})
    return lightgbm.train(settings, data, num_boost_round=ROUNDS)


class Trees(Ladder):
    """Boosted trees per evaluation set.

    Args:
        leaf: Least runs per leaf; 20 is LightGBM's default and RegMix's setting, 5 is better
            wherever runs are few.
    """

    def __init__(self, leaf: int = 20) -> None:
        self.leaf = leaf
        self.name = "trees" if leaf == 20 else f"trees_leaf{leaf}"

    def least_runs(self, domains: int) -> int:
        """Enough for a fold to be left out; below two leaves the trees are a constant."""
        return max(_FOLDS, self.leaf // 2)

    def fit_rung(self, runs: Runs) -> RungFit:
        return _Forest(
            runs,
            {
                "objective": "regression",
                "learning_rate": 0.01,
                "min_data_in_leaf": self.leaf,
                "num_threads": 1,
                "deterministic": True,
                "force_row_wise": True,
                "verbosity": -1,
            },
        )
