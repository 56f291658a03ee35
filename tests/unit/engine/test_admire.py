"""ADMIRE's closed-form posterior is BoTorch's, and rows for its fit are evenly taken."""

from __future__ import annotations

import warnings
from typing import cast

import numpy as np
import pytest
import torch
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.models import ExactGP

from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.admire import Posterior, fit_rows, fitted


def runs(count: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(3)
    x = rng.dirichlet(np.ones(4), size=count)
    s = rng.choice([0.01, 0.2, 1.0], size=count)
    y = 3 + x @ [0.5, -0.3, 0.1, 0.0] + 0.2 * (1 - s) * np.sin(5 * x[:, 0])
    return x, s, y + 0.01 * rng.normal(size=count)


def test_the_posterior_of_every_run_is_botorchs_with_the_same_hyperparameters() -> None:
    x, s, y = runs(24)
    rows = np.arange(0, 24, 2)
    ours = Posterior.of(x, s, y, rows)
    theirs = fitted(x[rows], s[rows], (y[rows] - y.mean()) / y.std(ddof=1))
    inputs = torch.from_numpy(np.column_stack([x, s]))
    every = torch.from_numpy((y - y.mean()) / y.std(ddof=1))
    ExactGP.set_train_data(theirs, inputs, every, strict=False)
    p = np.random.default_rng(4).dirichlet(np.ones(4), size=12)

    def at(fidelity: float) -> torch.Tensor:
        return torch.from_numpy(np.column_stack([p, np.full(len(p), fidelity)]))

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = cast(GPyTorchPosterior, theirs.posterior(torch.cat([at(1.0), at(0.2)])))
        noisy = theirs.posterior(at(0.2), observation_noise=True).variance[:, 0].numpy()
    mean = y.mean() + y.std(ddof=1) * both.mean[:12, 0].numpy()
    cov = both.distribution.covariance_matrix.numpy()
    our_mean, our_cov = ours.joint(p)
    assert our_mean == pytest.approx(mean, abs=1e-6)
    assert our_cov == pytest.approx(y.var(ddof=1) * cov[:12, :12], abs=1e-8)
    of_pairs, sd, rho = ours.pairs(p, 0.2)
    assert of_pairs == pytest.approx(our_mean)
    assert sd**2 == pytest.approx(np.diag(our_cov), abs=1e-10)
    expected = np.diag(cov[:12, 12:]) / np.sqrt(np.diag(cov)[:12] * noisy)
    assert rho == pytest.approx(expected, abs=1e-5)


def test_hyperparameters_see_every_run_above_and_the_range_of_the_lowest_rung() -> None:
    rng = np.random.default_rng(5)
    rung = rng.permutation(np.repeat([0, 1, 2], [700, 20, 12]))
    value = rng.normal(size=len(rung))
    rows = fit_rows(rung, value)
    assert len(rows) == len(set(rows)) == 160
    assert set(np.flatnonzero(rung > 0)) <= set(rows)
    low, chosen = value[rung == 0], value[rows][rung[rows] == 0]
    assert [chosen.min(), chosen.max()] == [low.min(), low.max()]
    quantiles = [0.1, 0.25, 0.5, 0.75, 0.9]
    assert np.quantile(chosen, quantiles) == pytest.approx(np.quantile(low, quantiles), abs=0.05)
    assert np.array_equal(fit_rows(rung[:100], value[:100]), np.arange(100))
