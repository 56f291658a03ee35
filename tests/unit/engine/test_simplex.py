"""Projections against a general solver, and sampling against rejection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from cuvee.engine.simplex import Region
from cuvee.errors import InfeasibleError
from cuvee.feasible import FeasibleSet
from cuvee.spec import Bound, Constraints, GroupBound


@st.composite
def regions(draw: st.DrawFn) -> Region:
    """Regions around a known feasible mixture, with up to two disjoint groups."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m = draw(st.integers(2, 7))
    inside = rng.dirichlet(np.ones(m))
    lower = inside * rng.choice([0.0, 0.5, 1.0], size=m)
    upper = np.minimum(inside + rng.choice([0.0, 0.2, 1.0], size=m), 1.0)
    order = rng.permutation(m)
    cut = draw(st.integers(0, m // 2))
    groups = tuple(np.sort(g) for g in (order[:cut], order[cut : 2 * cut]) if len(g))
    totals = np.array([inside[g].sum() for g in groups])
    return Region(
        lower,
        upper,
        groups,
        totals * rng.choice([0.0, 0.9, 1.0], size=len(groups)),
        np.minimum(totals + rng.choice([0.0, 0.1, 1.0], size=len(groups)), 1.0),
    )


def solver(region: Region, y: np.ndarray, kind: str, start: np.ndarray) -> np.ndarray:
    rules = [{"type": "eq", "fun": lambda p: p.sum() - 1}]
    for g, members in enumerate(region.groups):
        rules.append(
            {"type": "ineq", "fun": lambda p, q=members, g=g: p[q].sum() - region.group_lower[g]}
        )
        rules.append(
            {"type": "ineq", "fun": lambda p, q=members, g=g: region.group_upper[g] - p[q].sum()}
        )
    if kind == "euclid":
        distance = lambda p: np.sum((p - y) ** 2)  # noqa: E731
    else:
        safe = lambda p: np.maximum(p, 1e-12)  # noqa: E731
        distance = lambda p: np.sum(safe(p) * np.log(safe(p) / y))  # noqa: E731
    found = minimize(
        distance,
        start,
        bounds=list(zip(region.lower, region.upper, strict=True)),
        constraints=rules,
        method="SLSQP",
        options={"maxiter": 300, "ftol": 1e-13},
    )
    return np.asarray(found.x)


@settings(max_examples=60, deadline=None)
@given(regions(), st.integers(0, 2**32 - 1))
def test_euclidean_projection_is_at_least_as_near_as_a_solvers(region: Region, seed: int) -> None:
    y = np.random.default_rng(seed).normal(scale=0.5, size=region.dimension)
    p = region.project(y)
    assert region.contains(p, slack=1e-9).all()
    theirs = solver(region, y, "euclid", p)
    if region.contains(theirs, slack=1e-7).all():
        assert np.sum((p - y) ** 2) <= np.sum((theirs - y) ** 2) + 1e-6


@settings(max_examples=60, deadline=None)
@given(regions(), st.integers(0, 2**32 - 1))
def test_projection_satisfies_the_variational_inequality(region: Region, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(scale=0.5, size=region.dimension)
    p = region.project(y)
    others = region.project_kl(rng.dirichlet(np.ones(region.dimension), size=20))
    # The nearest point of a convex set sees every other point at an obtuse angle from y.
    assert np.all((others - p) @ (y - p) <= 1e-9)


@settings(max_examples=60, deadline=None)
@given(regions(), st.integers(0, 2**32 - 1))
def test_kl_projection_is_optimal(region: Region, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.full(region.dimension, 0.7)) + 1e-6
    p = region.project_kl(y)
    assert region.contains(p, slack=1e-9).all()
    others = region.project(rng.dirichlet(np.ones(region.dimension), size=20))
    gradient = np.log(np.maximum(p, 1e-300) / y) + 1
    assert np.all((others - p) @ gradient >= -1e-6)


@settings(max_examples=30, deadline=None)
@given(regions(), st.integers(0, 2**32 - 1))
def test_projection_leaves_feasible_points_alone(region: Region, seed: int) -> None:
    inside = region.sample(np.random.default_rng(seed), 8)
    assert region.contains(inside, slack=1e-8).all()
    np.testing.assert_allclose(region.project(inside), inside, atol=1e-9)
    np.testing.assert_allclose(region.project_kl(inside), inside, atol=1e-8)


def test_kl_projection_keeps_ratios_of_shares_off_their_bounds() -> None:
    feasible = FeasibleSet.build(list("abc"), Constraints(bounds={"a": Bound(max=0.2)}))
    p = Region.of(feasible).project_kl(np.array([0.5, 0.3, 0.2]))
    np.testing.assert_allclose(p, [0.2, 0.48, 0.32], atol=1e-12)


def test_batched_projection_equals_single_projections() -> None:
    constraints = Constraints(groups=(GroupBound(domains=("a", "b"), min=0.3, max=0.4),))
    region = Region.of(FeasibleSet.build(list("abcd"), constraints))
    y = np.random.default_rng(0).normal(size=(9, 4))
    np.testing.assert_array_equal(region.project(y), [region.project(row) for row in y])


def test_an_empty_region_is_refused() -> None:
    region = Region(np.full(2, 0.6), np.ones(2), (), np.zeros(0), np.zeros(0))
    with pytest.raises(InfeasibleError, match="empty"):
        region.project(np.full(2, 0.5))


def test_random_walks_agree_with_rejection_sampling() -> None:
    bounds = {"a": Bound(max=0.3), "b": Bound(max=0.35), "c": Bound(min=0.1, max=0.4)}
    constraints = Constraints(
        bounds=bounds, groups=(GroupBound(domains=("a", "d"), min=0.35, max=0.6),)
    )
    region = Region.of(FeasibleSet.build(list("abcd"), constraints))
    draws = np.random.default_rng(1).dirichlet(np.ones(4), size=200_000)
    exact = draws[region.contains(draws)]
    assert len(exact) < 200_000 / 8  # so that sample() has to walk
    walked = region.sample(np.random.default_rng(2), 4000)
    np.testing.assert_allclose(walked.mean(axis=0), exact.mean(axis=0), atol=0.006)
    np.testing.assert_allclose(walked.std(axis=0), exact.std(axis=0), atol=0.006)


def test_a_cut_that_would_be_empty_leaves_the_region_as_it_was() -> None:
    region = Region.of(FeasibleSet.build(list("abc"), Constraints()))
    assert region.within(np.zeros(3), np.full(3, 0.2)) is region
    cut = region.within(np.full(3, 0.1), np.full(3, 0.5))
    np.testing.assert_array_equal(cut.upper, np.full(3, 0.5))


def test_width_is_zero_only_for_a_single_mixture() -> None:
    pinned = FeasibleSet.build(["a", "b"], Constraints(bounds={"a": Bound(min=0.4, max=0.4)}))
    assert Region.of(pinned).width < 1e-12
    boxed = FeasibleSet.build(["a", "b"], Constraints(bounds={"a": Bound(min=0.4, max=0.7)}))
    assert Region.of(boxed).width == pytest.approx(0.3)
