"""A fitted formula with few parameters as the model of one rung: the delta method.

With ``J`` the derivatives of the fitted losses by the parameters, ``W`` the weights of the runs and
``R`` the ridge, the covariance of the parameters is ``s^2 (J'WJ + R)^-1`` (the ridge read as a
prior), that of two predictions ``s^2 g (J'WJ + R)^-1 g'``. What the formula can not follow is a
smooth discrepancy, independent of the parameters (``rungs.split_noise``).

Leave-one-out in closed form, exact for a linear formula: with the leverage ``h`` of a run the
prediction without it is off by ``residual / (1 - h)`` and has the variance ``s^2 / (1 - h)``.
``s^2`` is the weighted mean of ``residual^2 / (1 - h)``: leave-one-out errors are on average as
large as they are said to be.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import solve_triangular

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Loo, Runs
from cuvee.engine.surrogates.rungs import RungFit, kernel, split_noise

__all__ = ["Parametric"]

Formula = Callable[[Array], tuple[Array, Array]]
"""Mixtures ``(n, m)`` to losses ``(n, E)`` and derivatives by the parameters ``(E, n, q)``."""

_MOST_LEVERAGE = 0.95  # beyond, a run decides its own fit, and the closed form divides by nothing
_LEAST_SD = 1e-5  # of the losses' level: an exact fit must not weigh infinitely


class Parametric(RungFit):
    """One formula per evaluation set, fitted to one rung's runs.

    Args:
        runs: The runs fitted, one rung.
        formula: The fitted formula.
        penalty: Ridge on the parameters, squared bits per byte, shape ``(E, q, q)``.
        weight: How much each measurement counted, at most 1, shape ``(K, E)``.
        left_out: Leave-one-out predictions by refitting, where they are known, shape ``(K, E)``.
    """

    def __init__(
        self,
        runs: Runs,
        formula: Formula,
        penalty: Array,
        weight: Array,
        left_out: Array | None = None,
    ) -> None:
        self._formula = formula
        fitted, jacobian = formula(runs.x)
        normal = np.swapaxes(jacobian * weight.T[:, :, None], 1, 2) @ jacobian + penalty
        unit = np.sqrt(np.maximum(np.einsum("ejj->ej", normal), 1e-300))
        scaled = normal / (unit[:, :, None] * unit[:, None, :])
        scaled += 1e-9 * np.eye(normal.shape[1])  # parameters that only the ridge tells apart
        self._unit = unit
        self._factor = np.linalg.cholesky(scaled)
        half = self._half(jacobian)
        leverage = np.clip(weight * np.sum(half**2, axis=1).T, 0.0, _MOST_LEVERAGE)
        error = runs.y - fitted
        if left_out is None:
            left_out = runs.y - error / (1 - leverage)
        floor = (_LEAST_SD * np.abs(runs.y).mean(axis=0)) ** 2
        squares = weight * (runs.y - left_out) ** 2 * (1 - leverage)
        self.scale2 = np.sum(squares, axis=0) / np.sum(weight, axis=0) + floor
        self.noise, self.discrepancy = split_noise(runs, self.scale2)
        self.loo = Loo(left_out, self.scale2 / (weight * (1 - leverage)))

    def _half(self, jacobian: Array) -> Array:
        """``F^-1 g`` with ``F F'`` the normal matrix, shape ``(E, q, n)``."""
        scaled = np.swapaxes(jacobian / self._unit[:, None, :], 1, 2)
        return np.stack(
            [
                solve_triangular(f, s, lower=True, check_finite=False)
                for f, s in zip(self._factor, scaled, strict=True)
            ]
        )

    def mean(self, p: Array) -> Array:
        return self._formula(p)[0]

    def var(self, p: Array) -> Array:
        half = self._half(self._formula(p)[1])
        return np.asarray(self.scale2 * np.sum(half**2, axis=1).T + self.discrepancy)

    def cov(self, p: Array, q: Array) -> Array:
        left, right = self._half(self._formula(p)[1]), self._half(self._formula(q)[1])
        found = self.scale2[:, None, None] * (np.swapaxes(left, 1, 2) @ right)
        return np.asarray(found + self.discrepancy[:, None, None] * kernel(p, q))
