"""What `mixing_law` answers with before the target has runs enough for laws of its own."""

from __future__ import annotations

import numpy as np

from cuvee.engine.evidence.table import Table
from cuvee.engine.problems import power_world
from cuvee.engine.propose import answer_mixture
from cuvee.engine.strategies.base import best_verified
from cuvee.mixture import Mixture
from cuvee.records import History, Proposal


def test_the_laws_of_the_rung_below_answer_until_the_target_has_its_own() -> None:
    gains = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        world = power_world(rng, 12, noise=(0.0, 0.01))
        problem = world.problem((60, 8), strategy="mixing_law")
        rungs = [0] * 60 + [1] * 8
        mixtures = rng.dirichlet(np.ones(12), size=len(rungs))
        history = History(
            observations=tuple(
                world.observe(
                    Proposal(
                        mixture=Mixture.from_shares(world.names, p.tolist()),
                        rung=rung,
                        seed=i,
                        reason="drawn",
                    ),
                    f"r{i:03d}",
                )
                for i, (rung, p) in enumerate(zip(rungs, mixtures, strict=True))
            )
        )
        table = Table.build(problem, history)
        best = best_verified(table)
        assert best is not None
        answer = table.vector(answer_mixture(problem, history, 0))
        by_name = [np.array(table.mixture(p).shares(world.names)) for p in (best, answer)]
        gains.append(world.objective(by_name[0]) - world.objective(by_name[1]))
    assert np.median(gains) > 0.03
