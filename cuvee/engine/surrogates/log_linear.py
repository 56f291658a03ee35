"""The log-linear mixing law as a surrogate: ``laws.py`` on each rung, with delta-method variance.

Right in the interior of the simplex, where it extrapolates better than anything that only
interpolates; too gentle at its faces, where losses rise steeply.
"""

from __future__ import annotations

import numpy as np

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates import laws
from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.parametric import Parametric
from cuvee.engine.surrogates.rungs import Ladder, bounded, trust

__all__ = ["LogLinear"]


class LogLinear(Ladder):
    """``L_e(p) = c_e + exp(t_e . p)`` (Ye et al. 2024, arXiv 2403.16952)."""

    name = "log_linear"

    def least_runs(self, domains: int) -> int:
        return domains + 1

    def fit_rung(self, runs: Runs) -> Parametric:
        weight = np.maximum(trust(runs), 1e-9)
        law = laws.fit(runs.x, bounded(runs.y, weight), heed=weight)

        def formula(p: Array) -> tuple[Array, Array]:
            return law.at(p), laws.derivatives(law.t, p)

        penalty = np.pad(law.penalty, ((0, 0), (1, 0), (1, 0)))
        return Parametric(runs, formula, penalty, weight, law.loo)
