"""Does it work: regret of the answer against random search, on worlds no law fits exactly."""

from __future__ import annotations

import numpy as np

from cuvee.engine import recommend
from cuvee.engine.problems import power_world, run_search


def regrets(strategy: str, seeds: range) -> list[float]:
    """True objective of the answer above the best possible, with 12 n-gram and 14 proxy runs."""
    found = []
    for seed in seeds:
        world = power_world(np.random.default_rng(seed), 5, noise=(0.0, 0.01))
        problem = world.problem((12, 14), strategy=strategy)  # type: ignore[arg-type]
        answer = recommend(problem, run_search(world, problem, seed), seed)
        mixture = answer.mixture or problem.baseline
        p = np.array(mixture.shares(world.names))
        found.append(world.objective(p) - world.objective(world.optimum))
    return found


def test_the_mixing_law_beats_random_search_and_comes_near_the_optimum() -> None:
    law, random = (regrets(s, range(6)) for s in ("mixing_law", "random"))
    assert np.median(law) < 0.3 * np.median(random)
    assert np.median(law) < 0.01  # the noise of one run
