"""From a model of one rung to a model of a ladder: an affine map per evaluation set.

A cheap rung ranks mixtures much as the target does, but each evaluation set shrinks or stretches
by its own factor. So a rung with too few runs for a fit of its own borrows the fit of its *anchor*,
the nearest rung that has one, lower rungs first::

    L_e(p, r) = alpha + b (g(p) - centre) + d(p),    g the anchor's prediction

with ``alpha`` and ``b`` by Bayesian regression on the rung's runs and ``d`` what is left: an
independent, smooth discrepancy with the variance of the residuals. A rung that has runs enough is
fitted on its own *and* mapped, and leave-one-out log density chooses, per set.

Runs of earlier jobs (``task > 0``) do not enter: an affine map can not say how far to trust them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Indices, Loo, Model, Runs, Surrogate
from cuvee.errors import EngineError

__all__ = [
    "Ladder",
    "RungFit",
    "bounded",
    "check",
    "kernel",
    "log_density",
    "split_noise",
    "trust",
]

SLOPE = 0.7
"""Prior mean of the slope of a rung on a cheaper one; slopes of RegMix's 1B runs on 1M runs go from
0.2 to 1.05, and from 60M to 1M they are nearly one."""

SLOPE_SD = 0.5
_DISCREPANCY = (
    0.2  # prior standard deviation of what a map misses, over that of the anchor's losses
)
_PRIOR_RUNS = 3.0  # how many residuals that prior weighs
_OWN = 1.5  # runs, over the least, before a rung above another is fitted on its own
_MISS = 0.1  # of the losses' deviation, that a law misses: the unit in which variances are small
_LEAST_PART = 1e-3  # of the residual variance: neither noise nor discrepancy is ever quite nothing
_UNHEARD = 0.01  # of the greatest weight: less is no measurement, as far as a fit is concerned
_LEVEL_SD = 0.5  # of the mean loss: what is known of a rung's level before it has a run
_LENGTH = 0.35  # of a discrepancy, in |sqrt(p) - sqrt(q)|; random mixtures are about 0.8 apart
_SWEEPS = 4  # the residual variance and the slope depend on each other; 4 settle them


class RungFit:
    """What a fit of one rung answers; arrays as in ``Model``, without the rung."""

    noise: Array
    loo: Loo

    @abstractmethod
    def mean(self, p: Array) -> Array:
        """Shape ``(n, E)``."""

    @abstractmethod
    def var(self, p: Array) -> Array:
        """Shape ``(n, E)``."""

    @abstractmethod
    def cov(self, p: Array, q: Array) -> Array:
        """Shape ``(E, n, k)``."""


def check(runs: Runs) -> None:
    """Refuse what no formula can be fitted to.

    Raises:
        EngineError: If a share or a loss is not finite.
    """
    if not (np.all(np.isfinite(runs.y)) and np.all(np.isfinite(runs.x))):
        raise EngineError("a mixture or a measured loss is not finite")


def kernel(p: Array, q: Array) -> Array:
    """Correlation of a smooth discrepancy at ``p (n, m)`` and ``q (k, m)``, shape ``(n, k)``."""
    a, b = np.sqrt(np.maximum(p, 0.0)), np.sqrt(np.maximum(q, 0.0))
    square = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-0.5 * np.maximum(square, 0.0) / _LENGTH**2))


def log_density(y: Array, prediction: Loo) -> Array:
    """Log densities of measurements under normal predictions, shape ``(K, E)``."""
    z = (y - prediction.mean) ** 2 / prediction.var
    return np.asarray(-0.5 * (z + np.log(2 * np.pi * prediction.var)))


def trust(runs: Runs) -> Array:
    """Weights of measurements in a fit, in (0, 1], shape ``(K, E)``: less where they are uncertain.

    A known variance counts against a tenth of the losses' deviation, about what a law misses
    anyway; a measurement that screening has muted weighs next to nothing.
    """
    if not len(runs):
        return np.ones_like(runs.variance)
    muted = runs.variance > runs.y.var(axis=0)
    plain = np.where(muted, np.nan, runs.y)
    spread = np.nanstd(plain, axis=0) if not np.all(muted, axis=0).any() else runs.y.std(axis=0)
    miss = (_MISS * spread) ** 2 + 1e-12 * np.mean(runs.y**2, axis=0) + 1e-300
    return np.asarray(miss / (miss + runs.variance))


def bounded(y: Array, weight: Array) -> Array:
    """Losses ``(K, E)``, those of next to no weight moved into the range of the others of the set.

    Where a law starts and how high its floor may lie depend on the least and the greatest loss,
    which no weights temper.
    """
    heard = weight >= _UNHEARD * weight.max(axis=0, initial=0.0)
    low = np.min(y, axis=0, where=heard, initial=np.inf)
    return np.clip(y, low, np.max(y, axis=0, where=heard, initial=-np.inf))


def split_noise(runs: Runs, residual: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """Residual variances ``(E,)`` as noise of a run and discrepancy of the fit, both ``(E,)``.

    Noise comes from repeated mixtures, or is the known variance of the measurement where that is
    more. Without repeats nothing tells the two apart: each is taken to be half. Measurements count
    by their ``weight (K, E)``, ``trust`` when not given: a repeat that has been muted is none.
    """
    weight = trust(runs) if weight is None else weight
    # By the square of the weights: a variance that stands for a muted measurement is not known.
    known = np.sum(weight**2 * runs.variance, axis=0) / np.maximum(
        np.sum(weight**2, axis=0), _UNHEARD**2
    )
    _, which = np.unique(np.round(runs.x, 5), axis=0, return_inverse=True)
    which = which.reshape(-1)
    total, squares, moment = np.zeros((3, which.max(initial=-1) + 1, len(residual)))
    np.add.at(total, which, weight)
    np.add.at(squares, which, weight**2)
    np.add.at(moment, which, weight * runs.y)
    within = np.sum(weight * (runs.y - (moment / total)[which]) ** 2, axis=0)
    # Of a weighted sum of squares about weighted means, over the variance: its expectation.
    freedom = np.maximum(np.sum(total - squares / total, axis=0), 0.0)
    # (within + residual / 2 / freedom) / (freedom + 1 / freedom), also where freedom is nothing:
    # one degree says little, half of the residual counts as another, and ever less.
    noise = (freedom * within + residual / 2) / (freedom**2 + 1)
    noise = np.maximum(np.maximum(noise, known), _LEAST_PART * residual)
    return noise, np.maximum(residual - noise, _LEAST_PART * residual)


@dataclass(frozen=True)
class _Link:
    """How one rung follows from the anchors' fits, per set; all shapes ``(E,)`` unless said."""

    anchor: Indices
    offset: Array
    slope: Array
    centre: Array
    spread: Array  # (E, 2, 2), covariance of offset and slope
    discrepancy: Array
    noise: Array
    loo: Loo


