"""The set of mixtures that can not be told apart: what belongs, how wide it is, its examples."""

from __future__ import annotations

import numpy as np
import pytest
from quadratic_world import QuadraticModel, QuadraticWorld

from cuvee.answer import EquivalentSet
from cuvee.engine.answer.contrast import gap
from cuvee.engine.answer.equivalents import TOLERANCE, equivalents, far_apart
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.space.optima import Optima, descend, draw_optima, gather
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief
from cuvee.records import History
from cuvee.spec import Bound, Constraints


def searched(
    seed: int, m: int, runs: int = 12, constraints: Constraints | None = None, **fixed: float
) -> tuple[Table, Belief, QuadraticModel, Array, Optima]:
    """A table of no runs, a belief about a quadratic, its optimum and optima of draws."""
    rng = np.random.default_rng(seed)
    problem = power_world(rng, m, noise=(0.0, 0.01)).problem((4, 4), constraints=constraints)
    table = Table.build(problem, History())
    world = QuadraticWorld.draw(rng, m, m, **fixed)
    model = world.fit(world.measure(rng, rng.dirichlet(np.ones(m), size=runs)))
    belief = Belief(model, table.goal, 1.0, np.eye(m))
    best = descend(belief.mean, table.region, table.region.project(np.full(m, 1 / m)))
    cloud = gather(table.region, best, model.runs.x, rng, 128, 64)
    return table, belief, model, best, draw_optima(belief, table.region, best, cloud, rng, 200)


def found_for(
    table: Table, belief: Belief, best: Array, optima: Optima, noise: float | None = 0.02
) -> EquivalentSet:
    rng = np.random.default_rng(0)
    return equivalents(table, belief, table.region, best, optima, noise, rng, 0.9)


def ends(found: EquivalentSet, table: Table) -> tuple[Array, Array]:
    low = np.array([found.ranges[d].low for d in table.domains])
    return low, np.array([found.ranges[d].high for d in table.domains])


@pytest.mark.parametrize("seed", range(4))
def test_the_ranges_are_those_of_a_fine_grid(seed: int) -> None:
    table, belief, _, best, optima = searched(seed, 3)
    found = found_for(table, belief, best, optima)
    axis = np.linspace(0, 1, 201)
    a, b = (v.reshape(-1) for v in np.meshgrid(axis, axis))
    grid = np.stack([a, b, 1 - a - b], axis=1)[a + b <= 1 + 1e-12]
    members = grid[gap(belief, np.abs(grid), best, 0.9).low <= found.tolerance]
    low, high = ends(found, table)
    width = np.ptp(members, axis=0)
    assert np.all(np.abs(low - members.min(axis=0)) < 0.08 * width + 0.01)
    assert np.all(np.abs(high - members.max(axis=0)) < 0.08 * width + 0.01)
    assert found.share_of_region == pytest.approx(len(members) / len(grid), abs=0.06)


@pytest.mark.parametrize("m", [5, 17])
def test_the_ranges_reach_nearly_as_far_as_any_member(m: int) -> None:
    """An independent search: a long random walk that never leaves the set."""
    table, belief, _, best, optima = searched(10, m, 2 * m)
    found = found_for(table, belief, best, optima)
    rng = np.random.default_rng(1)
    at, members = np.tile(best, (64, 1)), [best[None]]
    rows = np.arange(64)
    for _ in range(250):
        i, j = rng.integers(m, size=64), rng.integers(m, size=64)
        step = np.abs(rng.normal(scale=0.05, size=64))
        step = np.minimum(step, at[rows, j]) * (i != j)
        trial = at.copy()
        trial[rows, i] += step
        trial[rows, j] -= step
        inside = gap(belief, trial, best, 0.9).low <= found.tolerance
        at = np.where(inside[:, None], trial, at)
        members.append(at)
    walked = np.concatenate(members)
    low, high = ends(found, table)
    reach = np.maximum(walked.max(axis=0) - best, best - walked.min(axis=0)) + 0.02
    assert np.all(high - walked.max(axis=0) > -0.25 * reach)
    assert np.all(walked.min(axis=0) - low > -0.25 * reach)


def test_the_true_optimum_belongs_as_often_as_the_confidence_says() -> None:
    inside, ranges = [], []
    for seed in range(40):
        table, belief, model, best, optima = searched(seed, 4, 6)
        found = found_for(table, belief, best, optima, None)
        slope = table.goal.w @ model.world.slope
        truth = table.region.project(-slope / model.world.curvature)
        # The best of all mixtures is picked by its loss, which the interval of one does not know.
        inside.append(gap(belief, truth[None], best, 0.9).low[0] <= found.tolerance)
        low, high = ends(found, table)
        ranges.append(np.all((truth >= low - 0.01) & (truth <= high + 0.01)))
    assert np.mean(inside) >= 0.9
    assert np.mean(ranges) >= 0.9


def test_more_data_leave_fewer_equivalents() -> None:
    few = searched(3, 5, 8)
    many = searched(3, 5, 300)
    wide, narrow = (found_for(t, b, best, o, None) for t, b, _, best, o in (few, many))
    assert wide.share_of_region > narrow.share_of_region
    spread = [np.subtract(*ends(f, few[0])[::-1]).sum() for f in (wide, narrow)]
    assert spread[1] < 0.5 * spread[0]


def test_all_of_it_is_feasible_and_its_examples_are_members_far_apart() -> None:
    constraints = Constraints(bounds={"d0": Bound(max=0.2), "d1": Bound(min=0.1)})
    table, belief, _, best, optima = searched(4, 5, 10, constraints)
    found = found_for(table, belief, best, optima)
    assert found.tolerance == pytest.approx(TOLERANCE * 0.02)
    assert found.ranges["d0"].high <= 0.2 + 1e-9
    assert found.ranges["d1"].low >= 0.1 - 1e-9
    for d in table.domains:
        assert found.ranges[d].low <= found.ranges[d].mean <= found.ranges[d].high
    rows = np.array([table.vector(q) for q in found.examples])
    assert len(rows) == 4
    for q in found.examples:
        assert table.problem.feasible().violations(q) == []
    assert np.all(gap(belief, rows, best, 0.9).low <= found.tolerance + 1e-6)
    apart = [0.5 * np.abs(a - b).sum() for i, a in enumerate(rows) for b in rows[:i]]
    assert min(apart) > 0.25 * max(apart)


def test_max_active_holds_for_members_too() -> None:
    constraints = Constraints(max_active=2)
    table, belief, _, best, optima = searched(5, 4, 10, constraints)
    found = found_for(table, belief, best, optima)
    assert all(sum(s > 0 for s in q.root.values()) <= 2 for q in found.examples)


def test_far_apart_takes_corners_and_no_copies() -> None:
    members = np.concatenate([np.full((3, 3), 1 / 3), np.eye(3), np.eye(3)])
    found = far_apart(members, 5)
    assert sorted(map(tuple, found)) == sorted(map(tuple, np.eye(3)))
