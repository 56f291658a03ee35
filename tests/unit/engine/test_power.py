"""The power law: fits against scipy, derivatives, leave-one-out against refits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, least_squares

from cuvee.engine.surrogates import power
from cuvee.engine.surrogates.base import Runs


def law(seed: int, m: int, sets: int = 1) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    worth = rng.gamma(0.7, size=(sets, m)) + 0.02
    return rng.uniform(0.5, 2.0, sets), rng.uniform(0.2, 0.9, sets), worth


def losses(c: np.ndarray, a: np.ndarray, worth: np.ndarray, x: np.ndarray) -> np.ndarray:
    return c + (x @ worth.T) ** -a


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_a_law_without_noise_is_predicted_at_new_mixtures(seed: int, m: int) -> None:
    truth = law(seed, m)
    rng = np.random.default_rng(seed + 1)
    x, new = rng.dirichlet(np.ones(m), 8 * m), rng.dirichlet(np.ones(m), 30)
    found, _ = power.fit(x, losses(*truth, x)).at(new)
    spread = np.ptp(losses(*truth, x))
    assert np.sqrt(np.mean((found - losses(*truth, new)) ** 2)) < 0.05 * spread


def test_the_derivatives_are_those_of_the_law() -> None:
    rng = np.random.default_rng(0)
    theta = np.concatenate([[0.7, np.log(0.4)], rng.normal(size=4)])
    laws = power.PowerLaws(theta[None], np.zeros((1, 6, 6)))
    for p in rng.dirichlet(np.ones(4), 5):

        def value(at: np.ndarray, p: np.ndarray = p) -> float:
            return float(power.PowerLaws(at[None], laws.penalty).at(p[None])[0][0, 0])

        def slope(at: np.ndarray, p: np.ndarray = p) -> np.ndarray:
            return power.PowerLaws(at[None], laws.penalty).at(p[None])[1][0, 0]

        assert check_grad(value, slope, theta) < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_scipy_finds_no_better_law_under_the_same_ridge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.dirichlet(np.ones(4), 30)
    y = losses(*law(seed, 4), x) + 0.02 * rng.normal(size=(30, 1))
    found = power.fit(x, y)
    root = np.linalg.cholesky(found.penalty[0] + 1e-12 * np.eye(6)).T
    centre = np.array([0.0, np.log(power.EXPONENT), 0, 0, 0, 0])

    def residual(theta: np.ndarray) -> np.ndarray:
        fitted, _ = power.PowerLaws(theta[None], found.penalty).at(x)
        return np.concatenate([fitted[:, 0] - y[:, 0], root @ (theta - centre)])

    ours = float(np.sum(residual(found.theta[0]) ** 2))
    low = np.array([0.0, np.log(0.02), *np.full(4, -np.inf)])
    high = np.array([y.min(), np.log(5.0), *np.full(4, np.inf)])
    starts = [np.array([0.5 * y.min(), np.log(a), *rng.normal(size=4)]) for a in (0.2, 0.5, 1.0)]
    starts.append(np.clip(found.theta[0], low + 1e-9, high - 1e-9))
    best = min(float(2 * least_squares(residual, s, bounds=(low, high)).cost) for s in starts)
    assert ours <= best * 1.02 + 1e-9


def test_hardly_more_runs_than_domains_are_enough() -> None:
    rng = np.random.default_rng(4)
    truth = law(4, 12, sets=3)
    x, new = rng.dirichlet(np.full(12, 0.5), 14), rng.dirichlet(np.full(12, 0.5), 200)
    model = power.Power().fit(Runs.of(x, losses(*truth, x)))
    for e in range(3):
        assert np.corrcoef(model.mean(new, 0)[:, e], losses(*truth, new)[:, e])[0, 1] > 0.6


def test_steep_faces_are_followed_where_the_log_linear_law_can_not() -> None:
    from cuvee.engine.surrogates.log_linear import LogLinear

    rng = np.random.default_rng(5)
    worth = 0.02 + np.eye(3)
    x, new = rng.dirichlet(np.full(3, 0.6), 40), rng.dirichlet(np.full(3, 0.6), 300)
    truth = (np.full(3, 1.0), np.full(3, 0.4), worth)
    runs = Runs.of(x, losses(*truth, x) + 0.003 * rng.normal(size=(40, 3)))
    error = {
        one.name: np.sqrt(np.mean((one.fit(runs).mean(new, 0) - losses(*truth, new)) ** 2))
        for one in (power.Power(), LogLinear())
    }
    assert error["power"] < 0.2 * error["log_linear"]


def test_leaving_out_in_closed_form_agrees_with_refits() -> None:
    rng = np.random.default_rng(6)
    x = rng.dirichlet(np.ones(4), 36)
    y = losses(*law(6, 4), x) + 0.05 * rng.normal(size=(36, 1))
    left = power.Power().fit(Runs.of(x, y)).loo()
    refits = np.array(
        [
            power.fit(np.delete(x, i, 0), np.delete(y, i, 0)).at(x[[i]])[0][0, 0]
            for i in range(len(x))
        ]
    )
    assert np.corrcoef(y[:, 0] - left.mean[:, 0], y[:, 0] - refits)[0, 1] > 0.9
    assert np.mean((y[:, 0] - left.mean[:, 0]) ** 2) == pytest.approx(
        np.mean((y[:, 0] - refits) ** 2), rel=0.3
    )


def test_a_muted_run_has_no_say() -> None:
    rng = np.random.default_rng(7)
    truth = law(7, 4)
    x, new = rng.dirichlet(np.ones(4), 24), rng.dirichlet(np.ones(4), 50)
    y = losses(*truth, x)
    wrong = y.copy()
    wrong[5] += 3.0
    variance = np.zeros_like(y)
    variance[5] = 1e4
    muted = power.Power().fit(Runs.of(x, wrong, variance=variance)).mean(new, 0)
    assert np.abs(muted - losses(*truth, new)).max() < 0.05