@dataclass(frozen=True)
class LadderModel(Model):
    """Fits of the anchors and the maps from them."""

    runs: Runs
    fits: dict[int, RungFit]
    links: dict[int, _Link]

    def _anchored(self, link: _Link, p: Array) -> Array:
        found = np.empty((len(p), len(link.slope)))
        for anchor in np.unique(link.anchor):
            here = link.anchor == anchor
            found[:, here] = self.fits[int(anchor)].mean(p)[:, here]
        return found

    def mean(self, p: Array, rung: int) -> Array:
        link = self.links[rung]
        return np.asarray(link.offset + link.slope * (self._anchored(link, p) - link.centre))

    def var(self, p: Array, rung: int) -> Array:
        link = self.links[rung]
        away = self._anchored(link, p) - link.centre
        found = link.discrepancy + link.spread[:, 0, 0] + 2 * away * link.spread[:, 0, 1]
        found = found + away**2 * link.spread[:, 1, 1]
        for anchor in np.unique(link.anchor):
            here = link.anchor == anchor
            own = self.fits[int(anchor)].var(p)[:, here]
            found[:, here] += (link.slope[here] ** 2 + link.spread[here, 1, 1]) * own
        return np.asarray(found)

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        one, two = self.links[rung], self.links[other]
        found = np.zeros((len(one.slope), len(p), len(q)))
        same = rung == other
        for anchor in np.intersect1d(one.anchor, two.anchor):
            here = (one.anchor == anchor) & (two.anchor == anchor)
            factor = one.slope[here] * two.slope[here] + same * one.spread[here, 1, 1]
            found[here] += factor[:, None, None] * self.fits[int(anchor)].cov(p, q)[here]
        if same:
            left = (self._anchored(one, p) - one.centre).T[:, :, None]
            right = (self._anchored(one, q) - one.centre).T[:, None, :]
            spread = one.spread[:, :, :, None, None]
            found += spread[:, 0, 0] + spread[:, 0, 1] * (left + right)
            found += spread[:, 1, 1] * left * right
            found += one.discrepancy[:, None, None] * kernel(p, q)
        return found

    def loo(self) -> Loo:
        mean, var = np.empty_like(self.runs.y), np.empty_like(self.runs.y)
        for rung in np.unique(self.runs.rung):
            link = self.links[int(rung)]
            mine = (self.runs.rung == rung) & (self.runs.task == 0)
            mean[mine], var[mine] = link.loo.mean, link.loo.var
            # Runs of earlier jobs were not fitted: to leave one out changes nothing.
            others = (self.runs.rung == rung) & (self.runs.task != 0)
            mean[others] = self.mean(self.runs.x[others], int(rung))
            var[others] = self.var(self.runs.x[others], int(rung)) + link.noise
        return Loo(mean, var)

    def noise(self, rung: int) -> Array:
        return self.links[rung].noise


