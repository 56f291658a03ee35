"""The process over rungs and jobs: against dense formulas, and on ladders with known answers."""

from __future__ import annotations

from dataclasses import replace

import gpytorch
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, spearmanr

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.features import Features
from cuvee.engine.surrogates.gp import Gp
from cuvee.engine.surrogates.log_linear import LogLinear
from cuvee.engine.surrogates.multi_fidelity import MultiFidelityGp
from cuvee.engine.surrogates.rung_kernel import Levels, RungKernel
from cuvee.errors import EngineError

M, E = 4, 3


def losses(p: Array, world: int = 5) -> Array:
    """A power law per set, shape ``(n, E)``; another ``world`` is another set of laws."""
    inner = p @ np.random.default_rng(world).gamma(0.5, 1.0, (p.shape[1], E))
    return np.asarray(1.0 + (0.05 + inner) ** -0.4)


def ladder(low: int = 40, high: int = 8, noise: float = 0.005, seed: int = 0) -> Runs:
    """Two rungs; the target is the affine image ``0.3 + (0.8, 0.5, 0.2) * loss``."""
    rng = np.random.default_rng(seed)
    x = rng.dirichlet(np.ones(M), low + high)
    rung = np.repeat([0, 1], [low, high])
    y = np.where(rung[:, None] == 0, losses(x), target(x))
    return Runs.of(x, y + noise * rng.normal(size=y.shape), rung)


def target(p: Array) -> Array:
    return np.asarray(0.3 + np.array([0.8, 0.5, 0.2]) * losses(p))


def fresh(count: int = 100) -> Array:
    return np.asarray(np.random.default_rng(77).dirichlet(np.ones(M), count))


def dense(kernel: RungKernel, p: Array, level: Array, q: Array, other: Array, e: int) -> Array:
    """The covariance as the module's formula says it, entry by entry."""
    theta = kernel.theta.detach().numpy()[e]
    count = len(kernel.levels)
    length, s, exponent = np.exp(theta[:M]), np.exp(theta[M]), np.exp(theta[M + 1])
    wider = np.exp(theta[M + 2])
    a, r = np.exp(theta[M + 4 + count :]).reshape(2, count)
    base = kernel.levels.base
    a[base], r[base] = 1.0, 0.0
    low, high = kernel.features.low.numpy(), kernel.features.high.numpy()

    def feature(mixture: Array) -> Array:
        scaled = (mixture**exponent - low**exponent) / (high**exponent - low**exponent)
        return np.asarray(scaled / length)

    def correlation(distance: float) -> float:
        return float((1 + np.sqrt(3) * distance) * np.exp(-np.sqrt(3) * distance))

    out = np.empty((len(p), len(q)))
    for i in range(len(p)):
        for j in range(len(q)):
            distance = float(np.linalg.norm(feature(p[i]) - feature(q[j])))
            same = level[i] == other[j]
            value = correlation(distance) + same * r[level[i]] * correlation(distance / wider)
            out[i, j] = a[level[i]] * a[other[j]] * s * value + 100.0 * same
    return out


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_kernel_is_the_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.dirichlet(np.full(M, 0.5), 12)
    x[:4, 1] = 0.0
    rung, task = rng.integers(0, 2, 12), np.repeat([0, 1], [8, 4])
    runs = Runs.of(x, losses(x), rung, rungs=2, task=task)
    levels = Levels.of(runs)
    kernel = RungKernel(Features.of(x), levels, E)
    kernel.theta.data += 0.3 * torch.from_numpy(rng.normal(size=kernel.theta.shape))
    inputs = torch.from_numpy(np.column_stack([x, np.zeros(12), levels.of_run]))
    with torch.no_grad():
        lazy = kernel(inputs, inputs[:5]).to_dense().numpy()
        diagonal = kernel(inputs, diag=True).numpy()
    for e in range(E):
        expected = dense(kernel, x, levels.of_run, x[:5], levels.of_run[:5], e)
        np.testing.assert_allclose(lazy[e], expected, rtol=1e-6)
        square = dense(kernel, x, levels.of_run, x, levels.of_run, e)
        np.testing.assert_allclose(diagonal[e], np.diag(square), rtol=1e-6)
        assert np.linalg.eigvalsh(square).min() > -1e-8


def test_gradient_of_the_kernel_is_that_of_finite_differences() -> None:
    runs = ladder(5, 3)
    levels = Levels.of(runs)
    kernel = RungKernel(Features.of(runs.x), levels, E)
    law = torch.from_numpy(runs.y.T[:, :, None].copy())
    plain = torch.from_numpy(np.column_stack([runs.x, levels.of_run])).expand(E, -1, -1)
    inputs = torch.cat([plain[..., :M], law, plain[..., M:]], dim=2)
    start = kernel.theta.detach().clone()

    def covariance(theta: torch.Tensor) -> torch.Tensor:
        del kernel._parameters["theta"]
        kernel.theta = theta
        result = kernel.forward(inputs, inputs)
        del kernel.theta
        kernel.register_parameter("theta", torch.nn.Parameter(start.clone()))
        return torch.as_tensor(result)

    # Diagonal distances are zero up to rounding: only their correlations' slopes are rounded.
    assert torch.autograd.gradcheck(covariance, (start.requires_grad_(),), atol=1e-5)


