"""The power of paired runs against scipy's noncentral t and against simulated experiments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic_world import QuadraticWorld
from scipy import stats

from cuvee.engine.answer.verification_power import (
    Noise,
    detectable_gain,
    pairs_needed,
    plan,
    power,
    run_noise,
)
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.belief import Belief
from cuvee.records import History, Proposal


def simulated(
    rng: np.random.Generator, gain: float, uncertainty: float, pairs: int, count: int = 40_000
) -> float:
    """Share of experiments of unit noise whose 90 % interval lies above zero."""
    truth = gain + uncertainty * rng.standard_normal((count, 1))
    values = truth + rng.standard_normal((count, pairs))
    se = values.std(axis=1, ddof=1) / np.sqrt(pairs)
    return float(np.mean(values.mean(axis=1) - stats.t.ppf(0.95, pairs - 1) * se > 0))


@pytest.mark.parametrize("pairs", [2, 3, 5, 20, 100])
@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.99])
def test_a_known_gain_has_the_power_of_the_noncentral_t(pairs: int, confidence: float) -> None:
    needed = stats.t.ppf(0.5 + confidence / 2, pairs - 1)
    for gain in (-0.5, 0.0, 0.1, 0.5, 1.0, 2.0):
        exact = stats.nct.sf(needed, pairs - 1, gain * np.sqrt(pairs) / 0.7)
        found = power(gain, 0.0, 0.7, pairs, confidence)
        assert found == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(("gain", "uncertainty", "pairs"), [(1, 0, 3), (0.8, 0.5, 4), (0, 1, 10)])
def test_experiments_succeed_as_often_as_said(gain: float, uncertainty: float, pairs: int) -> None:
    often = simulated(np.random.default_rng(pairs), gain, uncertainty, pairs)
    assert power(gain, uncertainty, 1.0, pairs, 0.9) == pytest.approx(often, abs=0.01)


def test_one_pair_takes_the_noise_as_known() -> None:
    exact = stats.norm.sf(stats.norm.ppf(0.95) - 2.0)
    assert power(2.0, 0.0, 1.0, 1, 0.9) == pytest.approx(exact)


@settings(deadline=None, max_examples=40)
@given(st.floats(1e-4, 1.0), st.integers(1, 60), st.floats(0.6, 0.99))
def test_the_detectable_gain_is_detected_with_the_wanted_chance(
    noise: float, pairs: int, confidence: float
) -> None:
    gain = detectable_gain(noise, pairs, confidence)
    assert gain is not None
    assert power(gain, 0.0, noise, pairs, confidence) == pytest.approx(0.8, abs=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.05, 3.0), st.floats(0.0, 1.0))
def test_the_pairs_needed_are_the_fewest_that_suffice(gain: float, uncertainty: float) -> None:
    found = pairs_needed(gain, uncertainty, 1.0, 0.9)
    powers = [power(gain, uncertainty, 1.0, n, 0.9) or 0.0 for n in range(2, 101)]
    enough = [n for n, value in zip(range(2, 101), powers, strict=True) if value >= 0.8]
    assert found == (enough[0] if enough else None)


def test_a_gain_that_may_not_exist_is_not_shown_by_any_number_of_pairs() -> None:
    assert pairs_needed(0.5, 1.0, 1.0, 0.9) is None
    assert power(0.5, 1.0, 1.0, 100, 0.9) == pytest.approx(stats.norm.cdf(0.5), abs=0.08)


def test_without_noise_any_gain_shows_and_without_pairs_none() -> None:
    assert detectable_gain(0.0, 3, 0.9) == 0.0
    assert power(0.1, 0.0, 0.0, 3, 0.9) == 1.0
    assert power(0.1, 0.1, 0.0, 3, 0.9) == pytest.approx(stats.norm.cdf(1.0))
    assert power(0.1, 0.1, 1.0, 0, 0.9) is None
    found = plan("baseline", (0.3, 0.1), Noise(0.1, np.full(3, 0.1)), 0, 0.9)
    assert (found.detectable, found.power) == (None, None)
    assert found.noise == pytest.approx(0.1 * np.sqrt(2))
    assert found.pairs_for_power == pairs_needed(0.3, 0.1, 0.1 * np.sqrt(2), 0.9)
    assert plan("baseline", (0.3, 0.1), None, 3, 0.9).noise is None


def table_of(x: Array, seed: int, noise: float) -> Table:
    """Runs of a world at its only rung, the seeds 0, 1 ... of each mixture in turn."""
    world = power_world(np.random.default_rng(seed), x.shape[1], noise=(noise,))
    problem = world.problem((len(x),))
    names = problem.names
    mixtures = [problem.uniform.from_shares(names, p.tolist()) for p in x]
    runs = tuple(
        world.observe(Proposal(mixture=q, rung=0, seed=i, reason="given"), f"r{i:03d}")
        for i, q in enumerate(mixtures)
    )
    return Table.build(problem, History(observations=runs))


def test_repeats_alone_tell_the_noise() -> None:
    noise = 0.05
    x = np.repeat(np.random.default_rng(0).dirichlet(np.ones(4), size=6), 5, axis=0)
    table = table_of(x, 0, noise)
    found = run_noise(table, None)
    assert found is not None
    y = table.at(0)[1]
    rows = table.at(0)[0]
    _, which = np.unique(np.round(rows, 5), axis=0, return_inverse=True)
    groups = [y[which.reshape(-1) == g] @ table.w for g in range(6)]
    pooled = np.sqrt(np.mean([np.var(g, ddof=1) for g in groups]))
    assert found.objective == pytest.approx(pooled)
    assert np.all(np.abs(found.sets / noise - 1) < 0.5)
    assert run_noise(table_of(x[::5], 0, noise), None) is None, "nothing was repeated"


def test_the_surrogates_noise_is_pooled_with_the_repeats() -> None:
    x = np.random.default_rng(1).dirichlet(np.ones(4), size=20)
    table = table_of(x, 1, 0.03)
    world = QuadraticWorld.draw(np.random.default_rng(1), 4, 4, noise=0.03)
    own = world.measure(np.random.default_rng(2), table.at(0)[0], 1)
    runs = Runs.of(own.x, own.y, 0, rungs=1)
    found = run_noise(table, Belief.of(world.fit(runs), table.goal))
    assert found is not None
    assert found.sets == pytest.approx(np.full(4, 0.03))
    # Independent sets: between that and sets that move as one.
    least = 0.03 * np.sqrt(np.sum(table.w**2))
    assert 0.6 * least < found.objective < 0.03
