"""A world whose posterior is known exactly: curvature given, slopes normal, noise normal.

``L_e(p, r) = 1 + curvature |p|^2 / 2 + b_e . p + (r below the target) d_e . p`` with priors
``b_e ~ N(centre_e, spread^2 I)`` and ``d_e ~ N(0, drift^2 I)``. A model of it is exact, so what
rests on a model can be checked without one being at fault; and the minimum of a draw over a region
is a Euclidean projection, ``project(-b / curvature)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Loo, Model, Runs


@dataclass(frozen=True)
class QuadraticWorld:
    """Priors and the truth drawn from them."""

    centre: Array  # (E, m)
    slope: Array  # (E, m), the truth at the target
    shift: Array  # (E, m), what the lower rung adds
    curvature: float = 1.0
    spread: float = 0.3
    drift: float = 0.1
    noise: float = 0.02

    @classmethod
    def draw(cls, rng: np.random.Generator, m: int, sets: int, **fixed: float) -> QuadraticWorld:
        centre = rng.normal(scale=0.3, size=(sets, m))
        plain = cls(centre, centre, np.zeros((sets, m)), **fixed)
        return replace(
            plain,
            slope=centre + plain.spread * rng.standard_normal((sets, m)),
            shift=plain.drift * rng.standard_normal((sets, m)),
        )

    def losses(self, p: Array, rung: int = 1) -> Array:
        """True losses at mixtures ``(n, m)``, shape ``(n, E)``; rung 1 is the target."""
        slope = self.slope if rung == 1 else self.slope + self.shift
        return 1 + self.curvature * np.sum(p * p, axis=1)[:, None] / 2 + p @ slope.T

    def measure(self, rng: np.random.Generator, x: Array, rung: Array | int = 1) -> Runs:
        rungs = np.broadcast_to(np.asarray(rung, dtype=np.intp), len(x))
        y = np.stack([self.losses(p[None], r)[0] for p, r in zip(x, rungs, strict=True)])
        return Runs.of(x, y + self.noise * rng.standard_normal(y.shape), rungs, rungs=2)

    def fit(self, runs: Runs) -> QuadraticModel:
        return QuadraticModel(runs, self)


@dataclass(frozen=True)
class QuadraticModel(Model):
    """The exact posterior."""

    runs: Runs
    world: QuadraticWorld
    root: Array = field(init=False)
    weight: Array = field(init=False)

    def __post_init__(self) -> None:
        design = self._features(self.runs.x, self.runs.rung)
        m = self.runs.x.shape[1]
        prior = np.repeat([self.world.spread**2, self.world.drift**2], m)
        precision = design.T @ design / self.world.noise**2 + np.diag(1 / prior)
        object.__setattr__(self, "root", np.linalg.inv(precision))
        rest = self.runs.y - self._known(self.runs.x)
        object.__setattr__(self, "weight", self.root @ design.T @ rest / self.world.noise**2)

    def _known(self, p: Array) -> Array:
        square = self.world.curvature * np.sum(p * p, axis=1)[:, None] / 2
        return np.asarray(1 + square + p @ self.world.centre.T)

    def _features(self, p: Array, rung: Array | int) -> Array:
        lower = (np.asarray(rung) < self.runs.target).astype(float)
        return np.concatenate([p, p * np.broadcast_to(lower, len(p))[:, None]], axis=1)

    def mean(self, p: Array, rung: int) -> Array:
        return np.asarray(self._known(p) + self._features(p, rung) @ self.weight)

    def var(self, p: Array, rung: int) -> Array:
        phi = self._features(p, rung)
        var = np.einsum("nk,kl,nl->n", phi, self.root, phi)
        return np.repeat(var[:, None], self.runs.y.shape[1], axis=1)

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        cov = self._features(p, rung) @ self.root @ self._features(q, other).T
        return np.repeat(cov[None], self.runs.y.shape[1], axis=0)

    def loo(self) -> Loo:
        means, variances = [], []
        for i in range(len(self.runs)):
            keep = np.arange(len(self.runs)) != i
            without = QuadraticModel(self.runs.where(keep), self.world)
            rung = int(self.runs.rung[i])
            means.append(without.mean(self.runs.x[i : i + 1], rung)[0])
            variances.append(without.var(self.runs.x[i : i + 1], rung)[0] + self.world.noise**2)
        return Loo(np.array(means), np.array(variances))

    def noise(self, rung: int) -> Array:
        return np.full(self.runs.y.shape[1], self.world.noise**2)

    def slopes(self, rng: np.random.Generator, count: int) -> Array:
        """Draws of the target's slopes, shape ``(count, E, m)``."""
        m = self.runs.x.shape[1]
        sets = self.runs.y.shape[1]
        mean = self.world.centre + self.weight[:m].T
        root = np.linalg.cholesky(self.root[:m, :m])
        return mean + rng.standard_normal((count, sets, m)) @ root.T
