"""Protocols B1 and B2: strategies buy finished runs, one after the other, through the engine.

A run is bought at its cost and reveals its 13 losses; the engine proposes and answers as it does
for a job, except that it may only choose among the table's rows (``market``). At each budget the
strategy names a row of ``C``, from what it has bought by then. Regret is
``(y(c) - min y) / (median y - min y)`` over ``C``: 0 the best row, 1 a row of the middle. The area
under it is over cost, from the first budget to the last, straight between budgets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.loop import spend
from benchmarks.replay.market import market_of
from benchmarks.replay.record import Record
from benchmarks.replay.tables import Tables
from cuvee.spec import StrategyName

__all__ = ["BUDGETS", "LADDERS", "Ladder", "search"]

BUDGETS = {
    "B1": (1.0, 2.0, 4.0, 8.54, 12.0, 16.0),
    "B2": (0.128, 0.512, 1.0, 2.0, 4.0, 8.0),
}
"""In units of one run at the target."""


@dataclass(frozen=True)
class Ladder:
    """What a method is given to spend.

    Attributes:
        strategy: The engine's name.
        runs: Most runs by rung in B2, 0 for a rung that the method does not have.
    """

    strategy: StrategyName
    runs: tuple[int, int, int]


LADDERS = {
    "multi_fidelity": Ladder("multi_fidelity", (128, 6, 32)),
    "regmix": Ladder("regmix", (512, 0, 32)),
    "regmix 128": Ladder("regmix", (128, 0, 32)),
    "mixing_law": Ladder("mixing_law", (128, 0, 32)),
    "olmix": Ladder("olmix", (128, 0, 32)),
    "admire": Ladder("admire", (128, 64, 32)),
    "single_fidelity_bo": Ladder("single_fidelity_bo", (0, 0, 32)),
    "dirichlet": Ladder("dirichlet", (0, 0, 32)),
    "random": Ladder("random", (0, 0, 32)),
}
"""Methods by name. ``regmix`` spends all it can on cheap runs first, as published, then verifies;
``regmix 128`` verifies sooner. ``admire`` fits anew for every run; with more cheap ones than the
default has, its searches would take more than all others together."""


def search(tables: Tables, protocol: str, method: str, objective: str, seed: int) -> list[Record]:
    """One search, answered at every budget; the last record has the area too."""
    ladder = LADDERS[method]
    market = market_of(tables, protocol, ladder.strategy, ladder.runs, objective, seed)
    budgets = BUDGETS[protocol]
    found = []
    for answer in spend(market.problem, market.costs, budgets, seed, market.buy, market.pool):
        values = market.regret(answer.mixture) | {"spent": answer.spent}
        values |= {f"runs_{s}": float(n) for s, n in zip(market.sizes, answer.runs, strict=True)}
        found.append(Record(protocol, objective, method, answer.budget, seed, values))
    regrets = [record.values["regret"] for record in found]
    found[-1].values["area"] = float(np.trapezoid(regrets, budgets))
    return found
