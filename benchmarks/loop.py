"""A search against a budget, without a service: propose, buy, and answer at every budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cuvee.engine.propose import answer_mixture, propose
from cuvee.engine.space.simplex import Array
from cuvee.mixture import Mixture
from cuvee.records import History, Observation, Proposal, SearchProblem

__all__ = ["Answer", "spend"]

_BATCH = 32  # cheap runs per proposal: what so many workers would have in flight


@dataclass(frozen=True)
class Answer:
    """What a strategy answers with once a budget is spent.

    Attributes:
        budget: In units of one run at the target.
        spent: Of it; less where the next run would not have fitted, or none was wanted.
        runs: By rung.
        mixture: The answer.
    """

    budget: float
    spent: float
    runs: tuple[int, ...]
    mixture: Mixture


def spend(
    problem: SearchProblem,
    costs: Sequence[float],
    budgets: Sequence[float],
    seed: int,
    buy: Callable[[Proposal, str], Observation],
    pool: Sequence[Array] | None = None,
) -> Iterator[Answer]:
    """Search until the last budget is spent, and answer at each.

    Below the target runs are bought in batches, at it one by one.

    Args:
        problem: The job; its strategy decides.
        costs: Of one run, by rung.
        budgets: Rising.
        seed: The job's seed.
        buy: Gives what a proposed run measures, under a run id.
        pool: As in ``propose``.
    """
    left = list(budgets)
    history, spent = History(), 0.0

    def answer() -> Answer:
        rungs = [o.rung for o in history.observations]
        runs = tuple(np.bincount(rungs, minlength=len(costs)).tolist())
        return Answer(left.pop(0), spent, runs, answer_mixture(problem, history, seed, pool=pool))

    while left:
        bought: list[Observation] = []
        for proposal in _next(problem, history, seed, pool):
            cost = costs[proposal.rung]
            if bought and spent + cost > left[0] + 1e-9:
                break  # answer first, with what has been bought
            while left and spent + cost > left[0] + 1e-9:
                yield answer()
            if not left:
                break
            number = len(history.observations) + len(bought)
            bought.append(buy(proposal, f"r{number:05d}"))
            spent += cost
        if not bought:
            break
        history = History(observations=(*history.observations, *bought))
    while left:
        yield answer()


def _next(
    problem: SearchProblem, history: History, seed: int, pool: Sequence[Array] | None
) -> Sequence[Proposal]:
    """A batch below the target, or one run at it.

    The batch is asked for in growing sizes, for what it holds beyond the first run at the target
    is thrown away. A longer batch begins with the shorter.
    """
    count = 1
    while True:
        found = propose(problem, history, seed, count, pool=pool)
        below = [q for q in found if q.rung != problem.target]
        if count == _BATCH or len(below) < count:
            return below or found[:1]
        count *= 2
