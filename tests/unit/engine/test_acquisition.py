"""What runs are worth, against exact conditioning, simulation and BoTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.acquisition.max_value_entropy_search import qLowerBoundMaxValueEntropy
from botorch.models import SingleTaskGP
from hypothesis import given
from hypothesis import strategies as st

from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.acquisition.improvement import expected_improvement, log_expected_improvement
from cuvee.engine.acquisition.outlook import Outlook
from cuvee.engine.acquisition.pending import awaiting
from cuvee.engine.goal import Goal
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.admire import entropy_gain
from cuvee.engine.surrogates.base import Loo, Model, Runs
from cuvee.engine.surrogates.belief import Belief

NOISE = np.array([[0.02, 0.03], [0.01, 0.02]])  # variance by rung and set
LENGTH = np.array([0.4, 0.7])
SLOPE = np.array([[1.0, 1.0], [0.6, 0.3]])  # of each set at each rung
OWN = np.array([[0.0, 0.0], [0.05, 0.4]])  # the target's own part


class Exact(Model):
    """A Gaussian process with known hyperparameters: two sets, two rungs, zero prior mean."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        inner = self._prior(runs.x, runs.rung, runs.x, runs.rung)
        self._inner = inner + np.einsum("ke,kl->ekl", NOISE[runs.rung], np.eye(len(runs)))

    @staticmethod
    def _prior(p: Array, r: npt.NDArray[np.intp], q: Array, s: npt.NDArray[np.intp]) -> Array:
        gap = np.sum((p[:, None] - q[None]) ** 2, axis=2)
        shape = np.exp(-gap[None] / (2 * LENGTH[:, None, None] ** 2))
        slope = SLOPE[r].T[:, :, None] * SLOPE[s].T[:, None, :]
        own = OWN[r].T[:, :, None] * (r[:, None] == s[None])
        return np.asarray(shape * (slope + own))

    def mean(self, p: Array, rung: int) -> Array:
        cross = self._cross(p, rung)
        weights = np.linalg.solve(self._inner, self.runs.y.T[..., None])[..., 0]
        return np.asarray(np.einsum("enk,ek->ne", cross, weights))

    def _cross(self, p: Array, rung: int) -> Array:
        return self._prior(p, np.full(len(p), rung), self.runs.x, self.runs.rung)

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        prior = self._prior(p, np.full(len(p), rung), q, np.full(len(q), other))
        right = np.linalg.solve(self._inner, np.swapaxes(self._cross(q, other), 1, 2))
        return np.asarray(prior - self._cross(p, rung) @ right)

    def var(self, p: Array, rung: int) -> Array:
        return np.asarray(np.einsum("enn->ne", self.cov(p, rung, p, rung)))

    def loo(self) -> Loo:
        raise AssertionError("not asked for")

    def noise(self, rung: int) -> Array:
        return np.asarray(NOISE[rung])


def some_runs(rng: np.random.Generator, target: int = 3) -> Runs:
    x = rng.dirichlet(np.ones(3), size=6 + target)
    return Runs.of(x, rng.normal(size=(len(x), 2)), [0] * 6 + [1] * target, rungs=2)


def plus(runs: Runs, p: Array, rung: int, y: Array) -> Runs:
    """The runs and one more."""
    return replace(
        runs,
        x=np.concatenate([runs.x, p[None]]),
        y=np.concatenate([runs.y, y[None]]),
        rung=np.append(runs.rung, rung),
        variance=np.zeros((len(runs) + 1, 2)),
        task=np.append(runs.task, 0),
    )


def belief_of(model: Model, goal: Goal | None = None, inflation: float = 1.0) -> Belief:
    return Belief(model, goal or Goal(np.array([0.7, 0.3])), inflation, np.eye(2))


def no_guards(m: int = 3) -> Guards:
    return Guards(np.full(m, 1 / m), np.zeros(0, dtype=np.intp), np.zeros(0), np.zeros(0))


def outlook(model: Model, goal: Goal | None = None) -> Outlook:
    """Seen from the best mixture of the target's runs."""
    belief = belief_of(model, goal)
    here = model.runs.x[model.runs.rung == 1]
    return Outlook(belief, no_guards(), here[np.argmin(belief.mean(here))])


@given(st.floats(-3, 3), st.floats(0.01, 2))
def test_expected_improvement_is_that_of_draws(gain: float, sd: float) -> None:
    z = np.random.default_rng(0).standard_normal(50_000)
    drawn = np.maximum(gain + sd * z, 0.0)
    value = float(expected_improvement(np.array(gain), np.array(sd)))
    assert value == pytest.approx(drawn.mean(), abs=5 * drawn.std() / np.sqrt(len(z)) + 1e-4)


def test_an_improvement_without_doubt_is_the_gain() -> None:
    gains = np.array([-1.0, 0.0, 2.0])
    assert expected_improvement(gains, np.zeros(3)).tolist() == [0.0, 0.0, 2.0]


