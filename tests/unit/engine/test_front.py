"""The Pareto front of a quadratic, where weighted optima are projections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from quadratic_world import QuadraticModel, QuadraticWorld

from cuvee.answer import FrontPoint
from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.answer.front import front, nondominated
from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief
from cuvee.records import History, SearchProblem
from cuvee.spec import Guardrail, JobSpec, Objective

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


def front_of(
    table: Table, belief: Belief, best: Array, cloud: Array
) -> tuple[tuple[FrontPoint, ...], Array]:
    return front(table, belief, Guards.of(table), table.region, best, cloud, 0.9)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("answer", [(0.97, 0.01, 0.01, 0.01), (0.25, 0.25, 0.25, 0.25)])
def test_what_is_recommended_is_on_the_front_and_no_worse_than_the_answer(
    parts: int, answer: tuple[float, ...]
) -> None:
    table, belief, model = searched(parts, parts)
    cloud = np.random.default_rng(0).dirichlet(np.ones(4), size=100)
    best = np.array(answer)
    found, chosen = front_of(table, belief, best, cloud)
    assert table.mixture(chosen) in [point.mixture for point in found]
    before, after = table.goal.of_parts(model.mean(np.stack([best, chosen]), 1))
    assert np.all(after <= before)
    again, same = front_of(table, belief, chosen, cloud)
    assert np.array_equal(same, chosen), "what no mixture beats stays"
    assert table.mixture(same) in [point.mixture for point in again]


def test_an_answer_stays_where_what_beats_it_is_not_surely_better() -> None:
    table, belief, model = searched(2, 2)
    cloud = np.random.default_rng(0).dirichlet(np.ones(4), size=100)
    _, near = front_of(table, belief, np.full(4, 0.25), cloud)
    unsure = replace(belief, inflation=1e3)
    found, chosen = front_of(table, unsure, np.array([0.97, 0.01, 0.01, 0.01]), cloud)
    assert np.array_equal(chosen, [0.97, 0.01, 0.01, 0.01])
    before, after = table.goal.of_parts(model.mean(np.stack([chosen, near]), 1))
    assert np.all(after < before), "there is one that beats it by its mean"
    assert table.mixture(chosen) in [point.mixture for point in found]


def test_what_the_guardrails_forbid_is_not_on_the_front() -> None:
    table, belief, _ = searched(2, 2)
    cloud = np.random.default_rng(0).dirichlet(np.ones(4), size=100)
    baseline = table.vector(table.problem.baseline)
    free, _ = front_of(table, belief, baseline, cloud)
    rail = (Guardrail(eval_set="d0", max_increase=0.001),)
    spec = table.problem.spec.model_copy(update={"guardrails": rail})
    table = replace(table, problem=table.problem.model_copy(update={"spec": spec}))
    guards = Guards.of(table)
    found, chosen = front_of(table, belief, baseline, cloud)

    def forbidden(points: tuple[FrontPoint, ...]) -> int:
        rows = np.array([table.vector(point.mixture) for point in points])
        return int(np.sum(guards.chances(belief, rows) < 0.89))

    assert forbidden(free) > 0
    assert forbidden(found) == 0
    assert len(found) > 1
    assert table.mixture(chosen) in [point.mixture for point in found]


@pytest.mark.parametrize("parts", [2, 3])
def test_no_weighted_sum_is_lower_than_on_the_front(parts: int) -> None:
    table, belief, model = searched(parts, parts)
    cloud = np.random.default_rng(0).dirichlet(np.ones(4), size=100)
    found, _ = front_of(table, belief, np.full(4, 0.25), cloud)
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
    (point, *_), _ = front_of(table, belief, np.full(4, 0.25), cloud)
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
