"""One mixture against others: losses and objective there minus here, with what both share.

Predictions of two mixtures by one surrogate err together, so the deviation of their difference is
not the root of the sum of squares: near each other it is far less. ``Gap`` holds the difference of
the noise-free losses at the target between ``n`` mixtures and one.

For a weighted mean everything is closed form: with ``d_e`` the deviation of set ``e``'s difference,
the variance of the objective's is ``(w d)' R (w d)``, ``R`` and the inflation being the belief's.
The worst excess is averaged over one fixed set of normal numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief

__all__ = ["Gap", "gap", "set_gap"]

_NORMAL = 512
_MOST_SURE = 0.9999  # no surrogate knows more
_SAME = 1e-9


@dataclass(frozen=True)
class Gap:
    """The objective at ``n`` mixtures minus that at one, bits per byte; all shapes ``(n,)``.

    Attributes:
        mean: Expected difference.
        sd: Its standard deviation.
        low: Lower end of the central interval.
        high: Upper end.
        chance: Chance that the difference is above zero, ties counting half.
    """

    mean: Array
    sd: Array
    low: Array
    high: Array
    chance: Array


def set_gap(belief: Belief, q: Array, p: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the losses at ``q (n, m)`` minus at ``p (m,)``, ``(n, E)``."""
    model, target = belief.model, belief.target
    one = p[None, :]
    # In this order, for models keep what they have just said of the same mixtures.
    base, own = model.mean(one, target), model.var(one, target)
    mean = model.mean(q, target) - base
    var = model.var(q, target) + own - 2 * model.cov(q, target, one, target)[:, :, 0].T
    same = np.abs(q - p).max(axis=1) < _SAME  # rounding is not a doubt
    var[same], mean[same] = 0.0, 0.0
    return mean, np.asarray(belief.inflation * np.sqrt(np.maximum(var, 0.0)))


def gap(belief: Belief, q: Array, p: Array, confidence: float) -> Gap:
    """The objective at ``q (n, m)`` minus that at ``p (m,)``.

    Args:
        belief: The posterior.
        q: Mixtures, shape ``(n, m)``.
        p: The mixture that they are compared with, shape ``(m,)``.
        confidence: Level of the interval.
    """
    if not belief.goal.linear:
        return _nonlinear(belief, q, p, confidence)
    mean, sd = set_gap(belief, q, p)
    centre = mean @ belief.goal.w
    each = sd * belief.goal.w
    square = np.einsum("ne,ef,nf->n", each, belief.correlation, each)
    spread = np.sqrt(np.maximum(square, 0.0))
    half = stats.norm.ppf(0.5 + confidence / 2) * spread
    ratio = np.divide(centre, spread, out=np.sign(centre) * 9.0, where=spread > 0)
    chance = np.clip(stats.norm.cdf(ratio), 1 - _MOST_SURE, _MOST_SURE)
    return Gap(centre, spread, centre - half, centre + half, chance)


def _nonlinear(belief: Belief, q: Array, p: Array, confidence: float) -> Gap:
    model, target, kappa = belief.model, belief.target, belief.inflation
    one = p[None, :]
    base, here = model.mean(one, target), model.var(one, target)
    mean, there = model.mean(q, target), model.var(q, target)
    across = model.cov(q, target, one, target)[:, :, 0].T
    tie = np.divide(across, here, out=np.zeros_like(across), where=here > 0)
    rest = np.sqrt(np.maximum(there - tie * across, 0.0))
    same = np.abs(q - p).max(axis=1) < _SAME
    tie[same], rest[same] = 1.0, 0.0
    root = np.linalg.cholesky(belief.correlation + 1e-9 * np.eye(len(belief.correlation)))
    u, v = _normal(len(root)) @ root.T
    common = kappa * u * np.sqrt(here)  # (B, E)
    ours = belief.goal.value(base + common)  # (B,)
    moved = mean + tie * common[:, None, :] + kappa * rest * v[:, None, :]
    values = belief.goal.value(moved) - ours[:, None]  # (B, n)
    values[:, same] = 0.0
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    wins = np.mean(values > 0, axis=0) + 0.5 * np.mean(values == 0, axis=0)
    chance = (wins * len(u) + 0.5) / (len(u) + 1)
    return Gap(values.mean(axis=0), values.std(axis=0), low, high, np.asarray(chance))


def _normal(sets: int) -> Array:
    """Two fixed samples of normal numbers, shape ``(2, B, sets)``, with exact first two moments."""
    count = max(_NORMAL, 8 * sets)
    half = np.random.default_rng(0).standard_normal((count // 2, 2 * sets))
    drawn = np.concatenate([half, -half])
    white = drawn @ np.linalg.inv(np.linalg.cholesky(drawn.T @ drawn / len(drawn))).T
    return np.stack([white[:, :sets], white[:, sets:]])
