"""When a search has nothing left to ask: budgets spent, one mixture possible, or certain enough."""

from __future__ import annotations

import numpy as np

from cuvee.engine.design import opening
from cuvee.engine.fitted import Fits, objective_noise
from cuvee.engine.optimum import minimise
from cuvee.engine.table import Table
from cuvee.records import History, SearchProblem, StopDecision

__all__ = ["certain", "open_rung", "should_stop"]

GAIN_SHARE = 0.2
"""Stop when the gain still expected is below this share of the noise between seeds. Three
verification pairs resolve 0.8 of it: a quarter of that could not be shown to exist."""

_REPLICATES = 32
_SINGLE = 1e-6  # a region narrower than this is one mixture


def open_rung(table: Table, fits: Fits) -> int | None:
    """The rung of the next run; None when nothing more is to be proposed."""
    for rung in range(table.target + 1):
        if table.left(rung) == 0:
            continue
        if opening(table, rung) is None and table.region.width < _SINGLE:
            continue
        if rung == table.target and certain(table, fits) is not None:
            return None
        return rung
    return None


def certain(table: Table, fits: Fits) -> str | None:
    """Why more target runs would not help, in words; None while they may.

    Asks for ``2 (m + 1)`` target runs (below, leave-one-out errors of the law are not yet stable),
    laws that predict runs left out (rank correlation 0.7, or R2 0.5: among many
    runs near the optimum ranks are noise, and a single far run can spoil R2), and an expected gain
    from knowing the laws exactly that is below ``GAIN_SHARE`` of the noise between seeds.
    """
    if table.problem.spec.strategy != "mixing_law":
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
    fits = Fits(table)
    rung = open_rung(table, fits)
    if rung is not None:
        left, kind = table.left(rung), problem.rungs[rung].kind
        return StopDecision(stop=False, reason=f"{left} {kind} runs left in the budget")
    waiting = int(table.pending.sum())
    if waiting:
        return StopDecision(stop=False, reason=f"waiting for {waiting} runs")
    reason = certain(table, fits) if table.left(table.target) else None
    if reason is None and table.left(table.target):
        reason = "the constraints allow a single mixture: there is nothing to search"
    if reason is None:
        spent = sum(rung.runs for rung in problem.rungs)
        reason = f"the budget of {spent} runs is spent"
    return StopDecision(stop=True, reason=reason)