class Ladder(Surrogate):
    """A surrogate of one rung, carried over the ladder by affine maps."""

    @abstractmethod
    def fit_rung(self, runs: Runs) -> RungFit:
        """Fit the runs of one rung, at least ``least_runs`` of them."""

    def fit(self, runs: Runs) -> LadderModel:
        check(runs)
        own = runs.where(runs.task == 0)
        counts = np.bincount(own.rung, minlength=runs.rungs)
        least = self.least_runs(runs.x.shape[1])
        fits: dict[int, RungFit] = {}
        for r in range(runs.rungs):
            # With hardly more runs than parameters a map from below is better than its own fit.
            if counts[r] >= (_OWN * least if fits else least):
                fits[r] = self.fit_rung(own.at(r))
        if not fits:
            raise EngineError(
                f"{self.name} over {runs.x.shape[1]} domains needs at least {least} runs of one "
                f"rung, there are {', '.join(str(n) for n in counts)}"
            )
        # A muted measurement is none, and by set: it takes no other set's fit away.
        heard = ~runs.muted[runs.task == 0]
        links = {}
        for r in range(runs.rungs):
            few = np.sum(heard[own.rung == r], axis=0) < _OWN * least
            links[r] = _link(own.at(r), r, fits, few)
        return LadderModel(runs, fits, links)


def _link(runs: Runs, rung: int, fits: dict[int, RungFit], few: npt.NDArray[np.bool_]) -> _Link:
    """How a rung follows; a set with ``few`` measurements, of shape ``(E,)``, only from below."""
    lower = [r for r in fits if r < rung]
    higher = [r for r in fits if r > rung]
    sets = runs.y.shape[1]
    if rung in fits:
        fit = fits[rung]
        zero = np.zeros(sets)
        at = np.full(sets, rung, dtype=np.intp)
        own = _Link(at, zero, zero + 1, zero, np.zeros((sets, 2, 2)), zero, fit.noise, fit.loo)
        if not lower:
            return own
        mapped = _map(runs, max(lower), fits[max(lower)])
        gain = log_density(runs.y, mapped.loo) - log_density(runs.y, fit.loo)
        return _either(mapped, own, few | (np.sum(trust(runs) * gain, axis=0) > 0))
    anchor = max(lower) if lower else min(higher)
    return _map(runs, anchor, fits[anchor])


def _either(one: _Link, two: _Link, choose: npt.NDArray[np.bool_]) -> _Link:
    """``one`` for the sets where ``choose``, else ``two``."""
    return _Link(
        np.where(choose, one.anchor, two.anchor),
        np.where(choose, one.offset, two.offset),
        np.where(choose, one.slope, two.slope),
        np.where(choose, one.centre, two.centre),
        np.where(choose[:, None, None], one.spread, two.spread),
        np.where(choose, one.discrepancy, two.discrepancy),
        np.where(choose, one.noise, two.noise),
        Loo(
            np.where(choose, one.loo.mean, two.loo.mean),
            np.where(choose, one.loo.var, two.loo.var),
        ),
    )


