"""A measurement without a say: laws, maps over the ladder and noise are as if it were not there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.log_linear import LogLinear
from cuvee.engine.surrogates.power import Power
from cuvee.engine.surrogates.rungs import Ladder, split_noise

M, LOW, HIGH = 4, 40, 6
SURROGATES = [Power(), LogLinear()]


def ladder(seed: int, high: int = HIGH) -> Runs:
    """Two sets, 40 runs below and a few at the target, which is an affine map of the rung below."""
    rng = np.random.default_rng(seed)
    worth = rng.uniform(0.2, 2.0, (2, M))
    x = rng.dirichlet(np.ones(M), LOW + high)
    y = 0.6 + 0.5 * (x @ worth.T + 0.02) ** -0.4
    y[LOW:] = 0.2 + 0.7 * y[LOW:]
    y += 0.005 * rng.standard_normal(y.shape)
    return Runs.of(x, y, np.repeat([0, 1], [LOW, high]))


def spoil(runs: Runs, row: int, by: float, muted: bool = True) -> Runs:
    """The runs with one loss of set 0 wrong, and muted as screening does."""
    y, variance = runs.y.copy(), runs.variance.copy()
    y[row, 0] += by
    variance[row, 0] += muted * 1e4 * y[:, 0].var()
    return replace(runs, y=y, variance=variance)


def without(runs: Runs, row: int) -> Runs:
    return runs.where(np.arange(len(runs)) != row)


@pytest.mark.parametrize("by", [1.0, -0.3])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.name)
def test_a_muted_run_of_a_rung_mapped_from_below_is_as_good_as_none(
    surrogate: Ladder, by: float
) -> None:
    runs, row = ladder(0), LOW + 3
    q = np.random.default_rng(1).dirichlet(np.ones(M), 50)
    muted, dropped = surrogate.fit(spoil(runs, row, by)), surrogate.fit(without(runs, row))
    assert dropped.links[1].anchor[0] == 0
    spread = np.ptp(runs.y[:, 0])
    assert_allclose(muted.mean(q, 1)[:, 0], dropped.mean(q, 1)[:, 0], atol=1e-3 * spread)
    assert_allclose(muted.var(q, 1)[:, 0], dropped.var(q, 1)[:, 0], rtol=0.02)
    assert_allclose(muted.noise(1)[0], dropped.noise(1)[0], rtol=0.02)
    assert_allclose(muted.links[1].slope[0], dropped.links[1].slope[0], atol=1e-3)
    # Nor do the errors of the others grow, but its own prediction is of a measurement without say.
    others = np.arange(len(runs)) != row
    assert_allclose(muted.loo().var[others, 0], dropped.loo().var[:, 0], rtol=0.02)
    assert muted.loo().var[row, 0] > 1e3 * np.median(dropped.loo().var[LOW:, 0])


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.name)
def test_the_only_run_of_a_rung_counts_unless_it_is_muted(surrogate: Ladder) -> None:
    runs = ladder(2, high=1)
    none = runs.where(runs.rung == 0)
    q = np.full((1, M), 1 / M)
    before = surrogate.fit(replace(none, rungs=2))
    muted = surrogate.fit(spoil(runs, LOW, 1.0))
    assert_allclose(muted.noise(1)[0], before.noise(1)[0], rtol=0.2)
    assert_allclose(muted.var(q, 1)[0, 0], before.var(q, 1)[0, 0], rtol=0.05)
    known = replace(runs, variance=runs.variance + 1e-5)  # measured well, though not exactly
    assert surrogate.fit(known).var(q, 1)[0, 0] < 0.05 * before.var(q, 1)[0, 0]


@pytest.mark.parametrize("seed", [38, 59, 76])  # the fit of its own is better by half a nat
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.name)
def test_a_muted_run_does_not_choose_between_a_fit_of_its_own_and_a_map(
    surrogate: Ladder, seed: int
) -> None:
    runs, row = ladder(seed, high=20), LOW + 1
    assert surrogate.fit(without(runs, row)).links[1].anchor[0] == 1
    assert surrogate.fit(spoil(runs, row, 1.0)).links[1].anchor[0] == 1


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.name)
def test_muted_measurements_do_not_make_enough_for_a_fit_of_its_own(surrogate: Ladder) -> None:
    enough = math.ceil(1.5 * surrogate.least_runs(M))
    # Nothing ties this rung to the one below, so a fit of its own is better.
    runs = ladder(0, high=enough)
    slope = np.linspace(-1.5, 1.5, M)
    runs.y[LOW:] = 0.5 + np.exp(runs.x[LOW:] @ np.stack([slope, slope[::-1]], axis=1))
    assert list(surrogate.fit(runs).links[1].anchor) == [1, 1]
    assert list(surrogate.fit(spoil(runs, LOW + 1, 1.0)).links[1].anchor) == [0, 1]
    assert list(surrogate.fit(without(runs, LOW + 1)).links[1].anchor) == [0, 0]


@pytest.mark.parametrize("by", [0.5, -0.3])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.name)
def test_a_muted_loss_has_no_say_in_a_law_and_mutes_no_other_set(
    surrogate: Ladder, by: float
) -> None:
    runs = ladder(4).where(np.arange(LOW + HIGH) < LOW)
    q = np.random.default_rng(5).dirichlet(np.ones(M), 50)
    whole = surrogate.fit(runs)
    for row in (0, 11, int(np.argmin(runs.y[:, 0]))):
        muted, dropped = surrogate.fit(spoil(runs, row, by)), surrogate.fit(without(runs, row))
        # Leave-one-out error may choose the next ridge of a grid: laws differ by less than noise.
        assert_allclose(muted.mean(q, 0)[:, 0], dropped.mean(q, 0)[:, 0], atol=0.005)
        assert_allclose(muted.noise(0)[0], dropped.noise(0)[0], rtol=0.1)
        assert_allclose(muted.mean(q, 0)[:, 1], whole.mean(q, 0)[:, 1], atol=1e-6)
        assert_allclose(muted.loo().var[:, 1], whole.loo().var[:, 1], rtol=1e-4)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.name)
def test_a_muted_repeat_is_no_repeat(surrogate: Ladder) -> None:
    runs = ladder(6).where(np.arange(LOW + HIGH) < LOW)
    x = np.concatenate([runs.x, runs.x[:2]])
    noise = 0.005 * np.random.default_rng(7).standard_normal((2, 2))
    repeated = Runs.of(x, np.concatenate([runs.y, runs.y[:2] + noise]))
    muted = surrogate.fit(spoil(repeated, LOW + 1, 0.5)).noise(0)
    assert_allclose(muted[0], surrogate.fit(without(repeated, LOW + 1)).noise(0)[0], rtol=0.1)


def test_noise_of_repeats_is_their_pooled_variance_whatever_all_weigh_alike() -> None:
    rng = np.random.default_rng(8)
    points = rng.dirichlet(np.ones(M), 400)
    x = np.repeat(points, 3, axis=0)
    y = np.repeat(1 + points[:, :2], 3, axis=0) + 0.01 * rng.standard_normal((1200, 2))
    pooled = y.reshape(400, 3, 2).var(axis=1, ddof=1).mean(axis=0)
    for weight in (1.0, 0.5, 0.1):
        noise, _ = split_noise(Runs.of(x, y), np.full(2, 1e-3), np.full(y.shape, weight))
        assert_allclose(noise, pooled, rtol=0.01)


def test_the_variance_that_mutes_is_not_taken_for_a_known_one() -> None:
    runs = ladder(9).where(np.arange(LOW + HIGH) < LOW)
    plain, _ = split_noise(runs, np.full(2, 1e-9))
    muted, _ = split_noise(spoil(runs, 3, 0.5), np.full(2, 1e-9))
    assert_allclose(muted, plain, rtol=0.1)
