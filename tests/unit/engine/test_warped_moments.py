"""The delta method of ``Warped`` against Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest

from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.multi_fidelity import MultiFidelityGp
from cuvee.engine.surrogates.warped import Warped, WarpedModel


@pytest.fixture(scope="module")
def model() -> WarpedModel:
    rng = np.random.default_rng(4)
    x = rng.dirichlet(np.full(3, 0.8), size=30)
    y = 1.0 + np.exp(x @ rng.normal(size=(3, 2))) + 0.01 * rng.normal(size=(30, 2))
    zero = np.zeros(30, dtype=np.intp)
    runs = Runs(x=x, y=y, variance=np.zeros_like(y), rung=zero, rungs=1, task=zero)
    return Warped(MultiFidelityGp()).fit(runs)


def test_moments_are_those_of_drawn_losses(model: WarpedModel) -> None:
    p = np.random.default_rng(5).dirichlet(np.ones(3), size=4)
    inner = model.inner.posterior(p, 0)
    rng = np.random.default_rng(6)
    for e in range(2):
        z = rng.multivariate_normal(inner.mean[:, e], inner.cov[e], size=100_000)
        losses = model.floor[0, e] + np.exp(z)
        np.testing.assert_allclose(np.median(losses, axis=0), model.mean(p, 0)[:, e], rtol=2e-3)
        np.testing.assert_allclose(losses.var(axis=0), model.var(p, 0)[:, e], rtol=0.1)
        drawn = np.cov(losses.T)
        size = np.sqrt(np.outer(np.diag(drawn), np.diag(drawn)))
        np.testing.assert_allclose(drawn / size, model.cov(p, 0, p, 0)[e] / size, atol=0.1)


def test_moments_together_are_the_moments(model: WarpedModel) -> None:
    p = np.random.default_rng(7).dirichlet(np.ones(3), size=6)
    mean, var = model.moments(p, 0)
    np.testing.assert_array_equal(mean, model.mean(p, 0))
    np.testing.assert_array_equal(var, model.var(p, 0))
