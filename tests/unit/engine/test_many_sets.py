"""As many evaluation sets as domains: the same laws as in small groups, and an answer in time."""

from __future__ import annotations

import numpy as np
import pytest

from cuvee.engine import propose
from cuvee.engine.problems import log_linear_world
from cuvee.engine.propose import answer_mixture
from cuvee.engine.surrogates import laws, power
from cuvee.engine.surrogates.sums import FEW, groups, hat, squares
from cuvee.mixture import Mixture
from cuvee.records import History, Proposal


def test_sums_are_what_their_indices_say() -> None:
    rng = np.random.default_rng(0)
    x, weight, inverse = rng.random((9, 4)), rng.random((2, 3, 9)), rng.random((2, 3, 5, 4, 4))
    spelt = np.einsum("efk,kj,kl->efjl", weight, x, x)
    np.testing.assert_allclose(squares(weight, x), spelt, rtol=1e-12)
    spelt = np.einsum("kj,efrjl,kl->efrk", x, inverse, x)
    np.testing.assert_allclose(hat(x, inverse), spelt, rtol=1e-12)


@pytest.mark.parametrize("numbers", [1, 40_000, 10**9])
def test_groups_hold_every_set_once_and_few_sets_stay_together(numbers: int) -> None:
    assert len(groups(FEW, numbers)) == 1
    assert [i for g in groups(50, numbers) for i in range(50)[g]] == list(range(50))


def test_laws_of_many_sets_are_as_good_as_those_of_few() -> None:
    rng = np.random.default_rng(1)
    m, sets = 4, 2 * FEW
    x, new = rng.dirichlet(np.full(m, 0.7), size=60), rng.dirichlet(np.ones(m), size=200)
    slopes = rng.normal(size=(m, sets))
    y = 1.0 + np.exp(x @ slopes) + 0.01 * rng.normal(size=(60, sets))
    truth = 1.0 + np.exp(new @ slopes)
    halves = (slice(FEW), slice(FEW, None))
    for fit in (lambda y: power.fit(x, y).at(new)[0], lambda y: laws.fit(x, y).at(new)):
        apart = np.concatenate([fit(y[:, half]) for half in halves], axis=1)
        error, before = (np.sqrt(np.mean((found - truth) ** 2)) for found in (fit(y), apart))
        assert error < 1.1 * before


def test_two_hundred_domains_with_a_set_each_are_searched() -> None:
    m = 200
    rng = np.random.default_rng(2)
    world = log_linear_world(rng, rng.dirichlet(np.full(m, 0.3)), weights=np.ones(m))
    problem = world.problem((30, 12), costs=(0.01, 1.0))
    labels = {"baseline": problem.baseline, "uniform": problem.uniform}
    runs = [
        Proposal(mixture=p, rung=rung, seed=seed, reason="", label=label)
        for rung in (0, 1)
        for seed in range(1 + rung)
        for label, p in labels.items()
    ]
    runs += [
        Proposal(mixture=Mixture.from_shares(world.names, p.tolist()), rung=rung, seed=0, reason="")
        for rung, count in ((0, 14), (1, 8))
        for p in rng.dirichlet(np.full(m, 0.5), size=count)
    ]
    history = History(observations=tuple(world.observe(r, f"r{i}") for i, r in enumerate(runs)))
    (proposal,) = propose(problem, history, seed=3)
    assert proposal.label is None
    feasible = problem.feasible()
    assert not feasible.violations(proposal.mixture)
    assert not feasible.violations(answer_mixture(problem, history, seed=3))
