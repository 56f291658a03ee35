"""Projections against a general solver and brute force, and sampling against rejection."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linprog, minimize

from cuvee.engine.space import supports
from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.space.walks import walk
from cuvee.errors import InfeasibleError
from cuvee.feasible import FeasibleSet
from cuvee.spec import Bound, Constraints, GroupBound


def a_region(rng: np.random.Generator, m: int, active: int | None = None) -> Region:
    """A region around a known mixture, with groups cut from a random order again and again."""
    inside = np.zeros(m)
    inside[rng.permutation(m)[:active]] = rng.dirichlet(np.ones(active or m))
    groups: list[Array] = []

    def cut(members: Array) -> None:
        if len(members) < 2 or rng.random() < 0.3:
            return
        at = int(rng.integers(1, len(members)))
        for part in (members[:at], members[at:]):
            if rng.random() < 0.6:
                groups.append(np.sort(part))
            cut(part)

    cut(rng.permutation(m))
    totals = np.array([inside[g].sum() for g in groups])
    return Region(
        inside * rng.choice([0.0, 0.0, 0.5, 1.0], size=m),
        np.minimum(inside + rng.choice([0.0, 0.2, 1.0], size=m), 1.0),
        tuple(groups),
        totals * rng.choice([0.0, 0.9, 1.0], size=len(groups)),
        np.minimum(totals + rng.choice([0.0, 0.1, 1.0], size=len(groups)), 1.0),
        active,
    )


@st.composite
def regions(draw: st.DrawFn, most: int = 64) -> Region:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return a_region(rng, draw(st.integers(2, most)))


@st.composite
def sparse_regions(draw: st.DrawFn) -> Region:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m = draw(st.integers(2, 9))
    return a_region(rng, m, draw(st.integers(1, m)))


seeds = st.integers(0, 2**32 - 1)


def solver(region: Region, y: Array, kind: str, start: Array) -> Array:
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


@settings(max_examples=40, deadline=None)
@given(regions(most=7), seeds, st.sampled_from(["euclid", "kl"]))
def test_projections_are_at_least_as_near_as_a_solvers(
    region: Region, seed: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    if kind == "euclid":
        y = rng.normal(scale=0.5, size=region.dimension)
        p = region.project(y)
        distance = lambda q: np.sum((q - y) ** 2)  # noqa: E731
    else:
        y = rng.dirichlet(np.full(region.dimension, 0.7)) + 1e-6
        p = region.project_kl(y)
        distance = lambda q: np.sum(q * np.log(np.maximum(q, 1e-300) / y))  # noqa: E731
    assert region.contains(p, slack=1e-9).all()
    theirs = solver(region, y, kind, p)
    if region.contains(theirs, slack=1e-7).all():
        assert distance(p) <= distance(np.maximum(theirs, 0)) + 1e-6


@settings(max_examples=60, deadline=None)
@given(regions(), seeds)
def test_projection_satisfies_the_variational_inequality(region: Region, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(scale=0.5, size=region.dimension)
    p = region.project(y)
    assert region.contains(p, slack=1e-9).all()
    others = region.project_kl(rng.dirichlet(np.full(region.dimension, 0.5), size=20))
    assert region.contains(others, slack=1e-9).all()
    # The nearest point of a convex set sees every other point at an obtuse angle from y.
    assert np.all((others - p) @ (y - p) <= 1e-9)


@settings(max_examples=60, deadline=None)
@given(regions(), seeds)
def test_kl_projection_is_optimal(region: Region, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.dirichlet(np.full(region.dimension, 0.7)) + 1e-6
    p = region.project_kl(y)
    assert region.contains(p, slack=1e-9).all()
    others = region.project(rng.normal(scale=0.5, size=(20, region.dimension)))
    gradient = np.log(np.maximum(p, 1e-300) / y) + 1
    assert np.all((others - p) @ gradient >= -1e-6)


@settings(max_examples=30, deadline=None)
@given(regions(), seeds)
def test_projection_leaves_feasible_points_alone(region: Region, seed: int) -> None:
    inside = region.sample(np.random.default_rng(seed), 8)
    assert region.contains(inside, slack=1e-8).all()
    np.testing.assert_allclose(region.project(inside), inside, atol=1e-9)
    np.testing.assert_allclose(region.project_kl(inside), inside, atol=1e-8)


def test_kl_projection_keeps_ratios_of_shares_off_their_bounds() -> None:
    feasible = FeasibleSet.build(list("abc"), Constraints(bounds={"a": Bound(max=0.2)}))
    p = Region.of(feasible).project_kl(np.array([0.5, 0.3, 0.2]))
    np.testing.assert_allclose(p, [0.2, 0.48, 0.32], atol=1e-12)


def test_kl_projection_keeps_zeros_where_the_region_allows_it() -> None:
    bounds = {"a": Bound(max=0.5), "b": Bound(max=0.6), "c": Bound(min=0.1)}
    region = Region.of(FeasibleSet.build(list("abcd"), Constraints(bounds=bounds)))
    p = region.project_kl(np.array([[1.0, 3.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(p[0], [0.3, 0.6, 0.1, 0.0], atol=1e-12)
    assert p[0, 3] == 0.0
    assert p[1, 0] == 0.5  # it cannot have all, so the zeros must give way
    assert region.contains(p).all()


def test_batched_projection_equals_single_projections() -> None:
    groups = (GroupBound(domains=("a", "b"), min=0.3, max=0.4),)
    for most in (None, 2):
        constraints = Constraints(groups=groups, max_active=most)
        region = Region.of(FeasibleSet.build(list("abcd"), constraints))
        y = np.random.default_rng(0).normal(size=(9, 4))
        np.testing.assert_array_equal(region.project(y), [region.project(row) for row in y])


def test_many_rows_of_many_domains_equal_few_at_a_time() -> None:
    # With many rows the roots are bracketed by halving, with few by looking at all breakpoints.
    region = Region(np.zeros(64), np.full(64, 0.1), (), np.zeros(0), np.zeros(0))
    y = np.random.default_rng(0).normal(size=(5000, 64))
    many = region.project(y)
    np.testing.assert_allclose(many[::500], region.project(y[::500]), atol=1e-14)
    np.testing.assert_allclose(many.sum(axis=1), 1.0, atol=1e-12)


def test_an_empty_region_is_refused() -> None:
    region = Region(np.full(2, 0.6), np.ones(2), (), np.zeros(0), np.zeros(0))
    with pytest.raises(InfeasibleError, match="empty"):
        region.project(np.full(2, 0.5))
    narrow = Region(np.zeros(4), np.full(4, 0.4), (), np.zeros(0), np.zeros(0))
    assert not replace(narrow, max_active=3).empty
    assert replace(narrow, max_active=2).empty


@settings(max_examples=40, deadline=None)
@given(regions(most=8))
def test_ranges_of_shares_agree_with_linear_programs(region: Region) -> None:
    m = region.dimension
    sums = np.array([np.isin(np.arange(m), g) for g in region.groups], dtype=float).reshape(-1, m)
    for j in range(m):
        for sign, found in zip((1.0, -1.0), region.ranges[:, j], strict=True):
            answer = linprog(
                sign * np.eye(m)[j],
                A_ub=np.concatenate([sums, -sums]),
                b_ub=np.concatenate([region.group_upper, -region.group_lower]) + 1e-12,
                A_eq=np.ones((1, m)),
                b_eq=[1.0],
                bounds=list(zip(region.lower, region.upper, strict=True)),
            )
            assert sign * answer.fun == pytest.approx(found, abs=1e-9)


def best_set(region: Region, y: Array, kind: str) -> float:
    """The least distance over all sets of active domains; each is a region without a limit."""
    found = np.inf
    for active in combinations(range(region.dimension), region.max_active or 0):
        off = ~np.isin(np.arange(region.dimension), active)
        if np.any(region.lower[off] > 0):
            continue
        face = replace(region, upper=np.where(off, 0.0, region.upper), max_active=None)
        if not face.empty:
            p = face.project(y) if kind == "shift" else face.project_kl(y)
            found = min(found, float(supports.distance(p[None], y[None], kind)[0]))
    return found


@pytest.mark.parametrize("kind", ["shift", "scale"])
@pytest.mark.parametrize("every", [True, False])
def test_sparse_projections_against_every_set_of_active_domains(
    kind: str, every: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not every:
        monkeypatch.setattr(supports, "_ALL", 0)
    exact = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        m = int(rng.integers(3, 8))
        region = a_region(rng, m, int(rng.integers(1, m)))
        if kind == "shift":
            y = rng.normal(scale=0.3, size=m)
            p = region.project(y)
        else:
            y = rng.dirichlet(np.ones(m)) + 1e-6
            p = region.project_kl(y)
        assert region.contains(p).all()
        assert np.sum(p > 0) <= region.max_active  # exact zeros
        gap = supports.distance(p[None], y[None], kind)[0] - best_set(region, y, kind)
        assert gap >= -1e-9
        exact += gap <= 1e-9
    assert exact == 40 if every else exact >= 38


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), seeds)
def test_the_greatest_entries_are_kept_on_the_plain_simplex(m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, m + 1))
    region = Region(np.zeros(m), np.ones(m), (), np.zeros(0), np.zeros(0), k)
    y = rng.normal(size=m)
    active = region.project(y) > 0
    assert y[active].min() >= y[~active].max(initial=-np.inf) or active.sum() < k
    weights = rng.dirichlet(np.ones(m)) + 1e-6
    top = weights >= np.sort(weights)[-k]
    expected = np.where(top, weights, 0) / weights[top].sum()
    np.testing.assert_allclose(region.project_kl(weights), expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(sparse_regions(), seeds)
def test_sparse_regions_are_sampled_and_sampled_around(region: Region, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert region.contains(region.sample(rng, 16), slack=1e-8).all()
    near = region.sample_around(rng, np.full(region.dimension, 1.0), np.full(16, 5.0))
    assert region.contains(near, slack=1e-8).all()


def test_uniform_draws_cover_every_set_of_active_domains_alike() -> None:
    region = Region(np.zeros(6), np.ones(6), (), np.zeros(0), np.zeros(0), 2)
    p = region.sample(np.random.default_rng(0), 6000)
    which = np.unique(p > 0, axis=0, return_counts=True)[1]
    assert len(which) == 15
    assert stats.chisquare(which).pvalue > 1e-3
    share = p[p[:, 0] > 0, 0]
    assert stats.kstest(share, "uniform").pvalue > 1e-3


def walked_regions() -> list[Region]:
    bounds = {"a": Bound(max=0.3), "b": Bound(max=0.35), "c": Bound(min=0.1, max=0.4)}
    flat = Constraints(bounds=bounds)
    crossing = GroupBound(domains=("a", "d"), min=0.35, max=0.6)
    inner = GroupBound(domains=("a", "d"), min=0.3, max=0.45)
    outer = GroupBound(domains=("a", "b", "d"), min=0.55, max=0.7)
    return [
        Region.of(FeasibleSet.build(list("abcd"), c))
        for c in (
            flat,
            flat.model_copy(update={"groups": (crossing,)}),
            flat.model_copy(update={"groups": (inner, outer)}),
        )
    ]


@pytest.mark.parametrize("region", walked_regions(), ids=["bounds", "group", "nested"])
def test_random_walks_agree_with_rejection_sampling(region: Region) -> None:
    draws = np.random.default_rng(1).dirichlet(np.ones(4), size=200_000)
    exact = draws[region.contains(draws)][:8000]
    start = region.project_kl(np.random.default_rng(2).dirichlet(np.ones(4), size=4000))
    upper = np.broadcast_to(region.upper, start.shape)
    walked = walk(region, np.random.default_rng(3), start, upper)
    assert region.contains(walked).all()
    directions = np.concatenate([np.eye(4), np.random.default_rng(4).normal(size=(4, 4))])
    for way in directions:
        assert stats.ks_2samp(walked @ way, exact @ way).pvalue > 1e-3


def test_a_cut_that_would_be_empty_leaves_the_region_as_it_was() -> None:
    region = Region.of(FeasibleSet.build(list("abc"), Constraints()))
    assert region.within(np.zeros(3), np.full(3, 0.2)) is region
    cut = region.within(np.full(3, 0.1), np.full(3, 0.5))
    np.testing.assert_array_equal(cut.upper, np.full(3, 0.5))
    few = replace(region, max_active=2)
    assert few.within(np.full(3, 0.1), np.full(3, 0.5)) is few  # three minima for two domains


def test_width_is_zero_only_for_a_single_mixture() -> None:
    pinned = FeasibleSet.build(["a", "b"], Constraints(bounds={"a": Bound(min=0.4, max=0.4)}))
    assert Region.of(pinned).width < 1e-12
    boxed = FeasibleSet.build(["a", "b"], Constraints(bounds={"a": Bound(min=0.4, max=0.7)}))
    assert Region.of(boxed).width == pytest.approx(0.3)
    one_of_two = FeasibleSet.build(list("abc"), Constraints(bounds={"c": Bound(max=0)}))
    assert replace(Region.of(one_of_two), max_active=1).width == pytest.approx(1.0)
    only = Constraints(bounds={"b": Bound(max=0.9), "c": Bound(max=0.9)}, max_active=1)
    assert Region.of(FeasibleSet.build(list("abc"), only)).width < 1e-12


def test_a_draw_of_small_strength_is_nearly_pure() -> None:
    region = Region(np.zeros(6), np.ones(6), (), np.zeros(0), np.zeros(0))
    rng = np.random.default_rng(0)
    p = region.sample_around(rng, np.full(6, 1 / 6), np.full(500, 0.06), least=2e-4)
    assert np.mean(p.max(axis=1) > 0.9) > 0.8
    assert np.all((p == 0) | (p >= 2e-4 - 1e-12))
    assert stats.chisquare(np.bincount(p.argmax(axis=1), minlength=6)).pvalue > 1e-3


def test_two_hundred_domains_in_a_hierarchy_are_projected_and_sampled_quickly() -> None:
    names = [f"s{i // 40}/t{i // 8 % 5}/q{i % 8}" for i in range(200)]
    topics = [
        GroupBound(domains=(f"s{s}/t{t}/*",), min=0.01, max=0.1) for s in range(5) for t in range(5)
    ]
    sources = [GroupBound(domains=(f"s{s}/*",), max=0.3) for s in range(5)]
    constraints = Constraints(groups=(*sources, *topics))
    rng = np.random.default_rng(0)
    for most, limit in ((None, 1.0), (40, 3.0)):  # 0.2 s and 0.5 s on an idle core
        region = Region.of(
            FeasibleSet.build(names, constraints.model_copy(update={"max_active": most}))
        )
        began = time.process_time()
        found = [
            region.project(rng.normal(scale=0.1, size=(64, 200))),
            region.project_kl(rng.dirichlet(np.full(200, 0.3), size=64)),
            region.sample(rng, 64),
        ]
        assert region.width > 0.05
        assert time.process_time() - began < limit
        assert region.contains(np.concatenate(found)).all()
