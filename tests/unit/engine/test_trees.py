"""Boosted trees: RegMix's settings, held-out folds, determinism."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.trees import ROUNDS, Trees


@pytest.fixture(scope="module")
def runs() -> Runs:
    rng = np.random.default_rng(0)
    x = rng.dirichlet(np.full(4, 0.7), 60)
    y = 1 + (0.05 + x[:, :1]) ** -0.4 + 0.01 * rng.normal(size=(60, 1))
    return Runs.of(x, y)


def test_the_trees_are_lightgbms_own_with_regmix_settings(runs: Runs) -> None:
    plain = lightgbm.LGBMRegressor(
        n_estimators=ROUNDS, learning_rate=0.01, n_jobs=1, verbosity=-1, deterministic=True
    ).fit(runs.x, runs.y[:, 0])
    p = np.random.default_rng(1).dirichlet(np.ones(4), 50)
    found = Trees().fit(runs).mean(p, 0)[:, 0]
    np.testing.assert_allclose(found, plain.booster_.predict(p), rtol=1e-12)


def test_fewer_than_two_leaves_of_runs_are_a_constant(runs: Runs) -> None:
    model = Trees().fit(runs.where(np.arange(36)))
    assert np.ptp(model.mean(runs.x, 0)) < 1e-9
    assert np.ptp(Trees(leaf=5).fit(runs.where(np.arange(36))).mean(runs.x, 0)) > 0.1


def test_small_leaves_are_closer_when_runs_are_few(runs: Runs) -> None:
    p = np.random.default_rng(2).dirichlet(np.full(4, 0.7), 200)
    truth = 1 + (0.05 + p[:, 0]) ** -0.4
    errors = [
        np.sqrt(np.mean((Trees(leaf=leaf).fit(runs).mean(p, 0)[:, 0] - truth) ** 2))
        for leaf in (20, 5)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_the_variance_is_what_held_out_folds_miss(runs: Runs) -> None:
    model = Trees(leaf=5).fit(runs)
    left = model.loo()
    fold = np.arange(len(runs)) % 5 == 2
    refit = Trees(leaf=5).fit(runs.where(~fold)).mean(runs.x[fold], 0)
    np.testing.assert_allclose(left.mean[fold], refit, rtol=1e-12)
    np.testing.assert_allclose(left.var, np.mean((runs.y - left.mean) ** 2), rtol=1e-9)