def test_posterior_is_that_of_the_joint_normal() -> None:
    """Conditioning with numpy on the formula's matrices, noise and known variances included."""
    runs = ladder(14, 5)
    variance = np.full(runs.y.shape, 1e-4)
    variance[3] = 0.01
    model = MultiFidelityGp().fit(replace(runs, variance=variance))
    p, level = fresh(6), np.ones(6, dtype=int)
    of_run = model.levels.of_run
    for e in range(E):
        k = dense(model.kernel, runs.x, of_run, runs.x, of_run, e)
        noise = model.kernel.noise[e].numpy()[of_run] + variance[:, e] / model.unit[e] ** 2 + 1e-6
        cross = dense(model.kernel, p, level, runs.x, of_run, e)
        solved = np.linalg.solve(k + np.diag(noise), cross.T)
        y = (runs.y[:, e] - model.centre[e]) / model.unit[e]
        mean = model.centre[e] + model.unit[e] * solved.T @ y
        cov = dense(model.kernel, p, level, p, level, e) - cross @ solved
        np.testing.assert_allclose(model.mean(p, 1)[:, e], mean, rtol=1e-6)
        np.testing.assert_allclose(model.cov(p, 1, p, 1)[e], model.unit[e] ** 2 * cov, atol=1e-7)
        between = dense(model.kernel, p, level, p, 0 * level, e)
        between -= cross @ np.linalg.solve(
            k + np.diag(noise), dense(model.kernel, p, 0 * level, runs.x, of_run, e).T
        )
        found = model.cov(p, 1, p, 0)[e]
        np.testing.assert_allclose(found, model.unit[e] ** 2 * between, atol=1e-7)
    np.testing.assert_allclose(model.posterior(p, 1).var, model.var(p, 1), atol=1e-9)


def test_leave_one_out_is_that_of_the_joint_normal() -> None:
    runs = ladder(12, 4)
    model = MultiFidelityGp().fit(runs)
    left_out = model.loo()
    of_run = model.levels.of_run
    for e in range(E):
        k = dense(model.kernel, runs.x, of_run, runs.x, of_run, e)
        k += np.diag(model.kernel.noise[e].numpy()[of_run] + 1e-6)
        y = (runs.y[:, e] - model.centre[e]) / model.unit[e]
        total = multivariate_normal(np.zeros(16), k).logpdf(y)
        for i in (0, 7, 15):
            rest = np.delete(np.arange(16), i)
            # log p(y_i | rest) = log p(y) - log p(rest), by scipy.
            alone = multivariate_normal(np.zeros(15), k[np.ix_(rest, rest)]).logpdf(y[rest])
            z = (runs.y[i, e] - left_out.mean[i, e]) / np.sqrt(left_out.var[i, e])
            sd = np.sqrt(left_out.var[i, e]) / model.unit[e]
            density = -0.5 * z**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
            assert density == pytest.approx(total - alone, abs=1e-5)


def test_an_affine_relation_between_rungs_is_found() -> None:
    runs = ladder(noise=0.0)
    model = MultiFidelityGp().fit(runs)
    np.testing.assert_allclose(model.slopes[:, 1], [0.8, 0.5, 0.2], rtol=0.1)
    assert model.correlations[:, 0].min() > 0.97
    p = fresh()
    error = np.abs(model.mean(p, 1) - target(p)).mean(axis=0)
    alone = np.abs(Gp().fit(runs).mean(p, 1) - target(p)).mean(axis=0)
    assert np.all(error < 0.5 * alone)


@pytest.mark.parametrize("kind", ["other function", "noise"])
def test_a_rung_that_says_nothing_is_left_aside(kind: str) -> None:
    worse, correlation = [], []
    for seed in range(3):
        runs = ladder(40, 16, seed=seed)
        useless = losses(runs.x, world=8)
        if kind == "noise":
            useless = np.random.default_rng(seed).normal(size=useless.shape)
        low = runs.rung[:, None] == 0
        mixed = replace(runs, y=np.where(low, useless, runs.y))
        p = fresh()
        model = MultiFidelityGp().fit(mixed)
        alone = Gp().fit(mixed)
        error = [np.sqrt(np.mean((m.mean(p, 1) - target(p)) ** 2)) for m in (model, alone)]
        worse.append(error[0] / error[1])
        # What a run of the low rung tells about the target: both its own part and its noise count.
        signal = (model.kernel.scale[:, None] * (1 + model.kernel.discrepancy)).numpy()[:, 0]
        heard = signal / (signal + model.kernel.noise[:, 0].numpy())
        correlation.append(model.correlations[:, 0] * np.sqrt(heard))
    assert np.median(worse) < 1.5
    assert np.median(correlation) < 0.7


