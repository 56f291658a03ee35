"""The power law of effective data: ``L_e(p) = c_e + (sum_j T_ej p_j)^-a_e`` with ``T >= 0``.

``T_ej`` says how much a token of domain ``j`` is worth to evaluation set ``e``; the exponent is
that of a scaling law in tokens. A share that falls to zero costs steeply, as it does with language
models and as no log-linear law can follow, while inside the simplex the law is as smooth. It can
not express a domain that does harm. Convex in ``p``, for a decreasing convex power of a linear
form is.

Estimator, deterministic and batched over sets: the parameters are ``c``, ``log a`` and
``u = log T``, with a ridge that holds ``u`` to its mean (all domains are worth the same) and
``log a`` to ``log 0.5``. Given floor and exponent the law is linear in ``T``, so a grid of both
gives starts by least squares; Levenberg-Marquardt finishes, once for each ridge of a grid, and
leave-one-out error chooses the ridge. ``m + 2`` parameters, but with the ridge as few runs as
domains are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.parametric import Parametric
from cuvee.engine.surrogates.rungs import Ladder, bounded, trust
from cuvee.engine.surrogates.sums import FEW, groups, squares

__all__ = ["Power", "PowerLaws", "fit"]

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Of a deviation of ``u`` by one, in units of the mean square of ``y - c``, per run and domain."""

EXPONENT = 0.5  # prior; language models have 0.1 to 1 for losses over data

_EXPONENT_SD = 0.7  # of log a
_SPREAD = 2.0  # of u: a useless domain is worth exp(-4) of a useful one
_EXPONENTS = (0.15, 0.35, 0.8, 1.6)  # starts
_FLOORS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)  # starts, of the least loss
_LEAST_T = 1e-3  # of the mean: where a start of zero would have no derivative
_LEAST_S = 1e-9
_STEPS = 25  # for each ridge; a third, and every other ridge, where sets are many


@dataclass(frozen=True)
class PowerLaws:
    """Laws of ``E`` sets: ``theta (E, m + 2)`` holds ``c``, ``log a`` and ``u``.

    Attributes:
        theta: Parameters.
        penalty: Ridge matrices in squared bits per byte, shape ``(E, m + 2, m + 2)``.
    """

    theta: Array
    penalty: Array

    def at(self, p: Array) -> tuple[Array, Array]:
        """Losses ``(n, E)`` and their derivatives by ``theta``, shape ``(E, n, m + 2)``."""
        rise, jacobian = _formula(self.theta, p)
        return (self.theta[:, :1] + rise).T, jacobian


def _formula(theta: Array, x: Array) -> tuple[Array, Array]:
    """``s^-a`` of ``N`` laws, shape ``(N, K)``, and derivatives of the loss ``(N, K, m + 2)``."""
    a, worth, s, rise = _rise(theta, x)
    jacobian = np.empty((*rise.shape, theta.shape[1]))
    jacobian[:, :, 0] = 1.0
    jacobian[:, :, 1] = -a * np.log(s) * rise
    jacobian[:, :, 2:] = (-a * rise / s)[:, :, None] * (x[None] * worth[:, None, :])
    return rise, jacobian


def _rise(theta: Array, x: Array) -> tuple[Array, Array, Array, Array]:
    """``a (N, 1)``, ``T (N, m)``, ``s (N, K)`` and ``s^-a (N, K)`` of ``N`` laws."""
    a = np.exp(theta[:, 1])[:, None]
    worth = np.exp(theta[:, 2:])
    s = np.maximum(worth @ x.T, _LEAST_S)
    return a, worth, s, np.exp(np.minimum(-a * np.log(s), 50.0))