def _map(runs: Runs, anchor: int, fit: RungFit) -> _Link:
    """Regress a rung's runs on the anchor's predictions; leave-one-out by dropping each run."""
    count, sets = runs.y.shape
    base = fit.loo.mean  # stands for the range of losses that the anchor predicts
    predicted = fit.mean(runs.x) if count else np.empty((0, sets))
    guess = (SLOPE * _DISCREPANCY * base.std(axis=0)) ** 2 + fit.noise
    # As ``trust``, but against what the map is expected to miss: a few runs, or one, have no
    # deviation to compare their variance with.
    weight = guess / (guess + runs.variance)
    centre = np.average(predicted, axis=0, weights=weight) if count else base.mean(axis=0)
    level = (_LEVEL_SD * np.abs(base.mean(axis=0))) ** 2
    away = predicted - centre
    keep = np.concatenate([np.ones((1, count)), 1.0 - np.eye(count)])  # all, then without each
    theta, spread, residual = _regress(away, runs.y, weight, keep, centre, guess, level)
    noise, discrepancy = split_noise(runs, residual[0], weight)
    out_theta, out_spread, out_residual = theta[1:], spread[1:], residual[1:]
    mean = out_theta[..., 0] + out_theta[..., 1] * away
    var = (
        out_residual / weight
        + out_spread[..., 0, 0]
        + 2 * away * out_spread[..., 0, 1]
        + away**2 * out_spread[..., 1, 1]
    )
    if count:
        var = var + (out_theta[..., 1] ** 2) * fit.var(runs.x)
    return _Link(
        np.full(sets, anchor, dtype=np.intp),
        theta[0, :, 0],
        theta[0, :, 1],
        centre,
        spread[0],
        discrepancy,
        noise,
        Loo(mean, var),
    )


def _regress(
    away: Array,
    y: Array,
    weight: Array,
    keep: Array,
    centre: Array,
    guess: Array,
    level: Array,
) -> tuple[Array, Array, Array]:
    """Offset and slope for each row of ``keep (D, K)`` and each set.

    A run's squared error is the residual variance over its ``weight (K, E)``.
    Returns ``theta (D, E, 2)``, ``spread (D, E, 2, 2)`` and the residual variance ``(D, E)``.
    """
    ones, x1, x2 = keep @ weight, keep @ (weight * away), keep @ (weight * away**2)
    t0, t1 = keep @ (weight * y), keep @ (weight * away * y)
    residual = np.broadcast_to(guess, x1.shape).copy()
    theta = np.zeros((*x1.shape, 2))
    spread = np.zeros((*x1.shape, 2, 2))
    for _ in range(_SWEEPS):
        # Precision of (offset, slope) with priors N(centre, level) and N(SLOPE, SLOPE_SD^2).
        a = ones / residual + 1 / level
        b = x1 / residual
        d = x2 / residual + 1 / SLOPE_SD**2
        u, v = t0 / residual + centre / level, t1 / residual + SLOPE / SLOPE_SD**2
        det = a * d - b**2
        theta = np.stack([(d * u - b * v) / det, (a * v - b * u) / det], axis=-1)
        spread = np.stack([np.stack([d, -b], -1), np.stack([-b, a], -1)], -2) / det[..., None, None]
        error = y - theta[:, None, :, 0] - theta[:, None, :, 1] * away  # (D, K, E), the largest
        error *= error
        error *= weight
        squares = np.einsum("dk,dke->de", keep, error)
        # Degrees of freedom that the data, not the priors, determine.
        used = (a - 1 / level) * spread[..., 0, 0] + 2 * b * spread[..., 0, 1]
        used = used + (d - 1 / SLOPE_SD**2) * spread[..., 1, 1]
        residual = (_PRIOR_RUNS * guess + squares) / (_PRIOR_RUNS + np.maximum(ones - used, 0.0))
    return theta, spread, residual
