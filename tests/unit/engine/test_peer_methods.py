"""What the peers' strategies compute, against independent references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import ks_2samp

from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import log_linear_world
from cuvee.engine.propose import propose
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies import regmix
from cuvee.engine.surrogates import laws
from cuvee.mixture import Mixture
from cuvee.records import History, Proposal, SearchProblem
from cuvee.spec import Bound, Constraints, Doctor, GroupBound

DOMAINS = 5
BOXED = Constraints(
    bounds={"d1": Bound(max=0.15), "d3": Bound(min=0.1)},
    groups=(GroupBound(domains=("d0", "d2"), min=0.2, max=0.5),),
)


def swarm(strategy: str, constraints: Constraints) -> tuple[SearchProblem, History]:
    """A job whose cheap rung is spent on random mixtures."""
    world = log_linear_world(np.random.default_rng(6), np.array([0.3, 0.1, 0.3, 0.1, 0.2]))
    problem = world.problem((40, 12), strategy=strategy, constraints=constraints)  # type: ignore[arg-type]
    problem = problem.model_copy(
        update={"spec": problem.spec.model_copy(update={"doctor": Doctor(anchors=0, repeats=1)})}
    )
    shares = np.random.default_rng(7).dirichlet(np.ones(DOMAINS), size=40)
    runs = tuple(
        world.observe(
            Proposal(
                mixture=Mixture.from_shares(world.names, row.tolist()), rung=0, seed=i, reason=""
            ),
            f"r{i:03d}",
        )
        for i, row in enumerate(shares)
    )
    return problem, History(observations=runs)


@pytest.mark.parametrize("constraints", [Constraints(), BOXED], ids=["free", "boxed"])
def test_olmixs_mixture_is_the_least_of_its_convex_program(constraints: Constraints) -> None:
    problem, history = swarm("olmix", constraints)
    table = Table.build(problem, history)
    law = laws.fit(*table.at(0))
    natural = table.vector(problem.natural)
    weighs = dict(zip(problem.eval_sets, problem.weights, strict=True))
    weights = np.array([weighs[e] for e in table.eval_sets]) / sum(problem.weights)

    def program(p: Array) -> float:
        losses = law.c + np.exp(law.t @ p)
        return float(weights @ losses + 0.05 * np.sum(p * np.log(np.maximum(p, 1e-12) / natural)))

    lower = np.array([constraints.bounds.get(d, Bound()).min for d in table.domains])
    upper = np.array([constraints.bounds.get(d, Bound()).max for d in table.domains])
    limits = [{"type": "eq", "fun": lambda p: p.sum() - 1}]
    for group in constraints.groups:
        member = np.isin(table.domains, group.domains)
        limits.append({"type": "ineq", "fun": lambda p, k=member, g=group: p[k].sum() - g.min})
        limits.append({"type": "ineq", "fun": lambda p, k=member, g=group: g.max - p[k].sum()})
    found = minimize(
        program,
        np.full(DOMAINS, 1 / DOMAINS),
        method="SLSQP",
        bounds=list(zip(np.maximum(lower, 1e-9), upper, strict=True)),
        constraints=limits,
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert found.success
    # The references first, then what the program ranks best.
    done = [q for q in propose(problem, history, seed=1, count=6) if q.label is None]
    ours = np.array(done[0].mixture.shares(table.domains))
    assert program(ours) == pytest.approx(found.fun, abs=2e-5)
    assert ours == pytest.approx(found.x, abs=0.01)


def test_regmixs_sampler_draws_as_the_published_one() -> None:
    """Written again from the paper's description, one draw at a time, by numpy's Dirichlet."""
    problem, history = swarm("regmix", Constraints())
    table = Table.build(problem, history)
    tokens = np.array([problem.tokens[problem.names.index(d)] for d in table.domains], dtype=float)
    prior = np.sqrt(tokens / tokens.sum())
    prior /= prior.sum()
    rng = np.random.default_rng(11)
    expected = []
    for strength in np.geomspace(0.1, 5.0, 15):
        for _ in range(400):
            p = rng.dirichlet(strength * prior)
            if np.all(np.isfinite(p)) and np.all(p <= 15 * prior):
                p = np.where(p < 2e-4, 0.0, p)
                expected.append(p / p.sum())
    reference = np.array(expected)
    ours = regmix.regmix_draws(table, np.random.default_rng(12), 6000)
    assert abs(len(ours) - len(reference)) < 0.05 * len(reference)
    for j in range(DOMAINS):
        assert ks_2samp(ours[:, j], reference[:, j]).pvalue > 1e-3
    zeros, theirs = (np.sum(rows == 0, axis=1) for rows in (ours, reference))
    assert zeros.mean() == pytest.approx(theirs.mean(), abs=0.1)
    assert ours.sum(axis=1) == pytest.approx(1.0)
    assert not np.any((ours > 0) & (ours < 2e-4))


def test_regmixs_answer_is_the_mean_of_the_128_draws_that_its_trees_rank_best() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    problem, history = swarm("regmix", Constraints())
    table = Table.build(problem, history)
    x, y = table.at(0)
    trees = lightgbm.LGBMRegressor(
        num_iterations=1000, learning_rate=0.01, seed=42, num_threads=1, verbosity=-1
    )
    trees.fit(x, table.goal.value(y))
    draws = regmix.regmix_draws(table, np.random.default_rng(problem.spec.seed), 100_000)
    best = draws[np.argsort(trees.predict(draws), kind="stable")[:128]]
    (answer,) = [q for q in propose(problem, history, seed=1, count=6) if q.label is None][:1]
    assert np.array(answer.mixture.shares(table.domains)) == pytest.approx(
        best.mean(axis=0), abs=0.02
    )
