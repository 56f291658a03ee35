"""Gaussian processes per set and rung, against scipy, GPyTorch, BoTorch and brute force."""

from __future__ import annotations

from dataclasses import replace

import gpytorch
import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from gpytorch.constraints import Positive
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize as scipy_minimize
from scipy.stats import multivariate_normal

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.features import Features
from cuvee.engine.surrogates.gp import Gp
from cuvee.engine.surrogates.marginal import cholesky, matern, minimize, negative_log_likelihood
from cuvee.errors import EngineError


def losses(p: Array, sets: int = 3) -> Array:
    """A power law per set, steep at the faces; shape ``(n, sets)``."""
    inner = p @ np.random.default_rng(5).gamma(0.5, 1.0, (p.shape[1], sets))
    return np.asarray(1.0 + (0.05 + inner) ** -0.4)


def some_runs(count: int = 24, domains: int = 4, noise: float = 0.0, seed: int = 0) -> Runs:
    rng = np.random.default_rng(seed)
    x = rng.dirichlet(np.ones(domains), count)
    x[: count // 3, 0] = 0.0
    x /= x.sum(axis=1, keepdims=True)
    return Runs.of(x, losses(x) + noise * rng.normal(size=(count, 3)))


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_likelihood_is_scipys_and_its_gradient_that_of_autograd(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2, count, count))
    covariance = torch.tensor(root @ root.swapaxes(1, 2) + np.eye(count), requires_grad=True)
    y = torch.tensor(rng.normal(size=(2, count)))
    ours = negative_log_likelihood(covariance, y)
    for e in range(2):
        theirs = multivariate_normal(np.zeros(count), covariance[e].detach().numpy())
        assert ours[e].item() == pytest.approx(-theirs.logpdf(y[e].numpy()))
    (gradient,) = torch.autograd.grad(ours.sum(), covariance)
    plain = 0.5 * (torch.logdet(covariance) + (y * torch.linalg.solve(covariance, y)).sum(-1))
    (expected,) = torch.autograd.grad(plain.sum(), covariance)
    symmetric = (expected + expected.mT) / 2
    torch.testing.assert_close(gradient, symmetric)


def test_matern_is_gpytorchs_and_has_a_slope_at_zero() -> None:
    points = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    theirs = gpytorch.kernels.MaternKernel(nu=1.5).double()
    theirs.lengthscale = 1.0
    squares = torch.cdist(points, points) ** 2
    torch.testing.assert_close(matern(squares), theirs(points).to_dense().detach())
    assert torch.autograd.gradcheck(matern, (squares[0, 1:].clone().requires_grad_(),))
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(matern(zero).sum(), zero)
    assert slope.item() == pytest.approx(-1.5)


