"""The log-linear mixing law, one per evaluation set: ``L_e(p) = c_e + exp(t_e . p)``.

The law is that of Ye et al. 2024 (arXiv 2403.16952) without its redundant prefactor: shares sum to
one, so a factor ``k`` is the same as adding ``log k`` to every ``t_ej``. An evaluation set has
``m + 1`` free parameters; a negative ``t_ej`` relative to the others means that domain ``j`` helps.

Estimator (deterministic, differs from the paper's many random starts):

1. For each floor ``c`` of a grid in ``[0, min y)`` and each ridge ``rho`` of a grid, ``log(y - c)``
   is regressed on the shares. Rows are weighted by ``(y - c)^2``, so that errors count in
   bits per byte and not in logarithms. The leave-one-out error of a linear smoother is exact and
   costs nothing more; the pair ``(c, rho)`` with the least error is polished, and ``rho`` chosen
   again at the floor found.
2. Levenberg-Marquardt on ``c + exp(X t) - y`` with the analytic Jacobian ``[1, exp(X t) X]`` and
   the same ridge, ``0 <= c <= min y``.

The ridge penalises only what deviates from a prior shape: ``t`` is free along the all-ones vector
and, when a lower rung has been measured, along that rung's own ``t``. So the target's law is
shrunk to "as the lower rung, scaled": a set of few target runs needs to find two numbers well and
the deviations only as far as the data insist.

All fits are batched: the same code fits ``E`` sets, ``E x B`` bootstrap replicates or ``E x K``
leave-one-out fits in one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.sums import FEW, groups, hat, squares
from cuvee.errors import EngineError

__all__ = ["Laws", "derivatives", "fit", "predict"]

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""In units of log-loss per run; the grid goes from hardly any ridge to one that weighs
like a run; leave-one-out error chooses."""

_LOOSE = 1e-4  # the ridge while the floor is sought: it only keeps the equations regular
_FLOORS = 24  # equally spaced; the polish finds what lies between
_NEAR = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)  # floors this many ranges below min y
_T_LIMIT = 50.0  # exp(50) is no loss; keeps a wild step from overflowing


@dataclass(frozen=True)
class Laws:
    """Laws of ``E`` evaluation sets, fitted on ``K`` runs.

    Attributes:
        c: Floors, bits per byte, shape ``(E,)``.
        t: Log-slopes by domain, shape ``(E, m)``.
        x: The mixtures fitted, shape ``(K, m)``.
        y: The losses fitted, bits per byte, shape ``(K, E)``.
        k: Weights of the runs, at most 1, shape ``(K,)``: how far the law is trusted to hold there,
            not how noisy the run is.
        weights: What each measurement weighed, ``k`` times how far it was heeded, shape ``(K, E)``.
        penalty: Ridge matrices in squared bits per byte, shape ``(E, m, m)``.
        loo: Leave-one-out predictions, shape ``(K, E)``.
        leverage: Diagonal of the weighted hat matrix at the solution, shape ``(K, E)``.
        scale: Standard deviation of one run per set, from the weighted residuals, bits per byte,
            shape ``(E,)``.
    """

    c: Array
    t: Array
    x: Array
    y: Array
    k: Array
    weights: Array
    penalty: Array
    loo: Array
    leverage: Array
    scale: Array

    @property
    def runs(self) -> int:
        return len(self.x)

    @property
    def residuals(self) -> Array:
        """Measured minus fitted, shape ``(K, E)``."""
        return self.y - predict(self.c, self.t, self.x)

    def at(self, p: Array) -> Array:
        """Predicted losses at mixtures ``(n, m)``, shape ``(n, E)``."""
        return predict(self.c, self.t, np.atleast_2d(p))

    def leverages_at(self, p: Array) -> Array:
        """How little the design supports a prediction at ``p (n, m)``, per set, shape ``(E, n)``.

        ``g' (J'J + R)^-1 g`` with ``g`` the derivative of the prediction by the parameters: the
        variance of the prediction in units of ``scale ** 2``. Over the fitted runs it averages
        about ``(m + 1) / K``; above one the law extrapolates.
        """
        jacobian = derivatives(self.t, self.x)
        normal = _normal(jacobian, _pad(self.penalty), self.weights.T)
        return _quadratic(normal, derivatives(self.t, np.atleast_2d(p)))


