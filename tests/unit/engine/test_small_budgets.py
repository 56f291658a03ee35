"""A budget that no answer can come from is refused with the one that would do."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cuvee.engine import recommend
from cuvee.engine.problems import power_world, run_search
from cuvee.spec import StrategyName


def refused(m: int, runs: tuple[int, ...], strategy: StrategyName) -> str | None:
    world = power_world(np.random.default_rng(2), m, noise=(0.01,) * len(runs))
    problem = world.problem(runs, strategy=strategy)
    return recommend(problem, run_search(world, problem, 1), 1).refused


@pytest.mark.parametrize(
    ("runs", "strategy", "rung"),
    [
        ((4, 4), "mixing_law", 0),
        ((4, 4), "random", 1),
        ((20, 2), "multi_fidelity", 1),  # so few target runs end the search before the swarm's do
    ],
)
def test_the_rung_and_the_runs_that_would_do_are_named(
    runs: tuple[int, ...], strategy: StrategyName, rung: int
) -> None:
    said = refused(5, runs, strategy)
    assert said is not None
    found = re.search(r"set rungs\[(\d)\]\.runs, which is (\d+), to (\d+) at least", said)
    assert found is not None, said
    assert (int(found[1]), int(found[2])) == (rung, runs[rung])
    if strategy == "multi_fidelity":
        return  # a search of twenty runs more would only be slow
    more = list(runs)
    more[rung] = int(found[3])
    better = refused(5, tuple(more), strategy) or ""
    assert f"rungs[{rung}].runs, which is" not in better
