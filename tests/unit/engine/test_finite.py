"""Constraints that allow only so many mixtures: found, and run where a run is of use."""

from __future__ import annotations

import numpy as np
import pytest

from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import World, power_world
from cuvee.engine.strategies.finite import every_mixture, wanting
from cuvee.mixture import Mixture
from cuvee.records import History, PendingRun, SearchProblem
from cuvee.spec import Bound, Constraints, GroupBound

HALF = Bound(min=0.5, max=0.5)


def searched(constraints: Constraints, m: int = 5) -> tuple[World, SearchProblem]:
    world = power_world(np.random.default_rng(m), m)
    return world, world.problem((20, 20), constraints=constraints)


@pytest.mark.parametrize(
    ("constraints", "count"),
    [
        (Constraints(max_active=1), 5),
        (Constraints(max_active=1, bounds={"d0": Bound(max=0.9)}), 4),
        (Constraints(max_active=2, bounds={"d0": HALF}), 4),
        (Constraints(max_active=2, bounds={"d0": HALF, "d1": Bound(max=0.4)}), 3),
        (Constraints(max_active=2, bounds={f"d{j}": Bound(max=0.5) for j in range(5)}), 10),
        (
            Constraints(
                max_active=2,
                bounds={"d0": HALF},
                groups=(GroupBound(domains=("d1", "d2"), min=0.5, max=0.5),),
            ),
            2,
        ),
    ],
)
def test_every_mixture_is_found_once(constraints: Constraints, count: int) -> None:
    _, problem = searched(constraints)
    table = Table.build(problem, History())
    found = every_mixture(table)
    assert found is not None
    assert len(found) == count
    assert np.all(table.region.contains(found, slack=1e-9))
    drawn = table.region.sample(np.random.default_rng(0), 200)
    gaps = np.abs(drawn[:, None, :] - found[None]).max(axis=2)
    assert np.all(gaps.min(axis=1) < 1e-6), "nothing else is feasible"
    assert np.all(gaps.min(axis=0) < 1e-6), "and all of it is drawn"


@pytest.mark.parametrize(
    "constraints",
    [
        Constraints(),
        Constraints(bounds={"d0": HALF}),
        Constraints(max_active=2),
        Constraints(max_active=3, bounds={"d0": HALF}),
        Constraints(max_active=1, bounds={"d3": Bound(min=1.0)}),
    ],
)
def test_a_continuum_or_a_single_mixture_is_none_of_this(constraints: Constraints) -> None:
    _, problem = searched(constraints)
    assert every_mixture(Table.build(problem, History())) is None


def test_a_mixture_is_wanted_once_below_the_target_and_twice_there() -> None:
    world, problem = searched(Constraints(max_active=1), m=3)
    corners = [Mixture.from_shares(world.names, row.tolist()) for row in np.eye(3)]

    def left(rung: int, *runs: int) -> int:
        pending = tuple(
            PendingRun(run_id=f"p{i}", rung=rung, mixture=corners[j], seed=i)
            for i, j in enumerate(runs)
        )
        table = Table.build(problem, History(pending=pending))
        mixtures = every_mixture(table)
        assert mixtures is not None
        return len(wanting(table, rung, mixtures))

    assert [left(0), left(0, 1), left(0, 1, 0), left(0, 1, 0, 2)] == [3, 2, 1, 0]
    assert [left(1, 0, 1, 2), left(1, 0, 1, 2, 2), left(1, 0, 1, 2, 2, 1, 0)] == [3, 2, 0]