def predict(c: Array, t: Array, x: Array) -> Array:
    """``c + exp(x . t)`` for ``c (..., E)``, ``t (..., E, m)``, ``x (n, m)``: ``(..., n, E)``."""
    logs = np.minimum(np.einsum("...ej,nj->...ne", t, x), _T_LIMIT)
    return np.asarray(c[..., None, :] + np.exp(logs))


def fit(
    x: Array,
    y: Array,
    shape: Array | None = None,
    k: Array | None = None,
    heed: Array | None = None,
) -> Laws:
    """Fit one law per evaluation set.

    Args:
        x: Mixtures, rows sum to one, shape ``(K, m)``.
        y: Losses, positive, bits per byte, shape ``(K, E)``.
        shape: A prior direction for each ``t``, from a lower rung, shape ``(E, m)``.
        k: Weights of the runs, in ``(0, 1]``, shape ``(K,)``; all one when not given.
        heed: Weights of single measurements beside those of their runs, in ``(0, 1]``, shape
            ``(K, E)``; all one when not given.

    Raises:
        EngineError: If there are fewer than ``m + 1`` runs, or a loss is not finite.
    """
    runs, m = x.shape
    if runs < m + 1:
        raise EngineError(f"a law over {m} domains needs at least {m + 1} runs, there are {runs}")
    if not np.all(np.isfinite(y)):
        raise EngineError("a measured loss is not finite")
    target = y.T  # (E, K)
    k = np.ones(runs) if k is None else k
    deviation = _deviation(m, len(target), shape)
    every = np.tile(k, (len(target), 1)) if heed is None else k * heed.T
    c, t, ridge = _start(x, target, every, deviation)
    size = np.mean(every * (target - c[:, None]) ** 2, axis=1)  # log units to squared bits per byte
    penalty = (ridge * size)[:, None, None] * deviation
    c, t = polish(x, target, every, penalty, c, t, steps=30)
    jacobian = derivatives(t, x)
    normal = _normal(jacobian, _pad(penalty), every)
    leverage = every.T * _quadratic(normal, jacobian).T
    left = _left_out(x, target, every, penalty, c, t, leverage)
    residuals = y - predict(c, t, x)
    freedom = np.maximum(np.sum(every.T * (1 - leverage), axis=0), every.mean(axis=1))
    scale = np.sqrt(np.sum(every.T * residuals**2, axis=0) / freedom)
    return Laws(c, t, x, y, k, every.T, penalty, left, np.clip(leverage, 0, 1), scale)


_MOST_REFITS = 64
"""Runs up to which each is left out by a refit. With more, one run moves a law little, the closed
form is as good, and ``E x K`` refits would take longer than a proposal may."""


def _left_out(
    x: Array, y: Array, every: Array, penalty: Array, c: Array, t: Array, leverage: Array
) -> Array:
    """Leave-one-out predictions, shape ``(K, E)``: the same fit with one weight zero."""
    runs, sets = len(x), len(y)
    if runs > _MOST_REFITS:
        fitted = predict(c, t, x)
        return np.asarray(y.T - (y.T - fitted) / np.maximum(1 - leverage, 0.05))
    weights = (every[:, None] * (1.0 - np.eye(runs))).reshape(-1, runs)
    again = np.repeat(np.arange(sets), runs)
    c_out, t_out = polish(x, y[again], weights, penalty[again], c[again], t[again], steps=8)
    left = c_out + np.exp(np.minimum(np.sum(t_out * np.tile(x, (sets, 1)), axis=1), _T_LIMIT))
    return np.asarray(left.reshape(sets, runs).T)


def _deviation(m: int, sets: int, shape: Array | None) -> Array:
    """Projections onto what the prior does not explain, shape ``(E, m, m)``."""
    ones = np.full((m, m), 1.0 / m)
    deviation = np.tile(np.eye(m) - ones, (sets, 1, 1))
    if shape is not None:
        centred = shape - shape.mean(axis=1, keepdims=True)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        # A prior that is flat up to rounding has no direction: one made of rounding errors is not
        # orthogonal to the ones, which would leave a penalty with a negative eigenvalue.
        told = length > 1e-6 * (1 + np.linalg.norm(shape, axis=1, keepdims=True))
        unit = np.where(told, centred / np.maximum(length, 1e-9), 0.0)
        deviation -= unit[:, :, None] * unit[:, None, :]
    return deviation


