"""When a search has nothing left to ask: budgets spent, one mixture possible, or certain enough."""

from __future__ import annotations

import numpy as np

from cuvee.engine.fitted import Fits, objective_noise
from cuvee.engine.optimum import minimise
from cuvee.engine.strategies import STRATEGIES
from cuvee.engine.strategies.base import opening
from cuvee.engine.table import Table
from cuvee.records import History, SearchProblem, StopDecision

__all__ = ["certain", "over", "should_stop"]

GAIN_SHARE = 0.2
"""Stop when the gain still expected is below this share of the noise between seeds. Three
verification pairs resolve 0.8 of it: a quarter of that could not be shown to exist."""

_REPLICATES = 32


def over(table: Table, fits: Fits) -> str | None:
    """Why nothing more is to be run, in words; None while there is."""
    strategy = STRATEGIES[table.problem.spec.strategy]
    used = strategy.rungs(table)
    if all(table.left(rung) == 0 for rung in used):
        return (
            f"the budget of {sum(table.issued(r) for r in range(table.target + 1))} runs is spent"
        )
    opened = all(opening(table, rung) is None for rung in used if table.left(rung) > 0)
    if opened and table.single:
        return "the constraints allow a single mixture: there is nothing to search"
    if all(table.left(rung) == 0 for rung in used if rung != table.target):
        return certain(table, fits)
    return None


def certain(table: Table, fits: Fits) -> str | None:
    """Why more target runs would not help, in words; None while they may.

    Asks for ``2 (m + 1)`` target runs (below, leave-one-out errors of the law are not yet stable),
    laws that predict runs left out (rank correlation 0.7, or R2 0.5: among many
    runs near the optimum ranks are noise, and a single far run can spoil R2), and an expected gain
    from knowing the laws exactly that is below ``GAIN_SHARE`` of the noise between seeds.
    """
    if table.problem.spec.strategy not in ("mixing_law", "multi_fidelity"):
        return None
    x, _ = table.at(table.target)
    least = 2 * (x.shape[1] + 1)
    if len(x) < least:
        return None
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
    if gain > GAIN_SHARE * noise:
        return None
    return (
        f"certain enough after {len(x)} runs at the target: knowing the laws exactly would gain "
        f"{gain:.2g} bits per byte on average, against {noise:.2g} between seeds"
    )


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
    rung = next(r for r in used if table.left(r) > 0)
    return f"{table.left(rung)} {table.problem.rungs[rung].kind} runs left in the budget"
