"""A surrogate fitted to logarithms above a floor: ``z = log(y - c)`` in, losses out.

Losses fall steeply from the faces of the simplex and flatten inside. ``log(y - c)`` is nearly
linear in the shares (that is the log-linear law), so a process on it need not bend where the losses
do: steep faces no longer shorten the lengths with which the interior is drawn. Errors are taken to
be in proportion to ``y - c``, larger in steep places than in flat ones, as they are.

The floor of a set is ``BELOW`` standard deviations below its least loss. Rungs share one
shape of the transformation: the floor of a rung is that far below what the power law, carried over
the ladder, predicts for *all* mixtures that were run anywhere, so that a rung with three runs has a
floor as sensible as one with hundreds. Moments go back by the delta method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Loo, Model, Runs, Surrogate
from cuvee.engine.surrogates.power import Power
from cuvee.engine.surrogates.rungs import check

__all__ = ["Warped", "WarpedModel"]

BELOW = 0.6
"""Floor below the least loss, in standard deviations of the losses. On splits of RegMix's 512
training runs (32 runs fitted, 4 splits) the mean log density of held-out losses is 0.91 without a
floor, 1.27, 1.42, 1.43, 1.29 at 0.15, 0.3, 0.6, 1.8."""

_MOST = 30.0  # of z: exp(30) is no loss; keeps a wild extrapolation from overflowing
_LEAST_SD = 1e-6  # of the level: where all losses of a set are equal


@dataclass(frozen=True)
class WarpedModel(Model):
    """The model of the logarithms; floors of the rungs ``(R, E)`` and of the runs ``(K, E)``."""

    runs: Runs
    inner: Model
    floor: Array
    below: Array

    def mean(self, p: Array, rung: int) -> Array:
        """The median, which is the mean to first order."""
        return np.asarray(self.floor[rung] + self._rise(p, rung))

    def var(self, p: Array, rung: int) -> Array:
        return np.asarray(self._rise(p, rung) ** 2 * self.inner.var(p, rung))

    def moments(self, p: Array, rung: int) -> tuple[Array, Array]:
        mean, var = self.inner.moments(p, rung)
        rise = np.exp(np.minimum(mean, _MOST))
        return np.asarray(self.floor[rung] + rise), np.asarray(rise**2 * var)

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        left, right = self._rise(p, rung).T, self._rise(q, other).T
        return np.asarray(left[:, :, None] * self.inner.cov(p, rung, q, other) * right[:, None, :])

    def loo(self) -> Loo:
        left = self.inner.loo()
        rise = np.exp(np.minimum(left.mean, _MOST))
        # The known variance of a loss is in bits per byte; only the rest is in proportion.
        own = np.maximum(left.var - self.inner.runs.variance, 1e-12 * left.var)
        return Loo(self.below + rise, rise**2 * own + self.runs.variance)

    def noise(self, rung: int) -> Array:
        """At a mixture like the median run of the rung: the noise differs from place to place."""
        here = self.runs.y[(self.runs.rung == rung) & (self.runs.task == 0)]
        rise = here if len(here) else self.mean(self.runs.x, rung)
        return np.asarray(np.median(rise - self.floor[rung], axis=0) ** 2 * self.inner.noise(rung))

    def _rise(self, p: Array, rung: int) -> Array:
        return np.asarray(np.exp(np.minimum(self.inner.mean(p, rung), _MOST)))


class Warped(Surrogate):
    """``inner`` on ``log(y - c)``.

    Args:
        inner: What is fitted to the logarithms.
    """

    def __init__(self, inner: Surrogate) -> None:
        self.inner = inner
        self.law = Power()
        self.name = f"log_{inner.name}"

    def least_runs(self, domains: int) -> int:
        return self.inner.least_runs(domains)

    def fit(self, runs: Runs) -> WarpedModel:
        check(runs)
        own = runs.rung[runs.task == 0]
        alone = np.all(own == runs.target) and not np.any(runs.task)
        law = None if alone else self.law.fit(runs)
        heard = _heard(runs)
        floor = np.array([_floor(heard, law, rung) for rung in range(runs.rungs)])
        below = floor[runs.rung]
        for task, rung in {pair for pair in zip(runs.task, runs.rung, strict=True) if pair[0]}:
            rows = (runs.task == task) & (runs.rung == rung)
            # Another job's losses have a level of their own.
            below[rows] = _under(heard.y[rows])
        return WarpedModel(runs, self.inner.fit(_logs(heard, below)), floor, below)

    def refit(self, model: Model, runs: Runs) -> WarpedModel:
        """Floors are kept: they depend on the losses and hardly on their variances."""
        assert isinstance(model, WarpedModel)
        inner = self.inner.refit(model.inner, _logs(_heard(runs), model.below))
        return WarpedModel(runs, inner, model.floor, model.below)


def _logs(heard: Runs, below: Array) -> Runs:
    gap = heard.y - below
    return replace(heard, y=np.log(gap), variance=heard.variance / gap**2)


def _floor(heard: Runs, law: Model | None, rung: int) -> Array:
    """The floor of one rung, shape ``(E,)``; without a law, from its own runs, or all if none."""
    own = heard.task == 0
    here = own & (heard.rung == rung)
    losses = heard.y[here if np.any(here) or law is not None else own]
    if law is not None:
        elsewhere = law.mean(heard.x[own & ~here], rung)
        losses = np.concatenate([losses, elsewhere])
    return _under(losses)


def _heard(runs: Runs) -> Runs:
    """The runs; muted losses are replaced by the median of their rung's others.

    A muted loss has no say in the fit, and must have none in the floor either.
    """
    losses, muted = runs.y.copy(), runs.muted
    group = runs.task * runs.rungs + runs.rung
    for one in np.unique(group[muted.any(axis=1)]):
        here = group == one
        lost = muted[here]
        known = np.where(lost & ~lost.all(axis=0), np.nan, losses[here])
        losses[here] = np.where(lost, np.nanmedian(known, axis=0), losses[here])
    return replace(runs, y=losses)


def _under(losses: Array) -> Array:
    """Shape ``(E,)`` from losses ``(n, E)``."""
    spread = np.maximum(losses.std(axis=0), _LEAST_SD * np.abs(losses).mean(axis=0))
    return np.asarray(losses.min(axis=0) - BELOW * spread)
