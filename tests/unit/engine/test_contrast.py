"""Differences between mixtures against joint draws and against the exact posterior."""

from __future__ import annotations

import numpy as np
import pytest
from quadratic_world import QuadraticModel, QuadraticWorld

from cuvee.engine.answer.contrast import gap, set_gap
from cuvee.engine.goal import Goal
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief


def believed(goal: Goal, inflation: float = 1.0, seed: int = 0) -> tuple[Belief, QuadraticModel]:
    rng = np.random.default_rng(seed)
    sets = len(goal.w)
    world = QuadraticWorld.draw(rng, 4, sets)
    model = world.fit(world.measure(rng, rng.dirichlet(np.ones(4), size=6)))
    mixed = rng.normal(size=(sets, 3 * sets))
    scale = np.sqrt(np.sum(mixed**2, axis=1))
    return Belief(model, goal, inflation, mixed @ mixed.T / np.outer(scale, scale)), model


def points(seed: int, n: int = 5) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(4), size=n), rng.dirichlet(np.ones(4))


WEIGHTED = Goal(np.array([0.2, 0.3, 0.5]))
WORST = Goal(np.full(3, 1 / 3), reference=np.array([0.9, 1.0, np.inf]))


def test_the_difference_of_a_set_has_the_exact_moments() -> None:
    belief, model = believed(WEIGHTED, 1.7)
    q, p = points(1)
    mean, sd = set_gap(belief, q, p)
    slopes = model.world.centre + model.weight[:4].T
    known = (np.sum(q * q, axis=1) - np.sum(p * p)) / 2
    assert mean == pytest.approx(known[:, None] + (q - p) @ slopes.T)
    exact = 1.7 * np.sqrt(np.einsum("nj,jk,nk->n", q - p, model.root[:4, :4], q - p))
    assert sd == pytest.approx(np.repeat(exact[:, None], 3, axis=1))


@pytest.mark.parametrize("goal", [WEIGHTED, WORST])
def test_the_objectives_difference_is_that_of_joint_draws(goal: Goal) -> None:
    belief, _ = believed(goal, 1.5)
    q, p = points(2)
    found = gap(belief, q, p, 0.8)
    draws = belief.draws(np.random.default_rng(0), np.concatenate([p[None], q]), 40_000)
    values = draws[:, 1:] - draws[:, :1]
    sd = values.std(axis=0)
    # The closed form takes the sets' correlation whole, which can only widen it a little.
    assert np.all(np.abs(found.mean - values.mean(axis=0)) < 0.1 * sd)
    assert np.all(np.abs(found.sd / sd - 1) < 0.12)
    low, high = np.quantile(values, [0.1, 0.9], axis=0)
    assert np.all(np.abs(found.low - low) < 0.2 * sd)
    assert np.all(np.abs(found.high - high) < 0.2 * sd)
    assert np.all(np.abs(found.chance - np.mean(values > 0, axis=0)) < 0.06)


@pytest.mark.parametrize("goal", [WEIGHTED, WORST])
def test_a_mixture_does_not_differ_from_itself(goal: Goal) -> None:
    belief, _ = believed(goal)
    q, p = points(3)
    found = gap(belief, np.concatenate([p[None], q]), p, 0.9)
    assert (found.mean[0], found.sd[0], found.low[0], found.high[0]) == (0, 0, 0, 0)
    assert found.chance[0] == 0.5
    assert np.all(found.sd[1:] > 0)


def test_what_two_mixtures_share_cancels() -> None:
    belief, _ = believed(WEIGHTED)
    _, p = points(4)
    near = 0.99 * p + 0.01 * np.array([1.0, 0.0, 0.0, 0.0])
    apart = gap(belief, near[None], p, 0.9).sd[0]
    assert apart < 0.1 * float(belief.sd(near[None])[0])


def test_no_chance_is_certain() -> None:
    rng = np.random.default_rng(5)
    world = QuadraticWorld.draw(rng, 4, 3, noise=1e-4)
    model = world.fit(world.measure(rng, rng.dirichlet(np.ones(4), size=30)))
    belief = Belief(model, WEIGHTED, 1.0, np.eye(3))
    found = gap(belief, np.eye(4), np.full(4, 0.25), 0.9).chance
    assert np.all((found > 0) & (found < 1))
