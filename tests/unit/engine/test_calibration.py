"""Calibration by leave-one-out: coverage, what it is to be right, and when nothing is foreseen."""

from __future__ import annotations

import numpy as np
import pytest
from quadratic_world import QuadraticWorld
from scipy import stats

from cuvee.engine.answer.calibration import LEVELS, calibrate, foresight
from cuvee.engine.goal import Goal
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief, ObjectiveLoo

GOAL = Goal(np.full(3, 1 / 3))


def believed(seed: int, runs: int = 20) -> Belief:
    rng = np.random.default_rng(seed)
    world = QuadraticWorld.draw(rng, 4, 3, noise=0.05)
    return Belief.of(world.fit(world.measure(rng, rng.dirichlet(np.ones(4), size=runs))), GOAL)


def test_a_right_model_is_calibrated_and_not_inflated() -> None:
    covered, inflation = [], []
    for seed in range(25):
        belief = believed(seed)
        found = calibrate(belief, belief.loo())
        assert found is not None
        covered.append(found.coverage)
        inflation.append(found.inflation)
        assert found.levels == LEVELS
        assert len(found.measured) == len(found.predicted) == len(found.se) == 20
        assert found.rung == 1
    assert np.mean(covered, axis=0) == pytest.approx(LEVELS, abs=0.06)
    assert np.median(inflation) < 1.15


def test_coverage_counts_runs_within_their_interval() -> None:
    belief = believed(0)
    rng = np.random.default_rng(0)
    n = 200
    error = rng.standard_normal(n)
    loo = ObjectiveLoo(np.arange(n), 1, error, np.zeros(n), np.full(n, belief.inflation))
    found = calibrate(belief, loo)
    assert found is not None
    kappa = max(1.0, float(np.sqrt(np.mean(error**2))))
    wanted = [np.mean(np.abs(error) <= kappa * stats.norm.ppf(0.5 + v / 2)) for v in LEVELS]
    assert found.coverage == pytest.approx(wanted, abs=0.01)


def test_an_error_does_not_excuse_itself() -> None:
    """One gross error would widen its own interval, were its inflation not that of the others."""
    belief = believed(0)
    error = np.append(np.full(9, 0.5), 4.0)
    loo = ObjectiveLoo(np.arange(10), 1, error, np.zeros(10), np.full(10, belief.inflation))
    found = calibrate(belief, loo)
    assert found is not None
    assert found.coverage[-1] == 0.9


def test_too_few_runs_say_nothing() -> None:
    belief = believed(0, runs=4)
    assert calibrate(belief, belief.loo()) is None


def test_foresight_is_measured_against_the_mean_of_the_others() -> None:
    y = np.random.default_rng(0).normal(size=12)
    others: Array = (y.sum() - y) / 11
    found = foresight(y, others)
    assert found.r2 == pytest.approx(0.0)
    assert found.rank == pytest.approx(-1.0)
    assert found.none
    assert foresight(y, y).r2 == 1.0
    assert not foresight(y, y).none
    assert foresight(np.ones(5), np.ones(5)).none


def test_one_run_that_nothing_predicts_does_not_condemn_good_ranks() -> None:
    y = np.append(np.linspace(0, 0.1, 11), 5.0)
    predicted = np.append(np.linspace(0, 0.1, 11), -1.0)
    found = foresight(y, predicted)
    assert found.r2 < 0
    assert not found.none
