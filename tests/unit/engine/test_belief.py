"""The objective's posterior: moments against draws, inflation, correlated sets, coverage."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.engine.goal import Goal
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Loo, Model, Runs
from cuvee.engine.surrogates.belief import MOST, Belief
from cuvee.engine.surrogates.default import Default


@dataclass(frozen=True)
class Stated(Model):
    """A model that is told its leave-one-out errors: they are ``y``, for it predicts zero."""

    runs: Runs
    sd: float = 1.0

    def mean(self, p: Array, rung: int) -> Array:
        return np.repeat(p[:, :1], self.runs.y.shape[1], axis=1)

    def var(self, p: Array, rung: int) -> Array:
        return np.full((len(p), self.runs.y.shape[1]), self.sd**2)

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        near = np.exp(-np.sum((p[:, None] - q[None]) ** 2, axis=2))
        return np.repeat(self.sd**2 * near[None], self.runs.y.shape[1], axis=0)

    def loo(self) -> Loo:
        return Loo(np.zeros_like(self.runs.y), np.full_like(self.runs.y, self.sd**2))

    def noise(self, rung: int) -> Array:
        return np.full(self.runs.y.shape[1], 0.1)


def stated(errors: Array) -> Stated:
    x = np.random.default_rng(0).dirichlet(np.ones(3), len(errors))
    return Stated(Runs.of(x, errors))


def mixtures(count: int = 5) -> Array:
    return np.random.default_rng(1).dirichlet(np.ones(3), count)


def errors(count: int, common: float, seed: int = 2) -> Array:
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(count, 4))
    return np.sqrt(common) * rng.normal(size=(count, 1)) + np.sqrt(1 - common) * own


def test_independent_honest_errors_leave_the_sum_as_it_is() -> None:
    w = np.full(4, 0.25)
    belief = Belief.of(stated(errors(2000, 0.0)), Goal(w))
    assert belief.inflation == pytest.approx(1.0, abs=0.03)
    np.testing.assert_allclose(belief.sd(mixtures()), 0.5, rtol=0.06)


def test_errors_shared_by_the_sets_widen_the_sum() -> None:
    w = np.full(4, 0.25)
    belief = Belief.of(stated(errors(2000, 0.6)), Goal(w))
    expected = np.sqrt(0.25 * (1 + 3 * 0.6))
    np.testing.assert_allclose(belief.sd(mixtures()), expected, rtol=0.05)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 8.0), st.integers(8, 60))
def test_inflation_is_the_size_of_the_errors_within_its_bounds(size: float, count: int) -> None:
    found = errors(count, 0.0) * size
    belief = Belief.of(stated(found), Goal(np.array([1.0, 0, 0, 0])))
    square = np.mean(found[:, 0] ** 2)
    expected = np.sqrt(max(square, 1.0) * (1 + 6 / count))
    assert belief.inflation == pytest.approx(min(expected, MOST))
    assert 1.0 <= belief.inflation <= MOST


def test_few_runs_judge_nothing_and_are_not_trusted_more_than_many() -> None:
    belief = Belief.of(stated(100 * errors(5, 0.0)), Goal(np.full(4, 0.25)))
    assert belief.inflation == pytest.approx(np.sqrt(1 + 6 / 5))


def test_a_run_with_a_muted_loss_flatters_no_belief() -> None:
    plain = stated(3 * errors(40, 0.0))
    variance = plain.runs.variance.copy()
    variance[:10, 1] = 1e4 * plain.runs.y.var(axis=0)[1]
    muted = replace(plain, runs=replace(plain.runs, variance=variance))
    goal = Goal(np.full(4, 0.25))
    assert len(Belief.of(muted, goal).loo().rows) == 30
    assert len(Belief.of(muted, Goal(np.array([0.5, 0.0, 0.25, 0.25]))).loo().rows) == 40


@pytest.mark.parametrize("common", [0.0, 0.7])
def test_draws_have_the_moments_that_are_stated(common: float) -> None:
    belief = Belief.of(stated(errors(200, common)), Goal(np.array([0.4, 0.3, 0.2, 0.1])))
    p = mixtures()
    draws = belief.draws(np.random.default_rng(3), p, 20_000)
    np.testing.assert_allclose(draws.mean(axis=0), belief.mean(p), atol=0.03)
    np.testing.assert_allclose(draws.std(axis=0), belief.sd(p), rtol=0.03)
    near = np.exp(-np.sum((p[0] - p[1]) ** 2))
    assert np.corrcoef(draws[:, 0], draws[:, 1])[0, 1] == pytest.approx(near, abs=0.03)
    losses = belief.losses(np.random.default_rng(3), p, 20_000)
    assert losses.shape == (20_000, 5, 4)
    np.testing.assert_allclose(belief.goal.value(losses), draws)


def test_the_worst_excess_agrees_with_many_draws() -> None:
    goal = Goal(np.full(4, 0.25), reference=np.array([0.0, 0.1, 0.2, np.inf]))
    belief = Belief.of(stated(errors(100, 0.3)), goal)
    p = mixtures()
    draws = belief.draws(np.random.default_rng(4), p, 40_000)
    np.testing.assert_allclose(belief.mean(p), draws.mean(axis=0), atol=0.08)
    np.testing.assert_allclose(belief.sd(p), draws.std(axis=0), rtol=0.1)
    assert np.array_equal(belief.mean(p), belief.mean(p))


def test_leave_one_out_speaks_of_the_target_or_the_highest_rung_with_runs_enough() -> None:
    found = errors(30, 0.0)
    model = stated(found)
    rung = np.r_[np.zeros(18, dtype=np.intp), np.ones(12, dtype=np.intp)]
    goal = Goal(np.full(4, 0.25))
    both = replace(model, runs=replace(model.runs, rung=rung, rungs=2))
    loo = Belief.of(both, goal).loo()
    assert loo.rung == 1
    np.testing.assert_array_equal(loo.rows, np.arange(18, 30))
    np.testing.assert_allclose(loo.measured, found[18:].mean(axis=1))
    np.testing.assert_allclose(loo.predicted, 0.0)
    late = (np.arange(30) >= 25).astype(np.intp)
    few = replace(model, runs=replace(model.runs, rung=late, rungs=2))
    assert Belief.of(few, goal).loo().rung == 0


def test_intervals_of_ninety_percent_hold_about_ninety_of_new_runs() -> None:
    held = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        worth = rng.beta(0.4, 2.0, size=(4, 4)) + np.eye(4)
        x, new = rng.dirichlet(np.full(4, 0.8), 24), rng.dirichlet(np.full(4, 0.8), 100)
        noise = 0.02 * rng.normal(size=(124, 4))
        y = 1 + (0.02 + np.concatenate([x, new]) @ worth.T) ** -0.4 + noise
        model = Default().fit(Runs.of(x, y[:24]))
        w = rng.dirichlet(np.ones(4))
        belief = Belief.of(model, Goal(w))
        var = belief.sd(new) ** 2 + model.noise(0) @ w**2
        held.append(np.abs(y[24:] @ w - belief.mean(new)) < 1.645 * np.sqrt(var))
    assert 0.82 < np.mean(held) < 0.98
