"""Designs against exhaustive search, and what their candidates look like."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.space import design
from cuvee.engine.space.simplex import Array, Region
from cuvee.records import History, SearchProblem
from cuvee.spec import Bound, Constraints, GroupBound

CAPPED = Constraints(
    bounds={"d0": Bound(max=0.5), "d3": Bound(min=0.05)},
    groups=(GroupBound(domains=("d0", "d1"), min=0.1, max=0.6),),
)


def a_problem(m: int = 5, constraints: Constraints | None = None) -> SearchProblem:
    world = power_world(np.random.default_rng(0), m, noise=(0.0, 0.01))
    return world.problem((40, 40), constraints=constraints)


def filled(problem: SearchProblem, count: int, *, interior: bool, seed: int = 0) -> Array:
    table = Table.build(problem, History())
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        table = table.with_pending(design.fill(table, 0, rng, interior=interior).p, 0)
    return table.taken(0)


def log_det(x: Array) -> float:
    z = np.concatenate([np.ones((len(x), 1)), np.sqrt(x)], axis=1)
    return float(np.linalg.slogdet(design.RIDGE * np.eye(z.shape[1]) + z.T @ z)[1])


def test_a_point_of_great_leverage_adds_its_logarithm_to_the_determinant() -> None:
    x = np.random.default_rng(0).dirichlet(np.full(4, 0.5), size=9)
    found = design.leverage(x[6:], x[:6])
    for p, leverage in zip(x[6:], found, strict=True):
        grown = log_det(np.concatenate([x[:6], p[None]])) - log_det(x[:6])
        assert grown == pytest.approx(np.log1p(leverage), abs=1e-9)


def test_rows_chosen_one_by_one_come_near_the_best_set_of_all() -> None:
    behind, random = [], []
    for seed in range(10):
        x = np.random.default_rng(seed).dirichlet(np.full(3, 0.4), size=12)
        best = max(log_det(x[list(rows)]) for rows in combinations(range(12), 5))
        chosen = design.d_optimal(x, 5)
        assert len(set(chosen.tolist())) == 5
        behind.append(best - log_det(x[chosen]))
        random.append(best - log_det(x[:5]))
    assert min(behind) > -1e-9
    assert np.median(behind) < 0.15 < 0.1 * np.median(random)


def test_rows_are_chosen_as_the_points_of_a_search_are() -> None:
    x = np.random.default_rng(1).dirichlet(np.full(4, 0.4), size=30)
    taken: list[int] = []
    for _ in range(8):
        left = [i for i in range(30) if i not in taken]
        taken.append(left[int(np.argmax(design.leverage(x[left], x[taken])))])
    np.testing.assert_array_equal(design.d_optimal(x, 8), taken)
    with pytest.raises(ValueError, match="cannot choose 31 of 30"):
        design.d_optimal(x, 31)


@pytest.mark.parametrize("interior", [True, False])
@pytest.mark.parametrize("most", [None, 3])
def test_design_points_are_feasible_and_differ(interior: bool, most: int | None) -> None:
    problem = a_problem(constraints=CAPPED.model_copy(update={"max_active": most}))
    x = filled(problem, 12, interior=interior)
    assert Table.build(problem, History()).region.contains(x, slack=1e-9).all()
    gaps = 0.5 * np.abs(x[:, None] - x[None]).sum(axis=2) + np.eye(12)
    assert gaps.min() > 0.01


def test_interior_designs_keep_every_domain_and_sparse_ones_do_not() -> None:
    problem = a_problem(8)
    inside, outside = (filled(problem, 24, interior=interior) for interior in (True, False))
    assert inside.min() > 0.005
    assert np.mean(outside == 0.0) > 0.3
    assert log_det(outside) > log_det(inside)
    spread = np.random.default_rng(0).dirichlet(np.ones(8), size=24)
    assert log_det(inside) > log_det(spread)


def test_a_few_points_identify_every_coefficient() -> None:
    x = filled(a_problem(8), 9, interior=False)
    z = np.concatenate([np.ones((9, 1)), np.sqrt(x)], axis=1)
    assert np.linalg.cond(z) < 60  # nine uniform draws: 900


def test_a_point_among_given_rows_is_one_of_them() -> None:
    table = Table.build(a_problem(), History())
    rows = np.random.default_rng(0).dirichlet(np.ones(5), size=6)
    found = design.fill(table, 1, np.random.default_rng(0), rows)
    assert any(np.array_equal(found.p, row) for row in rows)
    assert found.leverage == pytest.approx(design.leverage(rows, table.taken(1)).max())
    assert found.reason.endswith("among the mixtures of the rung below")


def test_runs_under_way_change_the_next_point() -> None:
    table = Table.build(a_problem(), History())
    first = design.fill(table, 0, np.random.default_rng(0))
    again = design.fill(table.with_pending(first.p, 0), 0, np.random.default_rng(0))
    assert not np.array_equal(first.p, again.p)
    elsewhere = design.fill(table.with_pending(first.p, 1), 0, np.random.default_rng(0))
    np.testing.assert_array_equal(first.p, elsewhere.p)


def test_multi_strength_draws_are_sparse_and_some_are_near_the_prior() -> None:
    region = Region(np.zeros(17), np.ones(17), (), np.zeros(0), np.zeros(0))
    prior = np.random.default_rng(1).dirichlet(np.full(17, 2.0))
    p = design.multi_strength(region, np.random.default_rng(0), prior, 1000)
    effective = np.exp(-np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=1))
    assert np.all((p == 0) | (p >= 2e-4 - 1e-12))
    # RegMix's 512 training mixtures have three effective domains; uniform draws have nine.
    assert 1.5 < np.median(effective[:800]) < 3.5
    assert np.median(effective[800:]) > 9
    tempered = np.sqrt(prior) / np.sqrt(prior).sum()
    np.testing.assert_allclose(p.mean(axis=0), tempered, atol=0.02)


def test_moving_inward_keeps_the_active_domains_of_a_sparse_region() -> None:
    table = Table.build(a_problem(constraints=Constraints(max_active=2)), History())
    p = table.region.sample(np.random.default_rng(0), 20)
    moved = design.inward(table, p)
    assert table.region.contains(moved).all()
    np.testing.assert_array_equal(moved > 0, p > 0)
    even = np.where(p > 0, 0.5 * table.vector(table.problem.baseline) + 0.1, 0.0)
    even /= even.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(moved, 0.85 * p + 0.15 * even, atol=1e-12)
