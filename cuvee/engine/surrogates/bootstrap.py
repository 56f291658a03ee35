"""How far the laws would differ had the runs' noise been another: a residual bootstrap.

Each replicate refits every law on ``fitted + residuals of runs drawn with replacement``. The
residual *vector* of a run is drawn as one, so the correlation between evaluation sets is kept: a
seed that is unlucky on one set is mostly unlucky on all, which matters for the weighted objective.
Residuals are divided by ``sqrt(1 - leverage)``, for least squares shrinks them by that (Davison &
Hinkley 1997, section 6.2), and scaled up to the noise between repeated runs where that is larger.
A run is drawn as often as it weighs in the fit: the weights say where the law is trusted, not how
noisy a run is, so a run far from the optimum must neither lend its lack of fit to those near it
nor have its noise shrunk by its weight.
Lack of fit of the law is part of the residuals and so widens the intervals; it is not treated as
a bias that could be removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.laws import Laws, polish, predict

__all__ = ["Draws", "draw", "interval"]

_LEAST_FREEDOM = 0.1  # a run with leverage above 0.9 would be inflated without limit


@dataclass(frozen=True)
class Draws:
    """Bootstrap replicates of the laws.

    Attributes:
        c: Floors, shape ``(B, E)``.
        t: Log-slopes, shape ``(B, E, m)``.
    """

    c: Array
    t: Array

    def at(self, p: Array) -> Array:
        """Predicted losses at mixtures ``(n, m)``, shape ``(B, n, E)``."""
        return predict(self.c, self.t, np.atleast_2d(p))


def draw(
    laws: Laws, rng: np.random.Generator, replicates: int, noise: Array | None = None
) -> Draws:
    """Draw replicates.

    Args:
        laws: The fitted laws.
        rng: Source of randomness.
        replicates: How many, ``B``.
        noise: Standard deviation between seeds per set, where known, shape ``(E,)``.
    """
    fitted = laws.y - laws.residuals  # (K, E)
    often = laws.k / laws.k.sum()
    spread = laws.residuals / np.sqrt(np.maximum(1 - laws.leverage, _LEAST_FREEDOM))
    spread -= often @ spread
    if noise is not None:
        rms = np.sqrt(often @ spread**2)
        spread = spread * np.maximum(1.0, noise / np.maximum(rms, 1e-12))
    picks = rng.choice(laws.runs, size=(replicates, laws.runs), p=often)
    drawn = fitted[None] + spread[picks]  # (B, K, E)
    drawn = np.maximum(drawn, 0.01 * laws.y.min(axis=0))
    sets = laws.y.shape[1]
    which = np.tile(np.arange(sets), replicates)
    rows = drawn.transpose(0, 2, 1).reshape(-1, laws.runs)
    c, t = polish(
        laws.x,
        rows,
        np.tile(laws.k, (len(rows), 1)),
        laws.penalty[which],
        laws.c[which],
        laws.t[which],
        steps=6,  # converged for nearly all; 1 % of replicates are still 0.004 off
    )
    return Draws(c.reshape(replicates, sets), t.reshape(replicates, sets, -1))


def interval(values: Array, confidence: float) -> tuple[float, float]:
    """The central interval of draws, shape ``(B,)``."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
