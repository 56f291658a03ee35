"""Optima of the mean and of draws, where both are projections that can be computed exactly."""

from __future__ import annotations

import numpy as np
import pytest
from quadratic_world import QuadraticModel, QuadraticWorld
from scipy import optimize

from cuvee.engine.goal import Goal
from cuvee.engine.space.optima import descend, draw_optima, gather, slopes
from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.surrogates.belief import Belief
from cuvee.feasible import FeasibleSet
from cuvee.spec import Bound, Constraints, GroupBound


def region_of(m: int) -> Region:
    names = tuple(f"d{j}" for j in range(m))
    constraints = Constraints(
        bounds={"d0": Bound(max=0.6)}, groups=(GroupBound(domains=("d1", "d2"), max=0.5),)
    )
    return Region.of(FeasibleSet.build(names, constraints))


def believed(seed: int, m: int, runs: int, **fixed: float) -> tuple[Belief, QuadraticModel]:
    rng = np.random.default_rng(seed)
    world = QuadraticWorld.draw(rng, m, 3, **fixed)
    model = world.fit(world.measure(rng, rng.dirichlet(np.ones(m), size=runs)))
    return Belief(model, Goal(np.full(3, 1 / 3)), 1.0, np.eye(3)), model


def exact(model: QuadraticModel, region: Region) -> Array:
    m = region.dimension
    slope = (model.world.centre + model.weight[:m].T).mean(axis=0)
    return region.project(-slope / model.world.curvature)


@pytest.mark.parametrize(("m", "seed"), [(3, 0), (6, 1), (17, 2), (60, 3)])
def test_the_optimum_of_a_quadratic_is_found(m: int, seed: int) -> None:
    belief, model = believed(seed, m, 2 * m)
    region = region_of(m)
    found = descend(belief.mean, region, region.project(np.full(m, 1 / m)))
    best = exact(model, region)
    assert region.contains(found)[0]
    assert float(belief.mean(found[None])[0] - belief.mean(best[None])[0]) < 1e-6
    assert found == pytest.approx(best, abs=2e-3)


def test_a_steep_face_is_found_as_scipy_finds_it() -> None:
    rng = np.random.default_rng(0)
    gain = rng.uniform(0.2, 1.0, size=5)

    def loss(p: Array) -> Array:
        return np.asarray(np.sum(gain * (np.maximum(p, 0) + 0.01) ** -0.4, axis=-1))

    region = region_of(5)
    found = descend(loss, region, region.project(np.full(5, 0.2)), 200)
    rules = [
        {"type": "eq", "fun": lambda p: p.sum() - 1},
        {"type": "ineq", "fun": lambda p: 0.5 - p[1] - p[2]},
    ]
    box = [(0, 0.6)] + [(0, 1)] * 4
    reference = optimize.minimize(
        loss, np.full(5, 0.2), bounds=box, constraints=rules, method="SLSQP"
    )
    assert loss(found) - reference.fun < 1e-4


def test_it_is_never_worse_than_its_start_and_stays_on_steps() -> None:
    """Trees are constant almost everywhere: there is no slope to follow."""
    region = region_of(4)
    start = region.sample(np.random.default_rng(1), 1)[0]
    assert np.array_equal(descend(lambda p: np.floor(4 * p[:, 0]), region, start), start)


def test_slopes_are_derivatives_along_mixtures() -> None:
    rng = np.random.default_rng(2)
    p, direction = rng.dirichlet(np.ones(4)), rng.normal(size=4)
    direction -= direction.mean()
    curve = rng.normal(size=4)
    found = slopes(lambda q: np.exp(q @ curve), p[None], np.exp(p[None] @ curve))[0]
    assert found @ direction == pytest.approx(np.exp(p @ curve) * curve @ direction, rel=1e-3)


@pytest.mark.parametrize(("m", "seed", "runs"), [(3, 0, 8), (6, 1, 20), (17, 2, 60)])
def test_the_optima_of_draws_have_the_exact_distribution(m: int, seed: int, runs: int) -> None:
    belief, model = believed(seed, m, runs)
    region = region_of(m)
    rng = np.random.default_rng(seed)
    best = exact(model, region)
    cloud = gather(region, best, model.runs.x, rng, 192, 64)
    assert np.all(region.contains(cloud, slack=1e-6))
    found = draw_optima(belief, region, best, cloud, rng, 400).p
    assert np.all(region.contains(found, slack=1e-6))
    reference = region.project(-model.slopes(rng, 4000).mean(axis=1) / model.world.curvature)
    for level in (0.05, 0.5, 0.95):
        ours, theirs = np.quantile(found, level, axis=0), np.quantile(reference, level, axis=0)
        width = np.quantile(reference, 0.95, axis=0) - np.quantile(reference, 0.05, axis=0)
        assert np.all(np.abs(ours - theirs) < 0.15 * width + 0.005)


def test_an_optimum_far_away_is_not_missed() -> None:
    """Two wells, and draws that favour either: no quadratic about one of them has the other."""
    wells = np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])

    class TwoWells(Belief):
        def mean(self, p: Array) -> Array:
            return -sum(np.exp(-20 * np.sum((p - w) ** 2, axis=1)) for w in wells)

        def draws(self, rng: np.random.Generator, p: Array, count: int) -> Array:
            tilt = 0.5 * rng.standard_normal((count, 1)) * (p[:, 1] - p[:, 2])
            return self.mean(p) + tilt

    belief = TwoWells(believed(0, 3, 5)[1], Goal(np.full(3, 1 / 3)), 1.0, np.eye(3))
    region = Region.of(FeasibleSet.build(("a", "b", "c"), Constraints()))
    rng = np.random.default_rng(0)
    cloud = gather(region, wells[0], wells, rng, 128, 64)
    found = draw_optima(belief, region, wells[0], cloud, rng, 200).p
    assert 0.3 < np.mean(found[:, 2] > 0.5) < 0.7
