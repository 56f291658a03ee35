"""What paired runs can show before they are made: noise of a pair, power, pairs that are needed.

A pair is a run of the reference and a run of the recommendation with one seed. ``n`` pairs with a
true gain ``d`` and a deviation ``s`` of one pair's difference give a Student statistic whose law is
the noncentral t with ``n - 1`` degrees of freedom and noncentrality ``d sqrt(n) / s``. Its tail is
an average over the scale of the estimated deviation,

``P(T > t) = E[Phi(d sqrt(n) / s - t r)]`` with ``r^2`` a chi-square over its degrees of freedom,

and with a gain that is itself uncertain, normal with mean ``d`` and deviation ``u``, the inner
probability is still a normal one, of ``(d sqrt(n) / s - t r) / sqrt(1 + n u^2 / s^2)``. So one
quadrature over ``r`` gives the power of a known and of a predicted gain alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from cuvee.answer import VerificationPlan
from cuvee.engine.evidence.table import SAME, Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief

__all__ = ["Noise", "detectable_gain", "pairs_needed", "plan", "power", "run_noise"]

MOST_PAIRS = 100
"""More pairs than this are not a check of a recommendation but another search."""

WANTED = 0.8
"""The power that is asked for, by convention of experimental design (Cohen 1988)."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)  # right to 1e-8, see the test
_NORMAL = 4096


@dataclass(frozen=True)
class Noise:
    """How much a run at the target varies between seeds, bits per byte.

    Attributes:
        objective: Standard deviation of the objective of one run.
        sets: The same of each evaluation set, shape ``(E,)``.
    """

    objective: float
    sets: Array


def run_noise(table: Table, belief: Belief | None) -> Noise | None:
    """Noise of one run at the target, from repeated mixtures and from the surrogate's residuals.

    Both are variances, pooled by their degrees of freedom: those of the repeats, and half the
    number of target runs for the surrogate, which has spent the other half on the shape. The
    surrogate's noise is per set; sets of one run share its seed, so their errors are correlated
    as the leave-one-out errors are. Lack of fit is in the residuals, so the estimate errs upwards.
    None where there is neither a repeat nor a surrogate.

    Args:
        table: The search.
        belief: The posterior that was fitted to it, or None.
    """
    x, y = table.at(table.target)
    goal = table.goal
    squares, freedom = _repeats(x, np.column_stack([y, goal.value(y)]))
    if belief is not None and len(x):
        own = belief.model.noise(table.target)
        if goal.linear:
            each = goal.w * np.sqrt(own)
            total = float(each @ belief.correlation @ each)
        else:
            # The greatest of several noisy numbers has no closed form; fixed seed, fixed answer.
            root = np.linalg.cholesky(belief.correlation + 1e-9 * np.eye(len(own)))
            drawn = np.random.default_rng(0).standard_normal((_NORMAL, len(own))) @ root.T
            total = float(np.var(goal.value(y.mean(axis=0) + drawn * np.sqrt(own))))
        weight = max(1.0, len(x) / 2)
        squares = squares + weight * np.append(own, total)
        freedom += weight
    if freedom == 0:
        return None
    deviation = np.sqrt(squares / freedom)
    return Noise(float(deviation[-1]), deviation[:-1])


def _repeats(x: Array, y: Array) -> tuple[Array, float]:
    """Sum of squares about the means of repeated mixtures, per column of ``y``; its freedom."""
    squares, freedom = np.zeros(y.shape[1]), 0.0
    if len(x) == 0:
        return squares, freedom
    _, which = np.unique(np.round(x / (2 * SAME)), axis=0, return_inverse=True)
    which = which.reshape(-1)
    for group in np.flatnonzero(np.bincount(which) > 1):
        rows = y[which == group]
        squares += np.sum((rows - rows.mean(axis=0)) ** 2, axis=0)
        freedom += len(rows) - 1
    return squares, freedom


def power(
    gain: float, uncertainty: float, noise: float, pairs: int, confidence: float
) -> float | None:
    """Chance that the two-sided interval over ``pairs`` differences lies above zero.

    With one pair the noise is taken as known, for nothing else tells it then, as in ``verify``.

    Args:
        gain: Expected gain, bits per byte.
        uncertainty: Its standard deviation; 0 for a gain that is given.
        noise: Standard deviation of one pair's difference.
        pairs: How many, ``n``.
        confidence: Level of the interval.

    Returns:
        None without pairs.
    """
    if pairs < 1:
        return None
    if noise <= 0:
        if uncertainty <= 0:
            return float(gain > 0)
        return float(stats.norm.cdf(gain / uncertainty))
    centre = gain * np.sqrt(pairs) / noise
    spread = np.sqrt(1 + pairs * (uncertainty / noise) ** 2)
    level = 0.5 + confidence / 2
    if pairs == 1:
        return float(stats.norm.cdf((centre - stats.norm.ppf(level)) / spread))
    # Squeezed towards both ends, where the quantile function bends.
    u = (_NODES + 1) / 2
    chance = u * u * (3 - 2 * u)
    jacobian = 6 * u * (1 - u)
    ratio = np.sqrt(stats.chi2.ppf(chance, pairs - 1) / (pairs - 1))
    needed = stats.t.ppf(level, pairs - 1) * ratio
    inner = stats.norm.cdf((centre - needed) / spread)
    return float(np.clip(_WEIGHTS @ (inner * jacobian) / 2, 0.0, 1.0))


def detectable_gain(noise: float, pairs: int, confidence: float) -> float | None:
    """The gain that ``pairs`` differences show with a chance of ``WANTED``, bits per byte."""
    if pairs < 1:
        return None
    if noise <= 0:
        return 0.0

    def short(gain: float) -> float:
        return (power(gain, 0.0, noise, pairs, confidence) or 0.0) - WANTED

    high = noise
    while short(high) < 0:
        high *= 2
    return float(optimize.brentq(short, 0.0, high, xtol=1e-6 * noise))


def pairs_needed(gain: float, uncertainty: float, noise: float, confidence: float) -> int | None:
    """Fewest pairs, at least two, with a power of ``WANTED``; None if ``MOST_PAIRS`` have less."""

    def enough(n: int) -> bool:
        return (power(gain, uncertainty, noise, n, confidence) or 0.0) >= WANTED

    # For gains with a power near the wanted one the power rises with the pairs: bisect.
    if not enough(MOST_PAIRS):
        return None
    low, high = 1, MOST_PAIRS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def plan(
    reference: str, gain: tuple[float, float], noise: Noise | None, pairs: int, confidence: float
) -> VerificationPlan:
    """What the pairs of one reference can show.

    The seeds of a pair cancel what is common to both runs; how much that is, only the pairs
    themselves tell, so a pair is given twice the variance of a run and the plan errs on the safe
    side.

    Args:
        reference: Its label.
        gain: Mean and standard deviation of the predicted gain, bits per byte.
        noise: Of one run.
        pairs: How many the job will run.
        confidence: Level of the interval.
    """
    if noise is None:
        return VerificationPlan(
            reference=reference,
            pairs=pairs,
            noise=None,
            detectable=None,
            power=None,
            pairs_for_power=None,
        )
    pair = float(np.sqrt(2) * noise.objective)
    return VerificationPlan(
        reference=reference,
        pairs=pairs,
        noise=pair,
        detectable=detectable_gain(pair, pairs, confidence),
        power=power(*gain, pair, pairs, confidence),
        pairs_for_power=pairs_needed(*gain, pair, confidence),
    )
