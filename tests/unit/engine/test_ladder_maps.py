"""The affine maps of a ladder against independent references.

Regression in the space of weights is checked against the same model in the space of functions (a
Gaussian process with a linear kernel), and a ladder's covariances against draws of what they
describe: offsets, slopes, anchors and discrepancies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates import rungs
from cuvee.engine.surrogates.base import Loo, Runs
from cuvee.engine.surrogates.rungs import Ladder, LadderModel, RungFit

SETS = 2
SLOPES = np.array([[0.4, -0.3, 0.8], [-0.5, 0.2, 0.1]])  # (E, m)


def g(p: Array) -> Array:
    """What the lower rung measures, without noise, shape ``(n, E)``."""
    return 2.0 + p @ SLOPES.T


@dataclass(frozen=True)
class Known(RungFit):
    """A fit that knows the lower rung up to a smooth, known uncertainty."""

    noise: Array
    loo: Loo
    sd: float

    def mean(self, p: Array) -> Array:
        return g(p)

    def var(self, p: Array) -> Array:
        return np.full((len(p), SETS), self.sd**2)

    def cov(self, p: Array, q: Array) -> Array:
        apart = np.sum((p[:, None] - q[None]) ** 2, axis=-1)
        return np.tile(self.sd**2 * np.exp(-apart), (SETS, 1, 1))


class KnownBelow(Ladder):
    """Needs 12 runs of a rung, so that a rung with fewer is mapped."""

    name = "known"

    def __init__(self, sd: float) -> None:
        self.sd = sd

    def least_runs(self, domains: int) -> int:
        return 12

    def fit_rung(self, runs: Runs) -> RungFit:
        noise = np.full(SETS, 1e-4)
        return Known(noise, Loo(runs.y, np.full_like(runs.y, 1e-4)), self.sd)


def history(variance: float = 0.0) -> Runs:
    """Twelve runs below, seven above that shrink and lift one set and stretch the other."""
    rng = np.random.default_rng(8)
    low, high = rng.dirichlet(np.ones(3), size=12), rng.dirichlet(np.ones(3), size=7)
    above = np.array([0.6, 1.2]) * g(high) + np.array([0.3, -0.5]) + 0.02 * rng.normal(size=(7, 2))
    given = np.zeros((19, SETS))
    given[12:] = variance * rng.uniform(0.5, 2.0, size=(7, SETS))
    return Runs.of(
        np.concatenate([low, high]),
        np.concatenate([g(low), above]),
        np.repeat([0, 1], [12, 7]),
        variance=given,
    )


def fitted(sd: float, variance: float = 0.0) -> tuple[Runs, LadderModel]:
    runs = history(variance)
    return runs, KnownBelow(sd).fit(runs)


def by_functions(
    away: Array, y: Array, noise: Array, centre: float, level: float, at: Array
) -> tuple[Array, Array]:
    """Mean and covariance at ``at`` of offset and slope's line, by conditioning a GP."""

    def kernel(a: Array, b: Array) -> Array:
        return np.asarray(level + rungs.SLOPE_SD**2 * np.outer(a, b))

    gain = kernel(at, away) @ np.linalg.inv(kernel(away, away) + np.diag(noise))
    prior = centre + rungs.SLOPE * away
    mean = centre + rungs.SLOPE * at + gain @ (y - prior)
    return mean, kernel(at, at) - gain @ kernel(away, at)


@pytest.mark.parametrize("variance", [0.0, 1e-3])
def test_the_map_is_a_gaussian_process_with_a_linear_kernel(variance: float) -> None:
    runs, model = fitted(0.0, variance)
    link, high = model.links[1], runs.at(1)
    base = g(runs.at(0).x)
    p = np.random.default_rng(9).dirichlet(np.ones(3), size=5)
    for e in range(SETS):
        guess = (rungs.SLOPE * 0.2 * base[:, e].std()) ** 2 + 1e-4
        weight = guess / (guess + high.variance[:, e])
        centre = np.average(g(high.x)[:, e], weights=weight)
        level = (0.5 * abs(base[:, e].mean())) ** 2
        away = g(high.x)[:, e] - centre
        residual = guess
        for _ in range(50):  # the code stops at 4 sweeps: it must have settled by then
            noise = residual / weight
            line, cov = by_functions(away, high.y[:, e], noise, centre, level, away)
            # Trace of the smoother: how many parameters the data determine.
            used = np.trace(cov @ np.diag(1 / noise))
            squares = np.sum(weight * (high.y[:, e] - line) ** 2)
            residual = (3 * guess + squares) / (3 + max(weight.sum() - used, 0.0))
        expected, cov = by_functions(
            away, high.y[:, e], residual / weight, centre, level, g(p)[:, e] - centre
        )
        assert model.mean(p, 1)[:, e] == pytest.approx(expected, abs=1e-3)
        uncertain = model.cov(p, 1, p, 1)[e] - link.discrepancy[e] * rungs.kernel(p, p)
        assert uncertain == pytest.approx(cov, rel=0.02, abs=1e-7)
        assert link.noise[e] + link.discrepancy[e] >= 0.98 * residual


def test_leaving_a_run_out_is_fitting_without_it() -> None:
    runs, model = fitted(0.05, 1e-3)
    loo = model.loo()
    centre = model.links[1].centre  # of all runs: where a line is written about changes nothing
    for i in range(12, 19):
        without = KnownBelow(0.05).fit(runs.where(np.arange(19) != i))
        assert without.links[1].centre != pytest.approx(centre, abs=1e-6)
        predicted = without.mean(runs.x[i : i + 1], 1)[0]
        # The level's prior sits at the centre, which differs a little.
        assert loo.mean[i] == pytest.approx(predicted, abs=2e-3)


def test_covariances_are_those_of_draws() -> None:
    _, model = fitted(0.05)
    link = model.links[1]
    rng = np.random.default_rng(10)
    p = rng.dirichlet(np.ones(3), size=3)
    count = 400_000
    for e in range(SETS):
        apart = np.sum((p[:, None] - p[None]) ** 2, axis=-1)
        below = rng.multivariate_normal(g(p)[:, e], 0.05**2 * np.exp(-apart), size=count)
        line = rng.multivariate_normal([link.offset[e], link.slope[e]], link.spread[e], size=count)
        smooth = link.discrepancy[e] * rungs.kernel(p, p)
        missed = rng.multivariate_normal(np.zeros(3), smooth, size=count)
        above = line[:, :1] + line[:, 1:] * (below - link.centre[e]) + missed
        drawn = np.cov(np.concatenate([below, above], axis=1).T)
        scale = np.sqrt(np.outer(np.diag(drawn), np.diag(drawn)))
        blocks = [[model.cov(p, r, p, s)[e] for s in (0, 1)] for r in (0, 1)]
        assert np.abs((np.block(blocks) - drawn) / scale).max() < 0.01
        assert model.var(p, 1)[:, e] == pytest.approx(np.diag(drawn)[3:], rel=0.02)
        assert model.mean(p, 1)[:, e] == pytest.approx(above.mean(axis=0), abs=1e-3)
