"""The minimiser against built-in optima, scipy and a brute-force grid."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from cuvee.engine.problems import log_linear_world, power_world
from cuvee.engine.space.optimum import minimise, total
from cuvee.engine.space.simplex import Region
from cuvee.feasible import FeasibleSet
from cuvee.spec import Bound, Constraints, GroupBound


def free(m: int) -> Region:
    return Region(np.zeros(m), np.ones(m), (), np.zeros(0), np.zeros(0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("m", [2, 5, 12, 50])
def test_interior_optima_are_found(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    world = log_linear_world(rng, rng.dirichlet(np.full(m, 4.0)))
    p = minimise(world.t[1][None], world.weights, free(m), np.full(m, 1 / m), steps=500)[0]
    assert world.objective(p) - world.objective(world.optimum) < 1e-7
    np.testing.assert_allclose(p, world.optimum, atol=3e-3)


@pytest.mark.parametrize("seed", range(5))
def test_optima_on_a_face_are_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    best = np.array([0.5, 0.3, 0.2, 0.0, 0.0])
    world = log_linear_world(rng, best)
    p = minimise(world.t[1][None], world.weights, free(5), np.full(5, 0.2))[0]
    np.testing.assert_allclose(p, best, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_constrained_optima_agree_with_a_general_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = log_linear_world(rng, rng.dirichlet(np.ones(4)))
    constraints = Constraints(
        bounds={"a": Bound(min=0.1, max=0.3)},
        groups=(GroupBound(domains=("b", "c"), min=0.2, max=0.4),),
    )
    region = Region.of(FeasibleSet.build(list("abcd"), constraints))
    t, w = world.t[1], world.weights
    p = minimise(t[None], w, region, np.full(4, 0.25))[0]
    assert region.contains(p).all()
    theirs = minimize(
        lambda q: w @ np.exp(t @ q),
        region.project(np.full(4, 0.25)),
        bounds=list(zip(region.lower, region.upper, strict=True)),
        constraints=[
            {"type": "eq", "fun": lambda q: q.sum() - 1},
            {"type": "ineq", "fun": lambda q: q[1] + q[2] - 0.2},
            {"type": "ineq", "fun": lambda q: 0.4 - q[1] - q[2]},
        ],
        method="SLSQP",
        options={"ftol": 1e-13},
    )
    assert total(t[None], w, p[None])[0] <= theirs.fun + 1e-8


def test_no_grid_point_is_better() -> None:
    rng = np.random.default_rng(3)
    t, w = rng.normal(size=(3, 3)) - np.eye(3), rng.dirichlet(np.ones(3))
    p = minimise(t[None], w, free(3), np.full(3, 1 / 3))[0]
    a, b = np.meshgrid(np.linspace(0, 1, 201), np.linspace(0, 1, 201))
    grid = np.stack([a, b, 1 - a - b], axis=-1).reshape(-1, 3)
    grid = grid[grid[:, 2] >= 0]
    best = np.min(np.exp(grid @ t.T) @ w)
    assert total(t[None], w, p[None])[0] <= best + 1e-9


def test_rows_of_a_batch_are_solved_as_if_alone() -> None:
    t = np.random.default_rng(4).normal(size=(6, 4, 4))
    w = np.full(4, 0.25)
    together = minimise(t, w, free(4), np.full(4, 0.25))
    alone = [minimise(row[None], w, free(4), np.full(4, 0.25))[0] for row in t]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_power_worlds_optimum_is_no_worse_than_any_draw() -> None:
    world = power_world(np.random.default_rng(0), 4)
    draws = np.random.default_rng(1).dirichlet(np.full(4, 0.7), size=3000)
    assert world.objective(world.optimum) <= min(world.objective(p) for p in draws) + 1e-9


def test_with_few_active_domains_it_comes_near_the_best_of_all_sets() -> None:
    behind = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        t, w = rng.normal(scale=1.5, size=(1, 4, 6)) - 2 * np.eye(4, 6), np.full(4, 0.25)
        region = replace(free(6), max_active=2)
        p = minimise(t, w, region, np.full(6, 1 / 6))
        assert region.contains(p).all()
        found = []
        for active in combinations(range(6), 2):
            upper = np.isin(np.arange(6), active).astype(float)
            face = replace(region, upper=upper, max_active=None)
            found.append(total(t, w, minimise(t, w, face, np.full(6, 1 / 6)))[0])
        value = total(t, w, p)[0]
        behind.append((value - min(found)) / (np.median(found) - min(found)))
    assert min(behind) > -1e-6
    assert np.median(behind) < 1e-6  # the best set
