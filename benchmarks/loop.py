"""A search against a budget, without a service: propose, buy, and answer at every budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cuvee.engine.propose import answer_mixture, propose
from cuvee.engine.space.simplex import Array
from cuvee.mixture import Mixture
from cuvee.records import EarlierRun, History, Observation, PendingRun, Proposal, SearchProblem

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
    earlier: tuple[EarlierRun, ...] = (),
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
        earlier: Runs of earlier jobs, where the search starts warm.
    """
    left = list(budgets)
    history, spent = History(earlier=earlier), 0.0

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
        history = history.model_copy(update={"observations": (*history.observations, *bought)})
    while left:
        yield answer()


def _next(
    problem: SearchProblem, history: History, seed: int, pool: Sequence[Array] | None
) -> Sequence[Proposal]:
    """A batch below the target, or one run at it.

    The batch is asked for piece by piece, each as large as all before it, with those before it
    under way: proposals at the target end it and are thrown away, so few should be asked for.
    """
    batch: list[Proposal] = []
    while len(batch) < _BATCH:
        wanted = max(1, len(batch))
        waiting = _with_pending(history, batch)
        found = propose(problem, waiting, seed, wanted, pool=pool)
        below = [q for q in found if q.rung != problem.target]
        if not batch and not below:
            return found[:1]
        batch += below
        if len(below) < wanted:
            break
    return batch


def _with_pending(history: History, batch: Sequence[Proposal]) -> History:
    """The history with proposals under way."""
    return history.model_copy(
        update={
            "pending": tuple(
                PendingRun(run_id=f"w{i:05d}", rung=q.rung, mixture=q.mixture, seed=q.seed)
                for i, q in enumerate(batch)
            )
        }
    )