def fit(x: Array, y: Array, weight: Array | None = None) -> PowerLaws:
    """Fit one law per evaluation set.

    Args:
        x: Mixtures, shape ``(K, m)``.
        y: Losses, bits per byte, shape ``(K, E)``.
        weight: How much each counts, in (0, 1], shape ``(K, E)``; all one when not given.
    """
    target = y.T
    often = np.ones_like(target) if weight is None else weight.T
    sets = len(target)
    theta = _start(x, target, often)
    steps, every = (_STEPS, 1) if sets <= FEW else (_STEPS // 3, 2)
    found = [
        _finish(x, target[some], often[some], theta[some], RIDGES[::-every], steps)
        for some in groups(sets, len(x) * theta.shape[1])
    ]
    return PowerLaws(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _finish(
    x: Array,
    target: Array,
    often: Array,
    theta: Array,
    ridges: tuple[float, ...],
    steps: int,
) -> tuple[Array, Array]:
    """Parameters and ridges of some sets, from their starts ``theta``."""
    sets, m = len(target), x.shape[1]
    size = np.mean(often * (target - theta[:, :1]) ** 2, axis=1)
    shape = np.zeros((m + 2, m + 2))
    shape[2:, 2:] = (np.eye(m) - 1.0 / m) / _SPREAD**2
    shape[1, 1] = 1 / _EXPONENT_SD**2
    best, kept, chosen = np.full(sets, np.inf), theta, np.zeros((sets, m + 2, m + 2))
    for ridge in ridges:  # from stiff to loose, each from where the last one ended
        penalty = (ridge * size)[:, None, None] * shape
        theta = _polish(x, target, often, penalty, theta, steps=steps)
        score = _left_out_error(x, target, often, penalty, theta)
        better = score < best
        best = np.where(better, score, best)
        kept = np.where(better[:, None], theta, kept)
        chosen = np.where(better[:, None, None], penalty, chosen)
    return kept, chosen


def _left_out_error(x: Array, y: Array, often: Array, penalty: Array, theta: Array) -> Array:
    """Mean square leave-one-out error in closed form, shape ``(E,)``."""
    rise, jacobian = _formula(theta, x)
    weighted = jacobian * often[:, :, None]
    normal = np.swapaxes(weighted, 1, 2) @ jacobian + penalty
    diagonal = np.einsum("ejj->ej", normal)
    normal += (1e-9 * diagonal + 1e-15 * diagonal.max(axis=1, keepdims=True))[:, :, None] * np.eye(
        normal.shape[1]
    )
    inverse = np.linalg.solve(normal, np.swapaxes(weighted, 1, 2))
    leverage = np.einsum("ekj,ejk->ek", jacobian, inverse)
    error = (y - theta[:, :1] - rise) / np.maximum(1 - leverage, 0.05)
    return np.asarray(np.mean(often * error**2, axis=1))


def _start(x: Array, y: Array, often: Array) -> Array:
    """The best of a grid of floors and exponents by squared error, shape ``(E, m + 2)``."""
    m = x.shape[1]
    low = y.min(axis=1)
    span = np.maximum(y.max(axis=1) - low, 1e-6 * np.abs(low) + 1e-12)
    best, kept = np.full(len(y), np.inf), np.zeros((len(y), m + 2))
    for share in _FLOORS:
        c = np.maximum(np.minimum(share * low, low - 1e-3 * span), 0.0)
        for a in _EXPONENTS:
            gap = y - c[:, None]
            z = gap ** (-1 / a)
            weight = often * (a * gap / z) ** 2  # the slope of the loss by z, squared
            weight /= weight.mean(axis=1, keepdims=True)
            mean = np.sum(weight * z, axis=1) / np.sum(weight, axis=1)
            system = squares(weight, x)
            moment = np.einsum("ek,kj->ej", weight * (z - mean[:, None]), x)
            ridge = 1e-2 * np.einsum("ejj->e", system) / m
            system += ridge[:, None, None] * np.eye(m)
            worth = mean[:, None] + np.linalg.solve(system, moment[:, :, None])[:, :, 0]
            u = np.log(np.maximum(worth, _LEAST_T * mean[:, None]))
            theta = np.concatenate([c[:, None], np.full((len(y), 1), np.log(a)), u], axis=1)
            error = np.sum(often * (c[:, None] + _rise(theta, x)[3] - y) ** 2, axis=1)
            better = error < best
            best = np.where(better, error, best)
            kept = np.where(better[:, None], theta, kept)
    return kept


def _polish(x: Array, y: Array, often: Array, penalty: Array, theta: Array, *, steps: int) -> Array:
    """Levenberg-Marquardt for all sets at once; ``0 <= c <= min y``."""
    top = y.min(axis=1)
    n, size = theta.shape
    centre = np.zeros(size)
    centre[1] = np.log(EXPONENT)
    damping = np.full(n, 1e-3)

    def loss(at: Array) -> tuple[Array, Array, Array]:
        rise, jacobian = _formula(at, x)
        error = at[:, :1] + rise - y
        ridge = np.einsum("nj,njl,nl->n", at - centre, penalty, at - centre)
        return np.sum(often * error**2, axis=1) + ridge, error, jacobian

    value, error, jacobian = loss(theta)
    for _ in range(steps):
        weighted = jacobian * often[:, :, None]
        normal = np.swapaxes(weighted, 1, 2) @ jacobian + penalty
        gradient = np.einsum("nkj,nk->nj", weighted, error)
        gradient += np.einsum("njl,nl->nj", penalty, theta - centre)
        diagonal = np.einsum("njj->nj", normal)
        damped = damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True)
        system = normal + damped[:, :, None] * np.eye(size)
        step = np.linalg.solve(system, gradient[:, :, None])[:, :, 0]
        moved = theta - np.clip(step, -2.0, 2.0)  # a factor of 7 in one step is far
        moved[:, 0] = np.clip(theta[:, 0] - step[:, 0], 0, top)
        moved[:, 1] = np.clip(moved[:, 1], np.log(0.02), np.log(5.0))
        new_value, new_error, new_jacobian = loss(moved)
        better = new_value <= value
        gained = np.where(better, value - new_value, 0.0)
        theta = np.where(better[:, None], moved, theta)
        error = np.where(better[:, None], new_error, error)
        jacobian = np.where(better[:, None, None], new_jacobian, jacobian)
        value = np.where(better, new_value, value)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-10, 1e10)
        if np.all(better) and np.all(gained <= 1e-9 * value):
            break
    return theta


class Power(Ladder):
    """``L_e(p) = c_e + (T_e . p)^-a_e``, ``T >= 0``."""

    name = "power"

    def least_runs(self, domains: int) -> int:
        return domains + 2

    def fit_rung(self, runs: Runs) -> Parametric:
        weight = trust(runs)
        law = fit(runs.x, bounded(runs.y, weight), weight)
        return Parametric(runs, law.at, law.penalty, weight)
