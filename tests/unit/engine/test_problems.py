"""The synthetic worlds are what they say: optima, gradients, and rungs that mislead."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import spearmanr

from cuvee.engine.problems import World, interaction_world, log_linear_world, power_world

KINDS: dict[str, Callable[[np.random.Generator], World]] = {
    "log_linear": lambda rng: log_linear_world(rng, rng.dirichlet(np.ones(3))),
    "face": lambda rng: log_linear_world(rng, np.array([0.6, 0.4, 0.0])),
    "power": lambda rng: power_world(rng, 3),
    "interactions": lambda rng: interaction_world(rng, 3),
    "fewer sets": lambda rng: log_linear_world(rng, np.full(3, 1 / 3), weights=np.array([1.0, 2])),
}


def grid(steps: int) -> np.ndarray:
    """All mixtures of three domains whose shares are multiples of ``1 / steps``."""
    first, second = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1))
    inside = first + second <= steps
    pairs = np.stack([first[inside], second[inside]], axis=1)
    return np.concatenate([pairs, steps - pairs.sum(axis=1, keepdims=True)], axis=1) / steps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_no_mixture_of_a_dense_grid_beats_the_optimum(kind: str, seed: int) -> None:
    world = KINDS[kind](np.random.default_rng(seed))
    values = np.array([world.objective(p) for p in grid(60)])
    least = world.objective(world.optimum)
    assert world.optimum.sum() == pytest.approx(1)
    assert least <= values.min() + 1e-7
    assert least == pytest.approx(values.min(), abs=0.01)  # the grid comes near


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_finite_differences(kind: str) -> None:
    rng = np.random.default_rng(1)
    world = KINDS[kind](rng)
    p = rng.dirichlet(np.ones(3))
    expected = approx_fprime(p, world.objective, 1e-7)
    assert world.gradient(p) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def agreement(world: World, seed: int) -> float:
    x = np.random.default_rng(seed).dirichlet(np.ones(len(world.names)), size=200)
    low, high = (np.array([world.objective(p, rung) for p in x]) for rung in (0, -1))
    return float(spearmanr(low, high).statistic)


def test_a_related_rung_agrees_more_than_a_biased_one_and_a_useless_one_does_not() -> None:
    found = {}
    for low in ("related", "biased", "useless"):
        worlds = [power_world(np.random.default_rng(s), 8, low=low) for s in range(12)]  # type: ignore[arg-type]
        found[low] = float(np.mean([agreement(world, 0) for world in worlds]))
    assert all(a > b + 0.1 for a, b in pairwise(found.values()))
    assert found["related"] > 0.8
    assert abs(found["useless"]) < 0.3


@pytest.mark.parametrize("m", [3, 40, 100])
def test_many_domains_with_few_sets_make_a_problem_that_can_be_measured(m: int) -> None:
    optimum = np.zeros(m)
    optimum[:3] = 1 / 3
    world = log_linear_world(np.random.default_rng(0), optimum, weights=np.ones(3))
    problem = world.problem((4, 4), costs=(0.01, 1.0))
    measured = world.measure(problem.natural, 1, seed=0)
    assert set(measured) == set(problem.eval_sets) == {"d0", "d1", "d2"}
    assert sum(problem.weights) == pytest.approx(1)
    assert [rung.cost for rung in problem.rungs] == [0.01, 1.0]
    vertices = min(world.objective(corner) for corner in np.eye(m))
    assert world.objective(optimum) < vertices
