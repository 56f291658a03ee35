"""When a search has nothing left to ask: budgets spent, all mixtures run, or certain enough.

The same history is always judged the same: whatever is drawn here has a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import stats

from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.answer.guardrails import hopeless
from cuvee.engine.answer.verification_power import run_noise
from cuvee.engine.evidence.table import Table
from cuvee.engine.goal import Goal
from cuvee.engine.space import design
from cuvee.engine.space.optimum import minimise
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies import STRATEGIES, Strategy
from cuvee.engine.strategies.base import opening, verified
from cuvee.engine.strategies.finite import REPEATS, every_mixture, wanting
from cuvee.engine.strategies.multi_fidelity import Prospect
from cuvee.engine.surrogates.belief import Belief
from cuvee.engine.surrogates.fitted import Fits, objective_noise
from cuvee.records import History, SearchProblem, StopDecision

__all__ = ["over", "should_stop"]

GAIN_SHARE = 0.2
"""What counts as a gain, as a share of the noise between seeds. Three verification pairs resolve
0.8 of it: a quarter of that could not be shown to exist."""

WORTH_SHARE = 0.1
"""Stop when the next run is expected to gain less than this share of that noise: runs are asked
for one at a time, and several may follow it. Where the job has a price (``stopping.least_gain``),
that takes its place, and twice the price that of ``GAIN_SHARE``."""

_REPLICATES = 32
_LEAST_TARGET = 8  # runs at the target below which leave-one-out says little of the belief
_CANDIDATES = 192
_JOINT = 96  # candidates drawn jointly; the others are worth nothing next to these
_DRAWS = 512


def over(table: Table, fits: Fits) -> str | None:
    """Why nothing more is to be run, in words; None while there is."""
    strategy = STRATEGIES[table.problem.spec.strategy]
    if strategy.spent(table):
        issued = sum(table.issued(rung) for rung in range(table.target + 1))
        return f"the budget of {issued} runs is spent"
    mixtures = every_mixture(table)
    if (table.single or mixtures is not None) and not any(
        _opens(table, rung) for rung in strategy.rungs(table)
    ):
        if mixtures is None:
            return "the constraints allow a single mixture: there is nothing to search"
        if (exhausted := _exhausted(table, strategy, mixtures)) is not None:
            return exhausted
    settled = _SETTLED.get(strategy.name)
    return None if settled is None else settled(table, fits)


def _opens(table: Table, rung: int) -> bool:
    return table.left(rung) > 0 and opening(table, rung) is not None


def _exhausted(table: Table, strategy: Strategy, mixtures: Array) -> str | None:
    """Why no run is left where only ``mixtures (n, m)`` are allowed; None while one is."""
    spent = table.left(table.target) == 0
    rungs = strategy.rungs(table) if spent else (table.target,)
    if any(len(wanting(table, rung, mixtures)) for rung in rungs):
        return None
    if spent:
        return "the target's runs are spent, and no mixture is left to run below it"
    failed = bool(np.any((table.busy_rung == table.target) & ~table.waits))
    return (
        f"every mixture that the constraints allow has been measured{' or failed' * failed}: "
        f"{len(mixtures)} of them, {REPEATS} runs of each at the target"
    )


def _settled_by_laws(table: Table, fits: Fits) -> str | None:
    """Why more target runs would not help, in words; None while they may.

    Asks for ``2 (m + 1)`` target runs (below, leave-one-out errors of the law are not yet stable),
    laws that predict runs left out (rank correlation 0.7, or R2 0.5: among many
    runs near the optimum ranks are noise, and a single far run can spoil R2), and an expected gain
    from knowing the laws exactly that is below ``GAIN_SHARE`` of the noise between seeds, or below
    the job's ``stopping.least_gain``.

    That is the weighted mean alone: other objectives and guardrails are judged by the belief, whose
    losses follow the same laws, as the default judges them.
    """
    if any(table.left(rung) for rung in range(table.target)):
        return None
    x, _ = table.at(table.target)
    least = 2 * (x.shape[1] + 1)
    if len(x) < least:
        return None
    if not table.goal.linear or table.goal.parts is not None or table.problem.spec.guardrails:
        return _settled_by_belief(table, fits)
    fitted = fits.at(table.target)
    noise = objective_noise(table, fitted)
    if fitted is None or not noise or (fitted.loo_rank < 0.7 and fitted.loo_r2 < 0.5):
        return None
    region = fitted.reach(table.region, stretch=True)
    best = fitted.optimum(region, table.region.project(x.mean(axis=0)))
    # The generator's seed is fixed: the same history is always as certain.
    draws = fitted.draws(np.random.default_rng(0), _REPLICATES)
    optima = minimise(draws.t, table.w, region, best, steps=30)
    here = draws.at(best)[:, 0] @ table.w
    there = np.einsum(
        "be,e->b", draws.c + np.exp(np.einsum("bej,bj->be", draws.t, optima)), table.w
    )
    gain = float(np.mean(np.maximum(here - there, 0)))
    price = table.problem.spec.stopping.least_gain
    if gain > (GAIN_SHARE * noise if price is None else price):
        return None
    return (
        f"certain enough after {len(x)} runs at the target: knowing the laws exactly would gain "
        f"{gain:.2g} bits per byte on average, {_against(price, noise)}"
    )


def _settled_by_belief(table: Table, fits: Fits) -> str | None:
    """Why the next run would not be worth its cost, in words; None while it would.

    Asks for ``_LEAST_TARGET`` runs at the target, of which one satisfies constraints and
    guardrails, for without one there is no answer; or for guardrails that no mixture can be hoped
    to keep (``hopeless``). A front is settled when each of its parts is,
    and their mean: a part may be unknown where every mean of parts is known.
    """
    if np.sum(table.rung == table.target) < _LEAST_TARGET or (belief := fits.belief) is None:
        return None
    x, _ = verified(table)
    guards = Guards.of(table)
    if len(x) == 0 or not np.any(guards.allowed(belief, x)):
        return hopeless(table, guards, belief, _anywhere(table, x))
    reason = _settled(table, belief)
    if reason is None or table.goal.parts is None:
        return reason
    for goal in map(Goal, table.goal.parts):
        one = Belief.of(belief.model, goal, belief.own)
        if _settled(replace(table, goal=goal), one) is None:
            return None
    return f"every part of the front is settled, and their mean is: {reason}"


def _anywhere(table: Table, x: Array) -> Array:
    """Feasible mixtures all over the region and nearest to the baseline, ``x`` among them."""
    if table.pool is not None:
        return table.pool[table.target]
    drawn = design.cloud(table, np.random.default_rng(0), interior=False)
    safe = table.region.project(table.vector(table.problem.baseline))
    return np.concatenate([safe[None], x, drawn])


def _settled(table: Table, belief: Belief) -> str | None:
    """The same of one objective.

    Asks for a belief that ranks runs left out (0.5). Where the job does not say what a run must
    gain, the noise between seeds stands for it, for a gain that no verification could show is not
    worth a run.
    """
    left = belief.loo()
    if left.rung != table.target or np.ptp(left.predicted) == 0 or np.ptp(left.measured) == 0:
        return None
    if stats.spearmanr(left.measured, left.predicted).statistic < 0.5:
        return None
    known = run_noise(table, belief)
    if known is None:
        return None
    noise = known.objective
    rng = np.random.default_rng(0)
    prospect = Prospect(table, belief, rng, _CANDIDATES, table.goal)
    if len(prospect.points) == 0:
        return None
    worth = prospect.outlook.worth(prospect.points)
    gain = float(worth.improvement.max())
    asked = table.problem.spec.stopping
    price = asked.least_gain
    if gain < (WORTH_SHARE * noise if price is None else price):
        return (
            f"not worth another run: the next one at the target is expected to gain {gain:.2g} "
            f"bits per byte, {_against(price, noise)}"
        )
    top = prospect.points[np.argsort(-worth.score, kind="stable")[:_JOINT]]
    best = prospect.outlook.incumbent
    drawn = prospect.belief.draws(rng, np.concatenate([best[None], top]), _DRAWS)
    shortfall = drawn[:, 0] - drawn[:, 1:].min(axis=1)
    counts = GAIN_SHARE * noise if price is None else 2 * price
    chance = float(np.mean(shortfall <= counts))
    if chance < asked.certainty:
        return None
    why = "a fifth of the noise of a run" if price is None else "twice what a run must gain"
    return (
        f"certain enough: with a chance of {chance:.2f} no mixture is better than the best "
        f"measured one by {counts:.2g} bits per byte, {why}"
    )


def _against(price: float | None, noise: float) -> str:
    if price is None:
        return f"against {noise:.2g} between seeds"
    return f"less than the {price:g} that stopping.least_gain asks"


_SETTLED: dict[str, Callable[[Table, Fits], str | None]] = {
    "mixing_law": _settled_by_laws,
    "multi_fidelity": _settled_by_belief,
}
"""Strategies that can tell when they know enough; the others spend what they are given."""


def should_stop(problem: SearchProblem, history: History) -> StopDecision:
    """Whether the search is over, and why or why not, in words.

    It is over when nothing more will be proposed and no search run is pending; a decision to
    recommend then rests on everything that was paid for.

    Raises:
        EngineError: If an observation lacks an evaluation set.
    """
    table = Table.build(problem, history)
    reason = over(table, Fits(table))
    if reason is None:
        return StopDecision(stop=False, reason=_left(table))
    waiting = int(table.pending.sum())
    if waiting:
        return StopDecision(stop=False, reason=f"waiting for {waiting} runs")
    return StopDecision(stop=True, reason=reason)


def _left(table: Table) -> str:
    used = STRATEGIES[table.problem.spec.strategy].rungs(table)
    left = [f"{table.left(r)} {table.problem.rungs[r].kind}" for r in used if table.left(r) > 0]
    return f"{' and '.join(left)} runs left in the budget"
