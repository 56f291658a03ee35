"""Agreement between rungs: right value, intervals that hold, and the surrogate's own view."""

from __future__ import annotations

import numpy as np
import pytest
from quadratic_world import QuadraticWorld
from scipy import stats

from cuvee.engine.answer.agreement import modelled_agreement, rank_agreement
from cuvee.engine.goal import Goal

GOAL = Goal(np.full(3, 1 / 3))


def test_the_value_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    for n in (4, 9, 30):
        x, y = rng.normal(size=(2, n))
        y[0] = y[1]  # ties have mean ranks
        found = rank_agreement(x, y, rng, 0.9)
        assert found is not None
        assert found.mean == pytest.approx(stats.spearmanr(x, y).statistic)
        assert -1 <= found.low <= found.mean <= found.high <= 1


def test_too_few_mixtures_or_no_ranking_give_nothing() -> None:
    rng = np.random.default_rng(0)
    assert rank_agreement(np.arange(3.0), np.arange(3.0), rng, 0.9) is None
    assert rank_agreement(np.ones(6), np.arange(6.0), rng, 0.9) is None


def test_perfect_agreement_of_few_is_not_certainty() -> None:
    found = rank_agreement(np.arange(4.0), np.arange(4.0), np.random.default_rng(0), 0.9)
    assert found is not None
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low < 0.5
    many = rank_agreement(np.arange(40.0), np.arange(40.0), np.random.default_rng(0), 0.9)
    assert many is not None
    assert many.low > 0.98


@pytest.mark.parametrize(("n", "rho"), [(5, 0.9), (8, 0.0), (12, 0.8)])
def test_intervals_hold_the_true_correlation(n: int, rho: float) -> None:
    rng = np.random.default_rng(n)
    true = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's of a bivariate normal
    held = []
    for _ in range(150):
        x = rng.normal(size=n)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)
        found = rank_agreement(x, y, rng, 0.9)
        assert found is not None
        held.append(found.low <= true <= found.high)
    assert np.mean(held) >= 0.87


def test_the_modelled_agreement_finds_a_rung_that_agrees_and_one_that_does_not() -> None:
    rng = np.random.default_rng(3)
    x = rng.dirichlet(np.ones(5), size=30)
    rung = np.repeat([0, 1], 15)
    values = {}
    for drift in (0.02, 3.0):
        world = QuadraticWorld.draw(np.random.default_rng(4), 5, 3, drift=drift)
        model = world.fit(world.measure(rng, x, rung))
        found = modelled_agreement(model, GOAL, 0, x, rng, 0.9)
        assert found is not None
        truth = stats.spearmanr(
            GOAL.value(world.losses(x, 0)), GOAL.value(world.losses(x, 1))
        ).statistic
        assert found.low - 1e-9 <= truth <= found.high + 1e-9
        values[drift] = found
    assert values[0.02].low > 0.9
    assert values[3.0].high < values[0.02].low


def test_the_modelled_agreement_holds_the_truth_as_often_as_it_says() -> None:
    held = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        world = QuadraticWorld.draw(rng, 4, 3, drift=0.3, noise=0.1)
        x = rng.dirichlet(np.ones(4), size=12)
        model = world.fit(world.measure(rng, x, np.repeat([0, 1], [8, 4])))
        found = modelled_agreement(model, GOAL, 0, x, rng, 0.9)
        assert found is not None
        truth = stats.spearmanr(
            GOAL.value(world.losses(x, 0)), GOAL.value(world.losses(x, 1))
        ).statistic
        held.append(found.low <= truth <= found.high)
    assert 0.84 <= np.mean(held) <= 0.99