def test_log_improvement_is_botorchs_where_the_improvement_itself_is_nothing() -> None:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.random((6, 2)))
    model = SingleTaskGP(x, torch.from_numpy(rng.normal(size=(6, 1)))).eval()
    p = torch.from_numpy(rng.random((20, 2)))
    with torch.no_grad():
        posterior = model.posterior(p)
        mean, sd = posterior.mean[:, 0].numpy(), posterior.variance[:, 0].sqrt().numpy()
        for best in (-2.0, 0.0, 3.0, 60.0, 4000.0):
            theirs = LogExpectedImprovement(model, best_f=best)(p[:, None]).numpy()
            ours = log_expected_improvement(mean - best, sd)
            assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-8)
    assert expected_improvement(np.array(-60.0), np.array(0.5)) == 0.0


@given(st.floats(-1e4, 5), st.floats(1e-6, 2), st.floats(1e-3, 2))
def test_log_improvement_rises_with_gain_and_with_doubt(
    gain: float, sd: float, more: float
) -> None:
    base = float(log_expected_improvement(np.array(gain), np.array(sd)))
    assert np.isfinite(base)
    assert float(log_expected_improvement(np.array(gain + more), np.array(sd))) > base - 1e-9
    assert float(log_expected_improvement(np.array(gain), np.array(sd + more))) >= base - 1e-9


