"""What every design must do: fixed by its seed, feasible, blind to names, orders and repeats."""

from __future__ import annotations

import numpy as np
import pytest

from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.space import design
from cuvee.records import History
from cuvee.spec import Bound, Constraints

BOXED = Constraints(bounds={"d0": Bound(max=0.3), "d2": Bound(min=0.1)})


@pytest.fixture
def table() -> Table:
    world = power_world(np.random.default_rng(0), 4, noise=(0.0, 0.01))
    return Table.build(world.problem((20, 20), constraints=BOXED), History())


@pytest.mark.parametrize("interior", [True, False])
def test_a_design_is_feasible_and_fixed_by_its_seed(table: Table, interior: bool) -> None:
    one, two, other = (
        design.fill(table, 0, np.random.default_rng(seed), interior=interior).p
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert table.region.contains(one[None], slack=1e-9).all()


def test_choices_follow_domains_and_rows_when_they_are_shuffled() -> None:
    rng = np.random.default_rng(3)
    x = rng.dirichlet(np.full(5, 0.4), size=40)
    rows, columns = rng.permutation(40), rng.permutation(5)
    chosen = design.d_optimal(x, 9)
    again = design.d_optimal(x[rows][:, columns], 9)
    np.testing.assert_array_equal(rows[again], chosen)


def test_repeated_runs_are_no_obstacle_and_make_their_mixture_tell_less() -> None:
    x = np.random.default_rng(4).dirichlet(np.full(4, 0.5), size=12)
    once = design.leverage(x, x[:5])
    twice = design.leverage(x, np.concatenate([x[:5], x[:5]]))
    assert np.all(np.isfinite(twice))
    assert np.all(twice < once)