def _start(x: Array, y: Array, every: Array, deviation: Array) -> tuple[Array, Array, Array]:
    """Floor, slopes and ridge by leave-one-out error; ``(c (E,), t (E, m), ridge (E,))``.

    The ridge is chosen again at the floor that a polish finds: on the grid, a stiff ridge makes up
    for a floor that is a little off, and would then stay.
    """
    low = y.min(axis=1)
    spread = np.maximum(y.max(axis=1) - low, 1e-6 * low)
    even = low[:, None] * np.linspace(0, 0.98, _FLOORS)
    near = low[:, None] - spread[:, None] * np.array(_NEAR)
    floors = np.concatenate([even, np.where(near > 0, near, 0.0)], axis=1)  # (E, F)
    # Where sets are many, a coarser grid: the polish finds what lies between.
    thin = 1 if len(y) <= FEW else 2
    ridges = RIDGES if len(y) <= FEW else RIDGES[1:4:2]
    c, t, _ = _grid(x, y, every, deviation, floors[:, ::thin], ridges)
    size = np.mean(every * (y - c[:, None]) ** 2, axis=1)
    loose = (_LOOSE * size)[:, None, None] * deviation
    c, _ = polish(x, y, every, loose, c, t, steps=30)
    return _grid(x, y, every, deviation, np.minimum(c, low - 1e-3 * spread)[:, None], RIDGES)


def _grid(
    x: Array, y: Array, every: Array, deviation: Array, floors: Array, ridges: tuple[float, ...]
) -> tuple[Array, Array, Array]:
    """The best of ``floors`` (shape ``(E, F)``) and ``ridges``, by leave-one-out error."""
    each = floors.shape[1] * len(ridges) * x.shape[1] ** 2
    found = [
        _best(x, y[g], every[g], deviation[g], floors[g], np.array(ridges))
        for g in groups(len(y), each)
    ]
    c, t, ridge = (np.concatenate(part) for part in zip(*found, strict=True))
    return c, t, ridge


def _best(
    x: Array, y: Array, every: Array, deviation: Array, floors: Array, ridges: Array
) -> tuple[Array, Array, Array]:
    """``_grid`` for some of the sets."""
    gap = y[:, None, :] - floors[:, :, None]  # (E, F, K)
    logs = np.log(gap)
    weights = every[:, None] * gap**2
    gram = squares(weights, x)
    moment = np.einsum("efk,kj->efj", weights * logs, x)
    size = weights.mean(axis=2)
    system = (
        gram[:, :, None]
        + (size[:, :, None] * ridges)[..., None, None] * deviation[:, None, None]
        + 1e-9 * size[:, :, None, None, None] * np.eye(x.shape[1])
    )  # (E, F, R, m, m)
    inverse = np.linalg.inv(system)
    t = np.einsum("efrjl,efl->efrj", inverse, moment)
    fitted = floors[:, :, None, None] + np.exp(
        np.clip(np.einsum("efrj,kj->efrk", t, x), -_T_LIMIT, _T_LIMIT)
    )
    leverage = weights[:, :, None] * hat(x, inverse)
    error = (y[:, None, None] - fitted) / np.maximum(1 - leverage, 0.05)
    score = np.mean(every[:, None, None] * error**2, axis=3)  # (E, F, R)
    best = score.reshape(len(y), -1).argmin(axis=1)
    f, r = np.divmod(best, len(ridges))
    rows = np.arange(len(y))
    return floors[rows, f], t[rows, f, r], ridges[r]


_MOST_NUMBERS = 2_000_000
"""Entries of the derivatives held at once: 16 MB in each of a few arrays, however many laws."""


