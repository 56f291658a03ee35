"""The Pareto front of a quadratic, where weighted optima are projections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from quadratic_world import QuadraticModel, QuadraticWorld

from cuvee.engine.answer.front import front, nondominated
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief
from cuvee.records import History, SearchProblem
from cuvee.spec import JobSpec, Objective

PARTS = {"code": {"d0": 1.0}, "prose": {"d1": 2.0, "d2": 1.0}, "rest": {"d3": 1.0}}


def searched(seed: int, parts: int) -> tuple[Table, Belief, QuadraticModel]:
    rng = np.random.default_rng(seed)
    world = power_world(rng, 4, noise=(0.0, 0.01))
    chosen = dict(list(PARTS.items())[:parts])
    plain = world.problem((4, 4)).spec
    spec = JobSpec(
        corpus=plain.corpus, rungs=plain.rungs, objective=Objective(kind="pareto", parts=chosen)
    )
    table = Table.build(SearchProblem.build(spec, world.manifest()), History())
    quadratic = QuadraticWorld.draw(rng, 4, 4)
    model = quadratic.fit(quadratic.measure(rng, rng.dirichlet(np.ones(4), size=10)))
    return table, Belief(model, table.goal, 1.0, np.eye(4)), model


@pytest.mark.parametrize("parts", [2, 3])
def test_no_weighted_sum_is_lower_than_on_the_front(parts: int) -> None:
    table, belief, model = searched(parts, parts)
    cloud = np.random.default_rng(0).dirichlet(np.ones(4), size=100)
    found = front(table, belief, table.region, np.full(4, 0.25), cloud, 0.9)
    assert 2 <= len(found) <= 12
    values = np.array([[p.parts[n].mean for n in list(PARTS)[:parts]] for p in found])
    assert len(nondominated(values)) == len(found)
    assert np.all(np.diff(values[:, 0]) >= 0)
    slopes = model.world.centre + model.weight[:4].T
    assert table.goal.parts is not None
    for mix in np.random.default_rng(1).dirichlet(np.ones(parts), size=20):
        w = mix @ table.goal.parts
        p = table.region.project(-(w @ slopes) / model.world.curvature)
        best = float(model.mean(p[None], 1)[0] @ w)
        # Twelve points on a curve: a weighted sum is hit to second order in their distance.
        assert float((values @ mix).min()) - best < 0.02


def test_intervals_are_those_of_draws() -> None:
    table, belief, _ = searched(5, 2)
    cloud = np.random.default_rng(0).dirichlet(np.ones(4), size=50)
    point = front(table, belief, table.region, np.full(4, 0.25), cloud, 0.9)[0]
    p = table.vector(point.mixture)
    draws = belief.losses(np.random.default_rng(0), p[None], 20_000)[:, 0]
    parts = table.goal.of_parts(draws)
    for q, name in enumerate(list(PARTS)[:2]):
        low, high = np.quantile(parts[:, q], [0.05, 0.95])
        width = high - low
        assert point.parts[name].low == pytest.approx(low, abs=0.06 * width)
        assert point.parts[name].high == pytest.approx(high, abs=0.06 * width)


@settings(deadline=None, max_examples=60)
@given(arrays(float, st.tuples(st.integers(1, 25), st.integers(1, 3)), elements=st.integers(0, 4)))
def test_nondominated_is_what_brute_force_says(values: Array) -> None:
    kept = set(nondominated(values).tolist())
    for i, row in enumerate(values):
        beaten = any(np.all(o <= row) and np.any(o < row) for o in values)
        copied = any(np.array_equal(o, row) for o in values[:i])
        assert (i in kept) == (not beaten and not copied)
