"""Feasibility with a limit on active domains against a mixed-integer program, and conflicts
against every smaller subset."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds as Box
from scipy.optimize import LinearConstraint, milp

from cuvee.conflicts import Limit, Tree, active_needed, smallest_clash


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[int]], Tree, list[Limit]]:
    """Groups cut from a random order of the domains again and again, and random limits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m = draw(st.integers(2, 7))
    groups: list[list[int]] = []

    def cut(members: list[int]) -> None:
        if len(members) < 2 or rng.random() < 0.3:
            return
        at = int(rng.integers(1, len(members)))
        for part in (members[:at], members[at:]):
            if rng.random() < 0.6:
                groups.append(part)
            cut(part)

    cut([int(j) for j in rng.permutation(m)])
    groups.sort(key=len)
    tree = Tree.of(m, groups)
    limits = []
    for node in range(tree.root):
        size = len(groups[node - m]) if node >= m else 1
        if rng.random() < 0.4:
            value = float(rng.uniform(0.02, 0.9) * size / m)
            limits.append(Limit(f"{node} min", node, value, least=True))
        if rng.random() < 0.4:
            limits.append(Limit(f"{node} max", node, float(rng.uniform(0.2, 2.5) * size / m)))
    if draw(st.booleans()):
        limits.append(Limit("active", None, int(rng.integers(1, m + 1))))
    return groups, tree, limits


def fewest_active(groups: list[list[int]], m: int, limits: list[Limit]) -> float:
    """Least number of positive shares, by mixed-integer programming; infinite if none is enough."""
    low, high = np.zeros(m), np.ones(m)
    sums, least, most = [np.ones(m)], [1.0], [1.0]
    for limit in limits:
        if limit.node is None:
            continue
        if limit.node >= m:
            sums.append(np.isin(np.arange(m), groups[limit.node - m]).astype(float))
            least.append(limit.value if limit.least else 0.0)
            most.append(1.0 if limit.least else limit.value)
        elif limit.least:
            low[limit.node] = limit.value
        else:
            high[limit.node] = min(limit.value, 1.0)
    if np.any(low > high):
        return np.inf
    switched = np.concatenate([np.eye(m), -np.diag(high)], axis=1)  # p_j <= high_j z_j
    totals = np.concatenate([np.array(sums), np.zeros((len(sums), m))], axis=1)
    answer = milp(
        np.repeat([0.0, 1.0], m),
        integrality=np.repeat([0, 1], m),
        bounds=Box(np.concatenate([low, np.zeros(m)]), np.concatenate([high, np.ones(m)])),
        constraints=[
            LinearConstraint(switched, ub=np.zeros(m)),
            LinearConstraint(totals, least, most),
        ],
    )
    return round(float(answer.fun)) if answer.status == 0 else np.inf


@given(problems())
@settings(max_examples=100, deadline=None)
def test_active_domains_needed_agree_with_a_mixed_integer_program(
    problem: tuple[list[list[int]], Tree, list[Limit]],
) -> None:
    groups, tree, limits = problem
    assert active_needed(tree, limits) == fewest_active(groups, tree.size, limits)


def clashes(tree: Tree, limits: tuple[Limit, ...]) -> bool:
    most = min((limit.value for limit in limits if limit.node is None), default=np.inf)
    return not active_needed(tree, limits) <= min(most, tree.size)


@given(problems())
@settings(max_examples=150, deadline=None)
def test_no_constraint_of_a_clash_can_be_spared_and_no_fewer_bounds_clash(
    problem: tuple[list[list[int]], Tree, list[Limit]],
) -> None:
    _, tree, limits = problem
    found = smallest_clash(tree, limits)
    if found is None:
        assert not clashes(tree, tuple(limits))
        return
    assert set(found.limits) <= set(limits)
    assert clashes(tree, found.limits)
    for limit in found.limits:
        assert not clashes(tree, tuple(other for other in found.limits if other is not limit))
    if found.node is not None:
        bounds = [limit for limit in limits if limit.node is not None]
        for size in range(len(found.limits)):
            assert not any(clashes(tree, chosen) for chosen in combinations(bounds, size))