def polish(
    x: Array, y: Array, weights: Array, penalty: Array, c: Array, t: Array, *, steps: int
) -> tuple[Array, Array]:
    """Levenberg-Marquardt for ``N`` laws at once, from the given start.

    Minimises ``sum_k weights_k (c + exp(x_k . t) - y_k)^2 + t' penalty t``.

    Args:
        x: Shape ``(K, m)``.
        y: Shape ``(N, K)``.
        weights: Shape ``(N, K)``, non-negative.
        penalty: Shape ``(N, m, m)``.
        c: Shape ``(N,)``.
        t: Shape ``(N, m)``.
        steps: Iterations; a law whose step does not lower its loss is damped instead.
    """
    at_once = max(1, _MOST_NUMBERS // (x.shape[0] * (x.shape[1] + 1)))
    pieces = [
        _polish(x, y[i], weights[i], penalty[i], c[i], t[i], steps)
        for i in (slice(first, first + at_once) for first in range(0, len(y), at_once))
    ]
    return np.concatenate([c for c, _ in pieces]), np.concatenate([t for _, t in pieces])


def _polish(
    x: Array, y: Array, weights: Array, penalty: Array, c: Array, t: Array, steps: int
) -> tuple[Array, Array]:
    top = np.where(weights > 0, y, np.inf).min(axis=1)
    padded = _pad(penalty)
    n, parameters = len(y), x.shape[1] + 1
    damping = np.full(n, 1e-3)
    theta = np.concatenate([np.clip(c, 0, top)[:, None], t], axis=1)  # (N, m + 1)

    def loss(at: Array) -> tuple[Array, Array, Array]:
        rise = np.exp(np.minimum(at[:, 1:] @ x.T, _T_LIMIT))
        error = at[:, :1] + rise - y
        ridge = np.einsum("nj,njl,nl->n", at[:, 1:], penalty, at[:, 1:])
        return np.sum(weights * error**2, axis=1) + ridge, error, rise

    value, error, rise = loss(theta)
    for _ in range(steps):
        jacobian = np.concatenate([np.ones((n, len(x), 1)), rise[:, :, None] * x], axis=2)
        normal = _normal(jacobian, padded, weights)
        gradient = np.einsum("nkj,nk->nj", jacobian, weights * error)
        gradient += np.einsum("njl,nl->nj", padded, theta)
        diagonal = np.einsum("njj->nj", normal)
        system = normal + (damping[:, None] * diagonal)[:, :, None] * np.eye(parameters)
        moved = theta - np.linalg.solve(system, gradient[:, :, None])[:, :, 0]
        moved[:, 0] = np.clip(moved[:, 0], 0, top)
        moved[:, 1:] = np.clip(moved[:, 1:], -_T_LIMIT, _T_LIMIT)
        new_value, new_error, new_rise = loss(moved)
        better = new_value <= value
        gained = np.where(better, value - new_value, 0.0)
        theta = np.where(better[:, None], moved, theta)
        error = np.where(better[:, None], new_error, error)
        rise = np.where(better[:, None], new_rise, rise)
        value = np.where(better, new_value, value)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-10, 1e10)
        if np.all(better) and np.all(gained <= 1e-10 * value):
            break
    return theta[:, 0], theta[:, 1:]


def derivatives(t: Array, x: Array) -> Array:
    """Derivative of the predicted loss by ``(c, t)``, shape ``(N, K, m + 1)``."""
    rise = np.exp(np.minimum(t @ x.T, _T_LIMIT))
    return np.concatenate([np.ones((*rise.shape, 1)), rise[:, :, None] * x], axis=2)


def _pad(penalty: Array) -> Array:
    """The ridge over ``(c, t)``: the floor is not penalised."""
    return np.pad(penalty, ((0, 0), (1, 0), (1, 0)))


def _normal(jacobian: Array, penalty: Array, weights: Array) -> Array:
    normal = np.matmul(np.swapaxes(jacobian, 1, 2), weights[:, :, None] * jacobian) + penalty
    diagonal = np.einsum("njj->nj", normal)
    # Where all losses are equal the floor and the level can not be told apart: keep it regular.
    jitter = 1e-9 * diagonal + 1e-15 * diagonal.max(axis=1, keepdims=True)
    return np.asarray(normal + jitter[:, :, None] * np.eye(normal.shape[1]))


def _quadratic(normal: Array, g: Array) -> Array:
    """``g' normal^-1 g`` for ``g (E, n, m + 1)``, shape ``(E, n)``, never negative.

    By Cholesky on a unit diagonal: slopes of a steep and of a flat domain differ in scale by many
    orders, and a plain inverse of such a matrix can lose its sign.
    """
    unit = np.sqrt(np.einsum("njj->nj", normal))
    factor = np.linalg.cholesky(normal / (unit[:, :, None] * unit[:, None, :]))
    half = np.linalg.solve(factor, np.swapaxes(g / unit[:, None, :], 1, 2))
    return np.asarray(np.sum(half**2, axis=1))
