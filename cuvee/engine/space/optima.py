"""Where the objective is least: under the posterior mean, and under each joint draw of it.

*Mean.* Spectral projected gradient (Birgin, Martinez & Raydan 2000) with derivatives by differences
towards the corners of the simplex, ``(f(p + h (e_j - p)) - f(p)) / h``: such points are mixtures,
and what the derivatives lack is a constant that a projection onto sum one removes.

*Draws.* The argmin of a draw over a cloud of candidates is right where a cloud can be dense. With
many domains it can not, and the best of a few hundred points for a draw lies too near the middle of
them. So each draw is written ``f_b = mu + g_b`` with ``mu`` the mean, expanded to second order
about its optimum, and ``g_b`` the draw's deviation, expanded to first; both are fitted to the
cloud, which weighs most where the objective is low. The minimum of this convex quadratic over the
region is compared with the best candidate of the cloud under the same draw, and the lower of the
two is the draw's optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.surrogates.belief import Belief

__all__ = ["Optima", "descend", "draw_optima", "gather", "slopes"]

Objective = Callable[[Array], Array]

_STEP = 1e-4  # of the differences; predictions are smooth to far less
_ROUNDS = 40
_LEAST_FALL = 1e-7  # bits per byte: a step that promises less is not worth its predictions
_QUADRATIC = 18  # domains with cross terms: those with the greatest shares
_RIDGE = 1e-6


@dataclass(frozen=True)
class Optima:
    """The optima of ``B`` joint draws, and the expansion that they were found with.

    Attributes:
        p: Shape ``(B, m)``.
        best: Where the expansion is about: the optimum of the mean, shape ``(m,)``.
        gradient: Of the mean, up to a constant, shape ``(m,)``.
        hessian: Of the mean, positive semi-definite, shape ``(m, m)``.
        lines: Slopes of the draws' deviations from the mean, shape ``(B, m)``.
    """

    p: Array
    best: Array
    gradient: Array
    hessian: Array
    lines: Array

    def minimum(
        self, region: Region, about: Array | None = None, slope: Array | None = None
    ) -> Array:
        """The optimum of the mean's expansion over a region, shape ``(m,)``.

        Args:
            region: Where to look.
            about: A mixture to expand about instead of ``best``, with the same curvature.
            slope: The gradient there, shape ``(m,)``.
        """
        if about is None or slope is None:
            about, slope = self.best, self.gradient
        return np.asarray(_quadratic_minima(self.hessian, slope[None], region, about)[0])

    def mean(self, q: Array) -> Array:
        """The mean at ``(n, m)`` minus that at ``best``, to second order, shape ``(n,)``."""
        away = q - self.best
        return np.asarray(away @ self.gradient + np.sum(away @ self.hessian * away, axis=1) / 2)


def gather(
    region: Region, p: Array, measured: Array, rng: np.random.Generator, near: int, uniform: int
) -> Array:
    """Feasible candidates ``(n, m)``: the answer, runs, draws about the answer, uniform draws.

    Args:
        region: Where mixtures may be.
        p: The answer, shape ``(m,)``.
        measured: Mixtures that were run, shape ``(K, m)``; those in the region are kept.
        rng: Source of randomness.
        near: How many draws about the answer, from far to near.
        uniform: How many uniform draws from the region.
    """
    m = len(p)
    inside = measured[region.contains(measured, slack=1e-6)] if len(measured) else measured
    strength = np.exp(np.linspace(np.log(m), np.log(300.0 * m), near))
    around = region.sample_around(rng, p, strength)
    return np.concatenate([p[None], inside, around, region.sample(rng, uniform)])


def slopes(objective: Objective, p: Array, value: Array) -> Array:
    """Derivatives towards the corners, ``df/dp_j`` up to a constant.

    Args:
        objective: Mixtures ``(n, m)`` to values ``(n,)``.
        p: Mixtures, shape ``(k, m)``.
        value: The objective there, shape ``(k,)``.

    Returns:
        Shape ``(k, m)``.
    """
    k, m = p.shape
    moved = p[:, None, :] + _STEP * (np.eye(m) - p[:, None, :])
    return np.asarray((objective(moved.reshape(-1, m)).reshape(k, m) - value[:, None]) / _STEP)


def descend(objective: Objective, region: Region, start: Array, rounds: int = _ROUNDS) -> Array:
    """A local minimiser of ``objective`` over ``region``, no worse than ``start``, shape ``(m,)``.

    Args:
        objective: Mixtures ``(n, m)`` to values ``(n,)``.
        region: Where to look.
        start: A mixture of the region.
        rounds: Most steps.
    """
    p = np.asarray(start, dtype=np.float64)
    value = float(objective(p[None])[0])
    gradient = slopes(objective, p[None], np.array([value]))[0]
    length = 0.1 / max(float(np.abs(gradient - gradient.mean()).max()), 1e-12)
    shorter = 0.5 ** np.arange(0, 12, 2)
    for _ in range(rounds):
        direction = region.project(p - length * gradient) - p
        fall = float(gradient @ direction)
        if fall > -_LEAST_FALL or np.abs(direction).max() < 1e-6:
            break
        # All lengths at once: predictions cost less together than one by one.
        trial = region.project(p + shorter[:, None] * direction)
        values = objective(trial)
        good = np.flatnonzero(values < value + 1e-4 * shorter * fall)
        if not len(good):
            break
        best = good[np.argmin(values[good])]
        step = trial[best] - p
        p, value = trial[best], float(values[best])
        new = slopes(objective, p[None], np.array([value]))[0]
        change = float(step @ (new - gradient))
        length = float(np.clip(step @ step / change, 1e-4, 1e4)) if change > 1e-300 else 2 * length
        gradient = new
    return p


def draw_optima(
    belief: Belief, region: Region, best: Array, cloud: Array, rng: np.random.Generator, count: int
) -> Optima:
    """The optimum of each of ``count`` joint draws of the objective.

    Args:
        belief: The posterior.
        region: Where mixtures may be.
        best: The optimum of the posterior mean, shape ``(m,)``.
        cloud: Candidates of the region, shape ``(n, m)``.
        rng: Source of the draws.
        count: How many.
    """
    points = np.concatenate([best[None], cloud])
    away = points - best
    mean = belief.mean(points)
    draws = belief.draws(rng, points, count)
    draws += mean - draws.mean(axis=0)  # the draws' own mean is known exactly
    gradient = slopes(belief.mean, best[None], mean[:1])[0]
    weight = _weights(mean, draws)
    hessian = _curvature(mean - mean[0] - away @ gradient, away, best, weight)
    lines = _lines(draws - mean, away, weight)
    found = _quadratic_minima(hessian, gradient + lines, region, best)
    there = found - best
    value = belief.mean(found) + np.sum(lines * there, axis=1) + (draws[:, 0] - mean[0])
    lowest = np.argmin(draws, axis=1)
    better = draws[np.arange(count), lowest] < value
    optima = np.where(better[:, None], points[lowest], found)
    return Optima(optima, best, gradient, hessian, lines)


def _weights(mean: Array, draws: Array) -> Array:
    """How much each candidate counts in a fit: little where the objective surely is high."""
    spread = np.std(draws - draws[:, :1], axis=0)
    above = np.maximum(mean - mean[0], 0.0)
    scale = 2 * float(np.median(spread)) + 0.05 * float(np.ptp(mean)) + 1e-300
    return np.asarray(1.0 / (1.0 + (above / scale) ** 2))


def _curvature(rest: Array, away: Array, best: Array, weight: Array) -> Array:
    """Positive semi-definite ``H`` with ``rest ~ away' H away / 2``, shape ``(m, m)``.

    Cross terms are fitted between the domains with the greatest shares only; a domain that is
    nearly absent can hardly change what another does.
    """
    m = len(best)
    main = np.sort(np.argsort(-best, kind="stable")[:_QUADRATIC])
    i, j = np.triu_indices(len(main), 1)
    squares = away**2 / 2
    crossed = away[:, main[i]] * away[:, main[j]]
    root = np.sqrt(weight)[:, None]
    features = root * np.concatenate([squares, crossed], axis=1)
    scale = np.maximum(np.sqrt(np.sum(features**2, axis=0)), 1e-300)
    features = features / scale
    normal = features.T @ features + _RIDGE * len(rest) * np.eye(features.shape[1])
    found = np.linalg.solve(normal, features.T @ (root[:, 0] * rest)) / scale
    hessian = np.diag(found[:m])
    hessian[main[i], main[j]] = hessian[main[j], main[i]] = found[m:]
    # What sums to one does not see the all-ones vector: only curvature along mixtures must be
    # positive.
    centred = np.eye(m) - 1 / m
    values, vectors = np.linalg.eigh(centred @ hessian @ centred)
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


def _lines(deviation: Array, away: Array, weight: Array) -> Array:
    """Slopes of deviations ``(B, n)`` by least squares with an intercept, shape ``(B, m)``."""
    root = np.sqrt(weight)[:, None]
    features = root * np.column_stack([np.ones(len(away)), away])
    normal = features.T @ features
    normal += _RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.asarray(np.linalg.solve(normal, features.T @ (root * deviation.T))[1:].T)


def _quadratic_minima(hessian: Array, slope: Array, region: Region, best: Array) -> Array:
    """Minimisers over ``region`` of ``slope_b . y + y' H y / 2``, ``y = p - best``; ``(B, m)``.

    Accelerated projected gradient with restarts (O'Donoghue & Candes 2015), all rows at once.
    """
    greatest = float(np.linalg.eigvalsh(hessian)[-1])
    # Without curvature the minimum is at a corner: a step that long reaches it.
    length = 1.0 / max(greatest, 1e-3 * float(np.abs(slope).max()), 1e-12)
    p: Array = np.tile(best, (len(slope), 1))
    project: Callable[[Array], Array] = region.project
    if region.max_active is not None:  # as in ``optimum``: its active domains first, then the rest
        free = replace(region, max_active=None)
        p = region.project(_quadratic_minima(hessian, slope, free, best))
        project = partial(region.project_among, active=p > 0)
    ahead, momentum = p, np.ones(len(slope))
    for _ in range(200):
        new = project(ahead - length * ((ahead - best) @ hessian + slope))
        moved = new - p
        if float(np.abs(moved).max()) < 1e-6:
            break
        restart = np.sum((ahead - new) * moved, axis=1) > 0
        after = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        push = np.where(restart, 0.0, (momentum - 1) / after)
        momentum = np.where(restart, 1.0, after)
        ahead = new + push[:, None] * moved
        p = new
    return p
