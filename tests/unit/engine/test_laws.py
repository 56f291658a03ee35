"""The estimator against exact laws, finite differences and scipy's least squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from cuvee.engine.problems import log_linear_world
from cuvee.engine.surrogates import bootstrap, laws
from cuvee.engine.surrogates.fitted import closeness, repeat_noise
from cuvee.errors import EngineError


def data(seed: int, m: int, runs: int, noise: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    world = log_linear_world(rng, rng.dirichlet(np.full(m, 3.0)))
    x = rng.dirichlet(np.ones(m), size=runs)
    y = np.array([world.losses(p, 1) for p in x])
    return x, y + noise * rng.normal(size=y.shape), world


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_a_noise_free_law_is_recovered(seed: int, m: int) -> None:
    x, y, world = data(seed, m, 4 * (m + 1), 0.0)
    fitted = laws.fit(x, y)
    inside = np.random.default_rng(seed).dirichlet(np.full(m, 4.0), size=20)
    true = np.array([world.losses(p, 1) for p in inside])
    assert np.max(np.abs(fitted.at(inside) - true)) < 0.005


def penalised(x, y, k, penalty):  # type: ignore[no-untyped-def]
    values, vectors = np.linalg.eigh(penalty)
    root = vectors * np.sqrt(np.maximum(values, 0))

    def residual(theta):  # type: ignore[no-untyped-def]
        error = theta[0] + np.exp(x @ theta[1:]) - y
        return np.concatenate([np.sqrt(k) * error, root.T @ theta[1:]])

    return residual


@pytest.mark.parametrize("seed", range(6))
def test_the_polish_reaches_scipys_minimum(seed: int) -> None:
    x, y, _ = data(seed, 4, 20, 0.01)
    k = np.random.default_rng(seed).uniform(0.1, 1.0, size=20)
    fitted = laws.fit(x, y, k=k)
    for e in range(4):
        residual = penalised(x, y[:, e], k, fitted.penalty[e])
        ours = np.concatenate([fitted.c[e : e + 1], fitted.t[e]])
        limits = ([0, *[-50] * 4], [y[:, e].min(), *[50] * 4])
        theirs = least_squares(residual, ours + 1e-3, bounds=limits, xtol=1e-12, ftol=1e-12)
        assert np.sum(residual(ours) ** 2) <= 2 * theirs.cost * (1 + 1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_leave_one_out_predictions_are_those_of_a_fit_without_the_run(seed: int) -> None:
    x, y, _ = data(seed, 3, 14, 0.01)
    fitted = laws.fit(x, y)
    for out in (0, 5, 13):
        keep = np.arange(14) != out
        for e in range(3):
            residual = penalised(x[keep], y[keep, e], np.ones(13), fitted.penalty[e])
            start = np.concatenate([fitted.c[e : e + 1], fitted.t[e]])
            start[0] = min(start[0], y[keep, e].min() - 1e-9)
            limits = ([-1e-12, *[-50] * 3], [y[keep, e].min(), *[50] * 3])
            theta = least_squares(residual, start, bounds=limits, xtol=1e-12, ftol=1e-12).x
            theirs = theta[0] + np.exp(x[out] @ theta[1:])
            assert fitted.loo[out, e] == pytest.approx(theirs, abs=3e-3)


def test_the_jacobian_is_the_derivative() -> None:
    rng = np.random.default_rng(0)
    t, x, c = rng.normal(size=(2, 3)), rng.dirichlet(np.ones(3), size=5), np.ones(2)
    jacobian = laws.derivatives(t, x)
    step = 1e-6
    for j in range(3):
        moved = t.copy()
        moved[:, j] += step
        change = (laws.predict(c, moved, x) - laws.predict(c, t, x)) / step
        np.testing.assert_allclose(jacobian[:, :, j + 1], change.T, rtol=1e-4, atol=1e-6)


def test_leverages_of_the_fitted_runs_agree_with_leverage_at_them() -> None:
    x, y, _ = data(1, 3, 15, 0.01)
    fitted = laws.fit(x, y)
    np.testing.assert_allclose(fitted.leverages_at(x), fitted.leverage.T, rtol=1e-6)
    far = fitted.leverages_at(np.array([[1.0, 0.0, 0.0]])).mean()
    assert far > 2 * fitted.leverage.mean()


def test_equal_losses_give_a_flat_law_without_warnings() -> None:
    x = np.random.default_rng(0).dirichlet(np.ones(4), size=12)
    fitted = laws.fit(x, np.full((12, 2), 3.0))
    np.testing.assert_allclose(fitted.at(x), 3.0, atol=1e-6)
    assert np.isfinite(fitted.loo).all()


def test_a_prior_shape_helps_when_runs_are_few() -> None:
    errors = {"with": [], "without": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        world = log_linear_world(rng, rng.dirichlet(np.full(6, 3.0)))
        x = rng.dirichlet(np.ones(6), size=8)
        y = np.array([world.losses(p, 1) for p in x]) + 0.01 * rng.normal(size=(8, 6))
        inside = rng.dirichlet(np.full(6, 3.0), size=50)
        true = np.array([world.losses(p, 1) for p in inside])
        # The lower rung's slopes: the target's, all halved.
        for name, shape in (("with", 0.5 * world.t[1]), ("without", None)):
            errors[name].append(np.sqrt(np.mean((laws.fit(x, y, shape).at(inside) - true) ** 2)))
    assert np.median(errors["with"]) < 0.8 * np.median(errors["without"])


def test_too_few_runs_and_bad_losses_are_refused() -> None:
    x = np.random.default_rng(0).dirichlet(np.ones(4), size=4)
    with pytest.raises(EngineError, match="at least 5 runs, there are 4"):
        laws.fit(x, np.ones((4, 1)))
    x = np.random.default_rng(0).dirichlet(np.ones(4), size=6)
    with pytest.raises(EngineError, match="not finite"):
        laws.fit(x, np.full((6, 1), np.nan))


def test_bootstrap_intervals_cover_the_truth() -> None:
    hits = []
    for seed in range(40):
        x, y, world = data(seed, 3, 16, 0.02)
        draws = bootstrap.draw(laws.fit(x, y), np.random.default_rng(seed), 200)
        p = np.full(3, 1 / 3)
        losses = draws.at(p)[:, 0]  # (B, E)
        for e, true in enumerate(world.losses(p, 1)):
            low, high = bootstrap.interval(losses[:, e], 0.9)
            hits.append(low <= true <= high)
    assert 0.8 <= np.mean(hits) <= 0.98


def test_bootstrap_spread_is_at_least_the_noise_between_repeats() -> None:
    x, y, _ = data(2, 3, 16, 0.0)
    fitted = laws.fit(x, y)
    quiet = bootstrap.draw(fitted, np.random.default_rng(0), 100)
    noisy = bootstrap.draw(fitted, np.random.default_rng(0), 100, np.full(3, 0.05))
    p = np.full(3, 1 / 3)
    assert quiet.at(p).std(axis=0).max() < 0.005
    assert noisy.at(p).std(axis=0).min() > 0.005


def test_repeat_noise_is_the_pooled_standard_deviation() -> None:
    x = np.array([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    y = np.array([[1.0], [1.2], [7.0], [2.0], [2.1], [2.2]])
    noise, freedom = repeat_noise(x, y)
    assert freedom == 3
    assert noise == pytest.approx(np.sqrt((2 * 0.1**2 + 2 * 0.1**2) / 3))
    assert repeat_noise(x[2:4], y[2:4]) == (None, 0)


def test_runs_near_the_best_weigh_more() -> None:
    k = closeness(np.array([3.0, 2.0, 2.02, 2.01, 2.5, 5.0]))
    assert k[1] == pytest.approx(1.0)
    assert k[5] < k[0] < k[4] < k[2]
    np.testing.assert_array_equal(closeness(np.ones(5)), np.ones(5))


@pytest.mark.parametrize("seed", range(20))
def test_leverage_is_never_negative_even_for_laws_of_pure_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.dirichlet(np.ones(4), size=12)
    fitted = laws.fit(x, 3.0 + 0.1 * rng.normal(size=(12, 3)))
    assert np.all(fitted.leverages_at(np.eye(4)) >= 0)
    assert np.all((fitted.leverage >= 0) & (fitted.leverage <= 1))


def test_a_prior_shape_of_rounding_errors_is_no_prior() -> None:
    """A lower rung that does not depend on the mixture has slopes that differ by rounding."""
    rng = np.random.default_rng(0)
    x = rng.dirichlet(np.ones(4), size=14)
    y = 2 + 0.05 * rng.standard_normal((14, 3))
    flat = np.full((3, 4), 0.5) + 3e-9 * rng.standard_normal((3, 4))
    assert np.allclose(laws.fit(x, y, flat).leverage, laws.fit(x, y).leverage)