def test_a_singular_covariance_gets_just_what_it_needs() -> None:
    ones = torch.ones(2, 3, 3, dtype=torch.float64)
    ones[1] += torch.eye(3)
    factor = cholesky(ones)
    torch.testing.assert_close(factor @ factor.mT, ones, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(factor[1], torch.linalg.cholesky(ones[1]), atol=0.0, rtol=0.0)


def test_batched_minimiser_finds_what_scipy_finds() -> None:
    centres = np.array([[1.0, 1.0], [0.5, -0.3], [-1.0, 2.0]])

    def both(theta: Array) -> tuple[Array, Array]:
        """Rosenbrock valleys, shifted differently."""
        u, v = (theta - centres + 1).T
        value = (1 - u) ** 2 + 20 * (v - u**2) ** 2
        slope = np.stack([-2 * (1 - u) - 80 * u * (v - u**2), 40 * (v - u**2)], axis=1)
        return value, slope

    found = minimize(both, np.zeros((3, 2)), evaluations=300, tolerance=1e-9)
    for e in range(3):

        def alone(theta: Array, e: int = e) -> float:
            every = np.tile(theta, (3, 1))
            return float(both(every)[0][e])

        theirs = scipy_minimize(alone, np.zeros(2), method="L-BFGS-B")
        assert alone(found[e]) <= theirs.fun + 1e-4


def test_posterior_is_that_of_an_exact_gpytorch_model() -> None:
    """The same hyperparameters in GPyTorch's ExactGP, with its own kernels and solves."""
    runs = some_runs(noise=0.02)
    model = Gp().fit(runs).rungs[0]
    kernel, features = model.kernel, Features.of(runs.x)
    p = np.random.default_rng(8).dirichlet(np.ones(4), 6)
    for e in range(3):
        exponent = kernel.exponent[e : e + 1]
        x_train = features(torch.from_numpy(runs.x), exponent)[0]
        x_test = features(torch.from_numpy(p), exponent)[0]
        matern_part = gpytorch.kernels.MaternKernel(nu=1.5, ard_num_dims=4).double()
        matern_part.lengthscale = kernel.length[e]
        scaled = gpytorch.kernels.ScaleKernel(matern_part, outputscale_constraint=Positive())
        scaled.outputscale = kernel.scale[e]
        wide = gpytorch.kernels.ConstantKernel().double()
        wide.constant = torch.tensor([100.0], dtype=torch.float64)
        noise = (kernel.noise[e, 0] + 1e-6).expand(len(runs))
        y = torch.from_numpy((runs.y[:, e] - model.centre[e]) / model.unit[e])
        theirs = SingleTaskGP(
            x_train,
            y[:, None],
            train_Yvar=noise[:, None],
            covar_module=scaled + wide,
            mean_module=gpytorch.means.ZeroMean(),
            outcome_transform=None,
        )
        theirs.eval()
        with gpytorch.settings.fast_computations(False, False, False), torch.no_grad():
            told = theirs.posterior(x_test)
            mean = told.mean[:, 0].numpy() * model.unit[e] + model.centre[e]
            covariance = told.distribution.covariance_matrix.numpy() * model.unit[e] ** 2
        np.testing.assert_allclose(model.mean(p, 0)[:, e], mean, rtol=1e-6)
        np.testing.assert_allclose(model.cov(p, 0, p, 0)[e], covariance, atol=1e-8)
        np.testing.assert_allclose(model.var(p, 0)[:, e], np.diag(covariance), atol=1e-8)


def test_hyperparameters_are_a_maximum_that_botorch_cannot_improve() -> None:
    """Gradient at the end, and scipy's own L-BFGS from there, gain nothing."""
    runs = some_runs(noise=0.02)
    model = Gp().fit(runs).rungs[0]
    kernel = model.kernel
    y = torch.from_numpy(((runs.y - model.centre) / model.unit).T.copy())

    def objective(flat: Array) -> tuple[float, Array]:
        kernel.theta.data = torch.from_numpy(flat.reshape(found.shape).copy())
        kernel.theta.requires_grad_(True)
        noise = kernel.noise[:, torch.zeros(len(runs), dtype=torch.long)] + 1e-6
        covariance = kernel(model.inputs).to_dense() + torch.diag_embed(noise)
        centre = torch.zeros(len(runs), dtype=torch.float64)
        told = gpytorch.distributions.MultivariateNormal(centre.expand(3, -1), covariance)
        with gpytorch.settings.fast_computations(False, False, False):
            loss = -(told.log_prob(y) + kernel.theta_prior.log_prob(kernel.theta)).sum()
        (gradient,) = torch.autograd.grad(loss, kernel.theta)
        return loss.item(), gradient.numpy().ravel()

    found = kernel.theta.detach().numpy().copy()
    value, _ = objective(found.ravel())
    better = scipy_minimize(objective, found.ravel(), jac=True, method="L-BFGS-B")
    assert value - better.fun < 0.02


def test_leave_one_out_is_that_of_leaving_one_out() -> None:
    runs = some_runs(count=14, noise=0.02)
    model = Gp().fit(runs).rungs[0]
    left_out = model.loo()
    with torch.no_grad():
        covariance = model.kernel(model.inputs).to_dense()
        covariance = covariance + (model.kernel.noise[:, :1, None] + 1e-6) * torch.eye(14)
    y = (runs.y - model.centre) / model.unit
    for e in range(3):
        k = covariance[e].numpy()
        for i in range(14):
            rest = np.delete(np.arange(14), i)
            solved = np.linalg.solve(k[np.ix_(rest, rest)], k[rest, i])
            mean = model.centre[e] + model.unit[e] * solved @ y[rest, e]
            var = model.unit[e] ** 2 * (k[i, i] - solved @ k[rest, i])
            assert left_out.mean[i, e] == pytest.approx(mean, rel=1e-6)
            assert left_out.var[i, e] == pytest.approx(var, rel=1e-5)


def test_domains_sets_and_rows_may_come_in_any_order() -> None:
    runs = some_runs(noise=0.02)
    p = np.random.default_rng(3).dirichlet(np.ones(4), 10)
    mean, var = Gp().fit(runs).mean(p, 0), Gp().fit(runs).var(p, 0)
    domains, sets = np.array([2, 0, 3, 1]), np.array([1, 2, 0])
    rows = np.random.default_rng(4).permutation(len(runs))
    turned = Runs.of(runs.x[rows][:, domains], runs.y[rows][:, sets])
    model = Gp().fit(turned)
    np.testing.assert_allclose(model.mean(p[:, domains], 0), mean[:, sets], rtol=1e-5)
    np.testing.assert_allclose(model.var(p[:, domains], 0), var[:, sets], rtol=2e-2)


def test_the_same_runs_give_the_same_bits() -> None:
    p = np.random.default_rng(3).dirichlet(np.ones(4), 10)
    first, second = (Gp().fit(some_runs(noise=0.01)) for _ in range(2))
    assert np.array_equal(first.mean(p, 0), second.mean(p, 0))
    assert np.array_equal(first.var(p, 0), second.var(p, 0))
    assert np.array_equal(first.loo().mean, second.loo().mean)


def test_a_share_of_zero_is_a_share_like_any_other() -> None:
    runs = some_runs(count=40)
    p = np.random.default_rng(3).dirichlet(np.ones(4), 50)
    p[:25, 0] = 0.0
    p /= p.sum(axis=1, keepdims=True)
    error = Gp().fit(runs).mean(p, 0) - losses(p)
    assert np.sqrt(np.mean(error**2, axis=0)).max() < 0.15 * losses(p).std(axis=0).max()
    whole = np.eye(4)
    assert np.all(np.isfinite(Gp().fit(runs).var(whole, 0)))


def test_repeats_tell_the_noise() -> None:
    rng = np.random.default_rng(2)
    once = rng.dirichlet(np.ones(4), 12)
    x = np.repeat(once, 4, axis=0)
    spread = np.array([0.002, 0.02, 0.1])
    runs = Runs.of(x, losses(x) + spread * rng.normal(size=(48, 3)))
    found = np.sqrt(Gp().fit(runs).noise(0))
    assert np.all(found < 2.0 * np.maximum(spread, 0.01))
    assert np.all(found > 0.5 * spread)


def test_a_run_of_known_poor_precision_counts_for_little() -> None:
    runs = some_runs(count=30)
    spoilt = runs.y.copy()
    spoilt[7] += 3.0
    variance = np.zeros_like(spoilt)
    variance[7] = 1e4
    p = np.random.default_rng(3).dirichlet(np.ones(4), 50)
    heard = Gp().fit(replace(runs, y=spoilt)).mean(p, 0)
    muted = Gp().fit(replace(runs, y=spoilt, variance=variance)).mean(p, 0)
    truth = losses(p)
    assert np.abs(muted - truth).mean() < 0.5 * np.abs(heard - truth).mean()


def test_rungs_are_fitted_on_their_own_and_earlier_jobs_left_out() -> None:
    low, high = some_runs(seed=1), some_runs(seed=2)
    x, y = np.concatenate([low.x, high.x]), np.concatenate([low.y, 2 * high.y])
    rung = np.repeat([0, 1], 24)
    alone = Gp().fit(Runs.of(high.x, 2 * high.y))
    both = Gp().fit(Runs.of(x, y, rung, task=np.repeat([0, 0], 24)))
    p = np.random.default_rng(3).dirichlet(np.ones(4), 5)
    assert np.array_equal(both.mean(p, 1), alone.mean(p, 0))
    assert np.array_equal(both.cov(p, 1, p, 0), np.zeros((3, 5, 5)))
    assert both.loo().mean.shape == (48, 3)
    earlier = Gp().fit(Runs.of(x, y, 0, task=np.repeat([1, 0], 24)))
    assert np.array_equal(earlier.mean(p, 0), alone.mean(p, 0))
    assert len(earlier.runs) == 24


def test_refusals() -> None:
    runs = some_runs()
    with pytest.raises(EngineError, match="at the target"):
        Gp().fit(runs.where(np.arange(4)))
    with pytest.raises(EngineError, match="not finite"):
        Gp().fit(replace(runs, y=np.full_like(runs.y, np.nan)))
    two = Runs.of(runs.x, runs.y, np.repeat([0, 1], [2, 22]))
    with pytest.raises(EngineError, match="rung 0"):
        Gp().fit(two).mean(runs.x, 0)


def test_intervals_hold_what_they_promise() -> None:
    held = []
    for seed in range(4):
        runs = some_runs(count=30, noise=0.01, seed=seed)
        p = np.random.default_rng(seed + 90).dirichlet(np.ones(4), 100)
        model = Gp().fit(runs)
        held.append(np.abs(model.mean(p, 0) - losses(p)) < 1.645 * np.sqrt(model.var(p, 0)))
    assert 0.8 < np.mean(held) <= 1.0