@given(st.integers(0, 2**31), st.integers(1, 4))
def test_pending_runs_shrink_the_covariance_as_their_measurements_will(
    seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    runs = some_runs(rng)
    q, rung = rng.dirichlet(np.ones(3), size=count), rng.integers(0, 2, size=count)
    model = Exact(runs)
    waiting = awaiting(model, q, rung)
    known = runs
    for p, r in zip(q, rung.tolist(), strict=True):
        known = plus(known, p, r, rng.normal(size=2))
    exact = Exact(known)
    a, b = rng.dirichlet(np.ones(3), size=4), rng.dirichlet(np.ones(3), size=3)
    for r, s in ((1, 1), (0, 1), (0, 0)):
        assert waiting.cov(a, r, b, s) == pytest.approx(exact.cov(a, r, b, s), abs=1e-5)
    assert waiting.var(a, 1) == pytest.approx(exact.var(a, 1), abs=1e-5)
    assert np.array_equal(waiting.mean(a, 1), model.mean(a, 1))


def test_nothing_pending_leaves_the_model_as_it_is() -> None:
    model = Exact(some_runs(np.random.default_rng(0)))
    assert awaiting(model, np.zeros((0, 3)), np.zeros(0, dtype=np.intp)) is model


def test_a_guardrails_chance_is_that_of_joint_draws() -> None:
    rng = np.random.default_rng(5)
    model = Exact(some_runs(rng))
    belief = belief_of(model, inflation=1.4)
    guards = Guards(
        rng.dirichlet(np.ones(3)), np.array([0, 1]), np.array([0.1, 0.0]), np.array([0.9, 0.8])
    )
    p = rng.dirichlet(np.ones(3), size=6)
    drawn = belief.losses(rng, np.concatenate([guards.baseline[None], p]), 20_000)
    increase = drawn[:, 1:] - drawn[:, :1]
    holds = increase <= guards.slack
    assert guards.chances(belief, p) == pytest.approx(holds.mean(axis=0), abs=0.015)
    assert guards.all_hold(belief, p) == pytest.approx(holds.all(axis=2).mean(axis=0), abs=0.015)


def test_the_baseline_itself_keeps_every_guardrail() -> None:
    model = Exact(some_runs(np.random.default_rng(6)))
    baseline = np.array([0.2, 0.5, 0.3])
    guards = Guards(baseline, np.array([0]), np.array([0.0]), np.array([0.9]))
    assert guards.allowed(belief_of(model), baseline[None]).tolist() == [True]


def after(model: Exact, q: Array, rung: int, rng: np.random.Generator, count: int) -> list[Exact]:
    """The model after each of ``count`` outcomes of a run, drawn from what it believes."""
    mean = model.mean(q[None], rung)[0]
    sd = np.sqrt(model.var(q[None], rung)[0] + NOISE[rung])
    half = rng.standard_normal((count // 2, 2))
    return [Exact(plus(model.runs, q, rung, mean + sd * z)) for z in np.concatenate([half, -half])]


def test_the_worth_of_a_target_run_is_what_refitting_on_its_outcomes_gains() -> None:
    rng = np.random.default_rng(7)
    model = Exact(some_runs(rng))
    view = outlook(model)
    p = rng.dirichlet(np.ones(3), size=3)
    worth = view.worth(p)
    for i, q in enumerate(p):
        gains = []
        for later in after(model, q, 1, rng, 1500):
            means = belief_of(later).mean(np.stack([view.incumbent, q]))
            gains.append(max(means[0] - means[1], 0.0))
        assert worth.improvement[i] == pytest.approx(np.mean(gains), abs=5 * np.std(gains) / 35)


def test_worth_of_the_worst_excess_is_that_of_joint_draws() -> None:
    rng = np.random.default_rng(8)
    model = Exact(some_runs(rng))
    goal = Goal(np.array([0.5, 0.5]), reference=np.array([-0.2, 0.1]))
    view = outlook(model, goal)
    p = rng.dirichlet(np.ones(3), size=3)
    worth = view.worth(p)
    for i, q in enumerate(p):
        gains = []
        for later in after(model, q, 1, rng, 1500):
            values = goal.value(later.mean(np.stack([view.incumbent, q]), 1))
            gains.append(max(values[0] - values[1], 0.0))
        assert worth.improvement[i] == pytest.approx(np.mean(gains), abs=0.03)


def test_the_look_ahead_is_the_best_target_run_after_each_outcome_of_a_cheap_one() -> None:
    rng = np.random.default_rng(9)
    model = Exact(some_runs(rng))
    view = outlook(model)
    p, q = rng.dirichlet(np.ones(3), size=12), rng.dirichlet(np.ones(3), size=2)
    ahead = view.ahead(q, 0, p)
    for k, cheap in enumerate(q):
        best = []
        for later in after(model, cheap, 0, rng, 400):
            best.append(
                Outlook(belief_of(later), no_guards(), view.incumbent).worth(p).improvement.max()
            )
        assert ahead[k] == pytest.approx(np.mean(best), rel=0.08)


def test_a_cheap_run_can_only_add_to_what_the_next_target_run_is_worth() -> None:
    rng = np.random.default_rng(10)
    model = Exact(some_runs(rng))
    view = outlook(model)
    p = rng.dirichlet(np.ones(3), size=20)
    ahead = view.ahead(rng.dirichlet(np.ones(3), size=8), 0, p)
    assert np.all(ahead >= 0.98 * view.worth(p).improvement.max())


def test_a_rung_that_knows_nothing_of_the_target_adds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(14)
    monkeypatch.setitem(Exact._prior.__globals__, "SLOPE", np.array([[0.0, 0.0], [0.6, 0.3]]))
    view = outlook(Exact(some_runs(rng)))
    p, q = rng.dirichlet(np.ones(3), size=20), rng.dirichlet(np.ones(3), size=4)
    assert view.ahead(q, 0, p) == pytest.approx(view.worth(p).improvement.max())
    assert view.information(p, q, 0)[0] == pytest.approx(0.0, abs=1e-12)
    assert view.correlation(q[0], 0) == pytest.approx(0.0, abs=1e-9)


def test_information_is_the_fall_of_the_variance_of_differences() -> None:
    rng = np.random.default_rng(11)
    model = Exact(some_runs(rng))
    view = outlook(model)
    p, q = rng.dirichlet(np.ones(3), size=5), rng.dirichlet(np.ones(3), size=3)

    def spread(one: Exact) -> float:
        cov = np.einsum("e,enk->nk", np.array([0.7, 0.3]) ** 2, one.cov(p, 1, p, 1))
        var = np.diag(cov)
        return float(np.mean(var[:, None] + var[None] - 2 * cov))

    for rung in (0, 1):
        told, now = view.information(p, q, rung)
        assert now == pytest.approx(spread(model))
        for k in range(3):
            later = Exact(plus(model.runs, q[k], rung, np.zeros(2)))
            assert told[k] == pytest.approx(now - spread(later), rel=1e-6)


def test_correlation_is_that_of_draws() -> None:
    rng = np.random.default_rng(12)
    model = Exact(some_runs(rng, target=1))
    view = replace(outlook(model), incumbent=np.array([0.1, 0.1, 0.8]))
    q = np.array([0.5, 0.4, 0.1])
    rows = [(q, 1), (view.incumbent, 1), (q, 0)]
    cov = np.array([[model.cov(a[None], r, b[None], s)[:, 0, 0] for b, s in rows] for a, r in rows])
    square = np.array([0.7, 0.3]) ** 2
    total = cov @ square
    top = total[0, 2] - total[1, 2]
    below = (total[0, 0] + total[1, 1] - 2 * total[0, 1]) * (total[2, 2] + square @ NOISE[0])
    assert view.correlation(q, 0) == pytest.approx(top / np.sqrt(below))


def test_entropy_gain_is_botorchs_lower_bound() -> None:
    rng = np.random.default_rng(13)
    x = torch.from_numpy(rng.random((6, 2)))
    model = SingleTaskGP(x, torch.from_numpy(rng.normal(size=(6, 1)))).eval()
    p = torch.from_numpy(rng.random((9, 2)))
    theirs = qLowerBoundMaxValueEntropy(model, candidate_set=p, num_mv_samples=4)
    theirs.posterior_max_values = torch.tensor([[2.0], [2.5], [3.0], [3.2]], dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(p[:, None]).numpy()
        posterior = model.posterior(p)
        noisy = model.posterior(p, observation_noise=True).variance[:, 0].numpy()
        sd = posterior.variance[:, 0].sqrt().numpy()
        mean = -posterior.mean[:, 0].numpy()
    lowest = -theirs.posterior_max_values[:, 0].numpy()
    ours = entropy_gain(mean, sd, sd / np.sqrt(noisy), lowest)
    assert ours == pytest.approx(expected, rel=1e-3, abs=1e-5)
