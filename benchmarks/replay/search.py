"""Protocols B1 and B2: strategies buy finished runs, one after the other, through the engine.

A run is bought at its cost and reveals its 13 losses; the engine proposes and answers as it does
for a job, except that it may only choose among the table's rows (``market``). At each budget the
strategy names a row of ``C``, from what it has bought by then. Regret is
``(y(c) - min y) / (median y - min y)`` over ``C``: 0 the best row, 1 a row of the middle. The area
under it is over cost, from the first budget to the last, straight between budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.replay.market import Market, market_of
from benchmarks.replay.record import Record
from benchmarks.replay.tables import Tables
from cuvee.engine.propose import answer_mixture, propose
from cuvee.records import History, Observation, Proposal
from cuvee.spec import StrategyName

__all__ = ["BUDGETS", "LADDERS", "Ladder", "search"]

BUDGETS = {
    "B1": (1.0, 2.0, 4.0, 8.54, 12.0, 16.0),
    "B2": (0.128, 0.512, 1.0, 2.0, 4.0, 8.0),
}
"""In units of one run at the target."""

_BATCH = 32  # cheap runs per proposal: what so many workers would have in flight


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
    "admire": Ladder("admire", (512, 256, 32)),
    "single_fidelity_bo": Ladder("single_fidelity_bo", (0, 0, 32)),
    "dirichlet": Ladder("dirichlet", (0, 0, 32)),
    "random": Ladder("random", (0, 0, 32)),
}
"""Methods by name. ``regmix`` spends all it can on cheap runs first, as published, then verifies;
``regmix 128`` verifies sooner."""


def search(tables: Tables, protocol: str, method: str, objective: str, seed: int) -> list[Record]:
    """One search, answered at every budget that it could spend anything of."""
    ladder = LADDERS[method]
    market = market_of(tables, protocol, ladder.strategy, ladder.runs, objective, seed)
    budgets = list(BUDGETS[protocol])
    history, spent = History(), 0.0
    found: list[Record] = []

    def answer_at(budget: float) -> None:
        answer = answer_mixture(market.problem, history, seed, pool=market.pool)
        values = market.regret(answer) | _bought(market, history) | {"spent": spent}
        found.append(Record(protocol, objective, method, budget, seed, values))

    while budgets:
        bought: list[Observation] = []
        for proposal in _proposals(market, history, seed):
            cost = market.costs[proposal.rung]
            if bought and spent + cost > budgets[0] + 1e-9:
                break  # first answer at the budget that is used up
            while budgets and spent + cost > budgets[0] + 1e-9:
                answer_at(budgets.pop(0))
            if not budgets:
                break
            number = len(history.observations) + len(bought)
            bought.append(market.buy(proposal, number))
            spent += cost
        if not bought:
            break
        history = History(observations=(*history.observations, *bought))
    for budget in budgets:
        answer_at(budget)
    regrets = [record.values["regret"] for record in found]
    found[-1].values["area"] = float(np.trapezoid(regrets, BUDGETS[protocol]))
    return found


def _proposals(market: Market, history: History, seed: int) -> Sequence[Proposal]:
    """The next runs: a batch below the target, one at it."""
    spent = np.bincount([o.rung for o in history.observations], minlength=len(market.costs))
    cheap = int(market.problem.rungs[0].runs - spent[0]) if len(market.costs) > 1 else 0
    count = min(max(cheap, 1), _BATCH)
    proposals = propose(market.problem, history, seed, count, pool=market.pool)
    if proposals and proposals[0].rung == market.problem.target:
        return proposals[:1]
    return [q for q in proposals if q.rung != market.problem.target]


def _bought(market: Market, history: History) -> dict[str, float]:
    rungs = [o.rung for o in history.observations]
    return {f"runs_{size}": float(rungs.count(r)) for r, size in enumerate(market.sizes)}
