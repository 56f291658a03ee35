"""The changes between two jobs are what they are said to be, and a search is judged as it goes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import warm
from benchmarks.warm import CASES, search, summary


@pytest.mark.parametrize("name", CASES)
def test_no_mixture_beats_the_optimum(name: str) -> None:
    world = CASES[name](np.random.default_rng(1)).now
    least = world.objective(world.optimum)
    draws = np.random.default_rng(0).dirichlet(np.full(len(world.names), 0.3), size=200)
    assert min(world.objective(p) for p in draws) >= least - 1e-6


def test_halves_in_the_stated_shares_are_worth_what_the_whole_was() -> None:
    change = CASES["one domain split"](np.random.default_rng(2))
    whole = np.random.default_rng(0).dirichlet(np.ones(5))
    (shares,) = change.splits.values()
    halves = np.append(whole, whole[0] * shares["d5"])
    halves[0] *= shares["d0"]
    for rung in (0, 1):
        now, before = change.now.losses(halves, rung), change.before.losses(whole, rung)
        np.testing.assert_allclose(now[:5], before)
        np.testing.assert_allclose(now[5], before[0])
    alone = np.eye(6)[[0, 5]]
    losses = np.array([change.now.losses(0.5 / 6 + 0.5 * p, 1) for p in alone])
    assert losses[0, 0] < losses[1, 0]  # and each is worth most to its own set
    assert losses[1, 5] < losses[0, 5]


def test_a_domain_that_is_gone_or_new_changes_nothing_for_the_others() -> None:
    for name, large, small in (
        ("one domain added", "now", "before"),
        ("one domain removed", "before", "now"),
    ):
        change = CASES[name](np.random.default_rng(3))
        more, less = getattr(change, large), getattr(change, small)
        p = np.random.default_rng(0).dirichlet(np.ones(len(less.names)))
        expected = more.losses(np.append(p, 0.0), 1)[: len(p)]
        np.testing.assert_allclose(less.losses(p, 1), expected)


def test_a_search_is_judged_and_says_what_it_took_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "_FULL", (10, 4))
    monkeypatch.setattr(warm, "_SHORT", (8, 3))
    monkeypatch.setattr(warm, "_SHORT_COST", 3.08)
    found = search("same corpus", 1, ("short cold", "short warm"))
    assert [r.method for r in found] == ["short cold", "short warm"]
    assert all(r.values["regret"] >= 0 and r.values["spent"] <= r.n + 1e-9 for r in found)
    assert "used" not in found[0].values
    assert found[1].values["used"] == 14
    assert "| same corpus | 1 |" in summary(found)
