"""Which mixture to run next, and where: the job's strategy, behind one function.

``propose`` is a pure function. It sees the whole history, pending and failed runs included, and a
seed; it keeps nothing. Each proposal draws from its own generator, seeded by the seed and the
number of runs issued so far at each rung, so a retry after a crash proposes the same mixture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cuvee.engine import stopping
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies import STRATEGIES, Point, Strategy
from cuvee.engine.strategies.base import opening, verified
from cuvee.engine.strategies.finite import every_mixture, instead
from cuvee.engine.surrogates.fitted import Fits
from cuvee.mixture import Mixture
from cuvee.records import Explanation, History, Prediction, Proposal, SearchProblem

__all__ = ["answer_mixture", "propose"]

_ANSWER = 104_729  # sets the answer's generator apart from the proposals'


def propose(
    problem: SearchProblem,
    history: History,
    seed: int,
    count: int = 1,
    pool: Sequence[Array] | None = None,
) -> tuple[Proposal, ...]:
    """The next runs; fewer than ``count``, or none, when the search has nothing left to ask.

    Nothing is awaited: with runs pending, the next point is chosen from what is known, and a batch
    is chosen one by one, each as if those before it were pending.

    Args:
        problem: What is searched.
        history: Every run so far, in any order.
        seed: The job's seed.
        count: Most proposals to return.
        pool: For a replay over finished runs: by rung, the only mixtures that may be proposed,
            shapes ``(n, m)``, domains in the problem's order.

    Raises:
        EngineError: If an observation lacks an evaluation set.
    """
    table = Table.build(problem, history, pool)
    strategy = STRATEGIES[problem.spec.strategy]
    proposals: list[Proposal] = []
    while len(proposals) < count:
        fits = Fits(table)
        if stopping.over(table, fits) is not None:
            break
        rng = _generator(table, seed)
        run_seed = int(rng.integers(2**31))
        point = _next(table, fits, strategy, rng)
        if point is None:
            break
        proposals.append(_proposal(table, strategy, point, run_seed))
        table = table.with_pending(point.p, point.rung)
    return tuple(proposals)


def answer_mixture(
    problem: SearchProblem, history: History, seed: int, pool: Sequence[Array] | None = None
) -> Mixture:
    """The mixture that the job's strategy would answer with now.

    Args:
        problem: What is searched.
        history: Every run so far, in any order.
        seed: The job's seed.
        pool: As in ``propose``; the answer is then a row of the target's pool.

    Raises:
        EngineError: If an observation lacks an evaluation set.
    """
    table = Table.build(problem, history, pool)
    rng = np.random.default_rng([seed, _ANSWER, *_issued(table)])
    return table.mixture(STRATEGIES[problem.spec.strategy].answer(table, Fits(table), rng))


def _next(table: Table, fits: Fits, strategy: Strategy, rng: np.random.Generator) -> Point | None:
    """References and anchors first, cheapest rung first; then the strategy's next point.

    Where the constraints allow few mixtures, one that is worth a run (``finite``).
    """
    for rung in strategy.rungs(table):
        first = opening(table, rung) if table.left(rung) > 0 else None
        if first is not None:
            return first
    if table.single:
        return None
    point = strategy.next_point(table, fits, rng)
    if point is None or (first := opening(table, point.rung)) is not None:
        return None if point is None else first
    mixtures = every_mixture(table)
    return point if mixtures is None else instead(table, fits, strategy, point, mixtures)


def _issued(table: Table) -> list[int]:
    return [table.issued(rung) for rung in range(table.target + 1)]


def _generator(table: Table, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, *_issued(table)])


def _explained(table: Table, strategy: Strategy, point: Point) -> Explanation:
    """Why a point, in numbers: the strategy's own words, or what can be said of any point."""
    if point.explanation is not None:
        return point.explanation
    method = strategy.name
    if point.label is not None:
        method = "anchor" if point.label == "anchor" else "reference"
    gain = uncertainty = None
    if point.predicted is not None and table.goal.linear and point.rung == table.target:
        mean, se = point.predicted.T
        uncertainty = float(np.linalg.norm(table.w * se))
        _, measured = verified(table)
        if len(measured):
            gain = float(table.goal.value(measured).min() - table.goal.value(mean))
    return Explanation(
        method=method,
        predicted_gain=gain,
        uncertainty=uncertainty,
        cost=float(table.cost[point.rung]),
    )


def _proposal(table: Table, strategy: Strategy, point: Point, run_seed: int) -> Proposal:
    predicted = {}
    if point.predicted is not None:
        predicted = {
            name: Prediction(mean=float(mean), se=float(se))
            for name, (mean, se) in zip(table.eval_sets, point.predicted, strict=True)
        }
    return Proposal(
        mixture=table.mixture(point.p),
        rung=point.rung,
        seed=run_seed,
        reason=point.reason,
        label=point.label,
        predicted=predicted,
        acquisition=point.acquisition,
        explanation=_explained(table, strategy, point),
    )
