"""The default surrogate: stacking weights, mixtures of predictions, choice, outliers, rungs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.default import Chosen, Default, scored_rung, stack
from cuvee.engine.surrogates.power import Power


def losses(x: np.ndarray) -> np.ndarray:
    worth = 0.1 + np.eye(x.shape[1])[:2]
    return 1.0 + (0.05 + x @ worth.T) ** -0.4


@pytest.fixture(scope="module")
def runs() -> Runs:
    rng = np.random.default_rng(0)
    x = rng.dirichlet(np.full(4, 0.8), 32)
    return Runs.of(x, losses(x) + 0.005 * rng.normal(size=(32, 2)))


@pytest.fixture(scope="module")
def chosen(runs: Runs) -> Chosen:
    return Default().fit(runs)


def score(v: np.ndarray, density: np.ndarray, precision: np.ndarray, prior: np.ndarray) -> float:
    local = v[:, None] * precision
    mixed = np.sum(local / local.sum(axis=0) * np.exp(density), axis=0)
    return float(np.sum(np.log(mixed)) + prior @ np.log(v))


@pytest.mark.parametrize("seed", range(4))
def test_stacking_finds_the_weights_that_a_general_optimiser_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    density = rng.normal(size=(3, 40, 1))
    precision = rng.gamma(2.0, size=(3, 40, 1))
    prior = np.array([4.0, 2.0, 2.0])
    ours = stack(density, precision, prior)[:, 0]

    def loss(free: np.ndarray) -> float:
        v = np.exp(free - free.max())
        return -score(v / v.sum(), density[..., 0], precision[..., 0], prior)

    best = minimize(loss, np.zeros(3), method="BFGS")
    assert ours.sum() == pytest.approx(1.0)
    assert score(ours, density[..., 0], precision[..., 0], prior) >= -best.fun - 1e-3


def test_without_runs_to_judge_the_prior_stands_and_with_many_it_yields() -> None:
    prior = np.array([6.0, 2.0])
    none = stack(np.empty((2, 0, 1)), np.empty((2, 0, 1)), prior)[:, 0]
    np.testing.assert_allclose(none, [0.75, 0.25])
    density = np.stack([np.full((200, 1), -3.0), np.full((200, 1), 1.0)])
    assert stack(density, np.ones_like(density), prior)[1, 0] > 0.9


def test_scores_and_weights_are_kept_for_every_set(chosen: Chosen) -> None:
    assert set(chosen.models) == {"log_multi_fidelity_gp", "power", "log_linear"}
    assert len(chosen.scores) == len(chosen.weights) == 2
    for weights in chosen.weights:
        assert sum(weights.values()) == pytest.approx(1.0)
    left = chosen.models["power"].loo()
    z = (chosen.runs.y - left.mean) ** 2 / left.var
    expected = np.mean(-0.5 * (z + np.log(2 * np.pi * left.var)), axis=0)
    np.testing.assert_allclose([s["power"] for s in chosen.scores], expected)


def test_a_law_that_is_true_gets_weight_and_one_that_is_not_loses_it() -> None:
    rng = np.random.default_rng(1)
    x = rng.dirichlet(np.full(4, 0.5), 40)
    own = Default().fit(Runs.of(x, losses(x) + 0.002 * rng.normal(size=(40, 2))))
    wavy = 2.0 + 0.3 * np.sin(9 * x[:, :1]) * np.ones((1, 2)) + 0.002 * rng.normal(size=(40, 2))
    strange = Default().fit(Runs.of(x, wavy))
    for e in range(2):
        assert own.weights[e]["power"] > 0.4
        assert strange.weights[e]["power"] < 0.1
        assert own.scores[e]["power"] > own.scores[e]["log_linear"]


def test_moments_are_those_of_the_mixture(chosen: Chosen) -> None:
    p = np.random.default_rng(2).dirichlet(np.ones(4), 6)
    means = np.array([m.mean(p, 0) for m in chosen.models.values()])
    variances = np.array([m.var(p, 0) for m in chosen.models.values()])
    noises = np.array([m.noise(0) for m in chosen.models.values()])
    weights = chosen.shares[:, None, :] / (variances + noises[:, None, :])
    weights /= weights.sum(axis=0)
    mean = (weights * means).sum(axis=0)
    np.testing.assert_allclose(chosen.mean(p, 0), mean)
    second = (weights * (variances + means**2)).sum(axis=0)
    np.testing.assert_allclose(chosen.var(p, 0), second - mean**2, rtol=1e-6)
    both = chosen.cov(p, 0, p, 0)
    np.testing.assert_allclose(np.einsum("enn->ne", both), chosen.var(p, 0), rtol=1e-6)
    assert np.linalg.eigvalsh(both).min() > -1e-10


def test_asking_in_another_order_changes_nothing(runs: Runs, chosen: Chosen) -> None:
    p, q = np.random.default_rng(3).dirichlet(np.ones(4), (2, 5))
    fresh = Default().fit(runs)
    expected = fresh.var(q, 0), fresh.mean(p, 0)
    chosen.mean(p, 0)
    chosen.mean(q, 0)
    assert np.array_equal(chosen.var(q, 0), expected[0])
    assert np.array_equal(chosen.mean(p, 0), expected[1])


def test_an_outlying_loss_is_screened_for_all_candidates(runs: Runs) -> None:
    y = runs.y.copy()
    y[7, 1] += 2.0
    model = Default().fit(Runs.of(runs.x, y))
    assert model.suspect[7, 1]
    assert model.suspect.sum() <= 2
    p = np.random.default_rng(4).dirichlet(np.ones(4), 50)
    for one in model.models.values():
        off = one.mean(p, 0)[:, 1] - losses(p)[:, 1]
        assert np.sqrt(np.mean(off**2)) < 0.15


def test_few_runs_leave_out_the_log_linear_law(runs: Runs) -> None:
    few = Default().fit(runs.where(np.arange(9)))
    assert "log_linear" not in few.models
    assert "power" in few.models


def test_the_runs_that_judge_are_the_targets_once_there_are_enough() -> None:
    x = np.full((30, 2), 0.5)
    rung = np.r_[np.zeros(20, dtype=int), np.ones(10, dtype=int)]
    assert scored_rung(Runs.of(x, x, rung, rungs=2)) == 1
    assert scored_rung(Runs.of(x[:25], x[:25], rung[:25], rungs=2)) == 0
    assert scored_rung(Runs.of(x[:25], x[:25], rung[:25], rungs=3)) == 0


def test_cheap_runs_and_five_at_the_target_rank_the_target() -> None:
    rng = np.random.default_rng(5)
    x = rng.dirichlet(np.full(4, 0.8), 45)
    y = losses(x) + 0.003 * rng.normal(size=(45, 2))
    y[40:] = 0.5 + 0.5 * y[40:]
    rung = np.r_[np.zeros(40, dtype=int), np.ones(5, dtype=int)]
    new = rng.dirichlet(np.ones(4), 100)
    for surrogate in (Default(), Power()):
        found = surrogate.fit(Runs.of(x, y, rung, rungs=2)).mean(new, 1)
        truth = 0.5 + 0.5 * losses(new)
        for e in range(2):
            assert np.corrcoef(found[:, e], truth[:, e])[0, 1] > 0.95
            assert np.sqrt(np.mean((found[:, e] - truth[:, e]) ** 2)) < 0.1


@pytest.mark.parametrize("shift", [0.5, -0.2])
def test_a_target_run_that_is_far_off_on_either_side_is_set_aside(shift: float) -> None:
    caught = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        worth = rng.uniform(0.2, 2, (2, 5))
        cheap, dear, new = (rng.dirichlet(np.ones(5), n) for n in (40, 9, 200))
        every = np.concatenate([cheap, dear, new])
        true = 0.6 + 0.5 * (every @ worth.T + 0.02) ** -0.4
        true[40:] = 0.2 + 0.7 * true[40:]
        y = true[:49] + 0.005 * rng.standard_normal((49, 2))
        y[43, 0] += shift
        model = Default().fit(Runs.of(every[:49], y, np.repeat([0, 1], [40, 9])))
        if model.suspect[43, 0]:
            caught += 1
            assert np.sqrt(np.mean((model.mean(new, 1) - true[49:])[:, 0] ** 2)) < 0.02
    # A single wrong run of nine may also be explained by a rung that agrees less.
    assert caught >= 3