def test_an_earlier_job_is_trusted_as_far_as_it_agrees() -> None:
    """The task kernel: high correlation and better predictions from one that agrees."""
    rng = np.random.default_rng(1)
    own = rng.dirichlet(np.ones(M), 10)
    earlier = rng.dirichlet(np.ones(M), 40)
    x = np.concatenate([own, earlier])
    task = np.repeat([0, 3], [10, 40])
    p = fresh()
    alone = np.abs(Gp().fit(Runs.of(own, losses(own))).mean(p, 0) - losses(p)).mean()
    told, errors = {}, {}
    for name, world in (("same", 5), ("other", 8)):
        y = np.concatenate([losses(own), 0.7 + 0.6 * losses(earlier, world)])
        model = MultiFidelityGp().fit(Runs.of(x, y, 0, task=task))
        assert model.levels.pairs == ((0, 0), (3, 0))
        told[name] = model.correlations[:, 1].mean()
        errors[name] = np.abs(model.mean(p, 0) - losses(p)).mean()
    assert told["same"] > 0.7 > told["other"] + 0.4
    assert errors["same"] < 0.6 * alone
    assert errors["other"] < 1.5 * alone


def test_a_target_without_runs_has_the_order_of_the_rung_below_and_no_level() -> None:
    runs = replace(ladder(40, 0), rungs=2)
    model = MultiFidelityGp().fit(runs)
    p = fresh()
    for e in range(E):
        assert spearmanr(model.mean(p, 1)[:, e], target(p)[:, e])[0] > 0.98
    assert np.all(model.var(p, 1) > 10 * runs.y.var(axis=0))
    differences = model.cov(p[:2], 1, p[:2], 1)
    spread = differences[:, 0, 0] + differences[:, 1, 1] - 2 * differences[:, 0, 1]
    assert np.all(spread < runs.y.var(axis=0) * 10)
    assert np.all(model.noise(1) > 0)


def test_a_law_in_the_mean_helps_where_it_holds() -> None:
    """Losses that obey the log-linear law, and mixtures farther out than any that was run."""
    rng = np.random.default_rng(0)
    t = rng.normal(size=(5, E)) * 1.5

    def law(p: Array) -> Array:
        return np.asarray(0.5 + np.exp(p @ t))

    x = rng.dirichlet(np.full(5, 6.0), 24)
    y = law(x) + 0.003 * rng.normal(size=(24, E))
    p = rng.dirichlet(np.full(5, 0.8), 200)
    plain = MultiFidelityGp().fit(Runs.of(x, y))
    shaped = MultiFidelityGp(law=LogLinear()).fit(Runs.of(x, y))
    error = np.abs(shaped.mean(p, 0) - law(p)).mean()
    assert error < 0.6 * np.abs(plain.mean(p, 0) - law(p)).mean()
    assert np.all(shaped.loo().var > 0)
    few = MultiFidelityGp(law=LogLinear()).fit(Runs.of(x[:8], y[:8], 0))
    assert np.all(np.isfinite(few.mean(p, 0)))


def test_bits_do_not_depend_on_the_call_and_many_runs_are_thinned_alike() -> None:
    rng = np.random.default_rng(0)
    x = rng.dirichlet(np.ones(M), 190)
    x[5:10] = x[:5]
    rung = np.repeat([0, 1], [180, 10])
    y = np.where(rung[:, None] == 0, losses(x), target(x)) + 0.01 * rng.normal(size=(190, E))
    runs = Runs.of(x, y, rung)
    p = fresh(20)
    first = MultiFidelityGp().fit(runs)
    assert np.array_equal(first.mean(p, 1), MultiFidelityGp().fit(runs).mean(p, 1))
    assert first.loo().mean.shape == (190, E)
    rows, domains, sets = rng.permutation(190), np.array([3, 1, 0, 2]), np.array([2, 0, 1])
    turned = Runs.of(x[rows][:, domains], y[rows][:, sets], rung[rows])
    other = MultiFidelityGp().fit(turned)
    # Sums in another order part ways by rounding, which the search for the mode enlarges.
    np.testing.assert_allclose(other.mean(p[:, domains], 1), first.mean(p, 1)[:, sets], atol=2e-3)
    whole = first.mean(np.tile(p, (600, 1)), 1)
    np.testing.assert_allclose(whole[-20:], first.mean(p, 1), rtol=1e-10)


def test_the_prior_is_gpytorchs_and_proper() -> None:
    levels = Levels.of(ladder(8, 3))
    kernel = RungKernel(Features.of(ladder(8, 3).x), levels, E)
    ((_, _, prior, closure, _),) = kernel.named_priors()
    assert isinstance(prior, gpytorch.priors.MultivariateNormalPrior)
    assert closure(kernel).shape == (E, M + 4 + 6)
    assert torch.linalg.eigvalsh(prior.covariance_matrix).min() > 0.1


def test_refusals() -> None:
    with pytest.raises(EngineError, match="needs 5 runs at one rung, there are 4"):
        MultiFidelityGp().fit(ladder(4, 2))
    with pytest.raises(EngineError, match="not finite"):
        MultiFidelityGp().fit(replace(ladder(), y=np.full((48, E), np.inf)))
    with pytest.raises(EngineError, match="no rung 2"):
        MultiFidelityGp().fit(ladder()).mean(fresh(), 2)
