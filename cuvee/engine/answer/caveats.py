"""When there is no answer, and what is missing; what a reader should know before trusting one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cuvee.engine.answer.calibration import foresight
from cuvee.engine.answer.verification_power import Noise, run_noise
from cuvee.engine.evidence.table import SAME, Table, same
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies import STRATEGIES
from cuvee.engine.strategies.base import verified
from cuvee.engine.surrogates.belief import Belief, ObjectiveLoo
from cuvee.engine.surrogates.default import LEAST, Chosen

__all__ = ["notes", "refusal"]

LEAST_TARGET = 3
"""Different mixtures at the target below which nothing tells how far cheaper rungs, or a law's
shape, can be believed."""

_NAMED = 5  # domains, sets or runs that one note lists
_WIDE = 2.0  # inflation from which on a reader should know of it


def refusal(table: Table, belief: Belief | None, loo: ObjectiveLoo | None) -> str | None:
    """Why there can be no recommendation, and what is missing; None when there can be one."""
    x, _ = table.at(table.target)
    held = int(np.sum(table.busy_rung == table.target))
    out = f"{held} runs failed or are pending" if held else "none failed or is pending"
    different = len(np.unique(np.round(x / (2 * SAME)), axis=0))
    if belief is None or loo is None:
        return _no_model(table)
    if different < LEAST_TARGET:
        return (
            f"{different} different mixtures were measured at the target rung, and an answer needs "
            f"at least {LEAST_TARGET} ({out}). "
            f"{_budget(table, table.target, LEAST_TARGET + len(x) - different)}"
        )
    if len(loo.rows) >= LEAST_TARGET:
        seen = foresight(loo.measured, loo.predicted)
        if seen.none:
            noise = run_noise(table, belief)
            said = "" if noise is None else f", the noise of one run about {noise.objective:.2g}"
            return (
                "the surrogate predicts a run that was left out hardly better than the mean of the "
                f"others (R2 {seen.r2:.2f}, rank correlation {seen.rank:.2f}); the measured "
                f"objectives span {np.ptp(loo.measured):.2g} bits per byte{said}: run more or "
                "longer target runs, or keep the present mixture"
            )
    if not len(verified(table)[0]):
        return f"no measured mixture satisfies the constraints: raise rungs[{table.target}].runs"
    if table.problem.spec.guardrails and not _baseline_measured(table):
        return (
            "the baseline has not been measured at the target rung, so nothing tells whether the "
            f"guardrails hold ({out}): run it"
        )
    return None


def _no_model(table: Table) -> str:
    """That nothing can be fitted, and the budget that would change it: of which rung, how much.

    A surrogate needs its runs at one rung, whichever; the cheapest that the strategy uses is named.
    """
    strategy = STRATEGIES[table.problem.spec.strategy]
    m, rungs = table.region.dimension, table.problem.rungs
    least = max(LEAST_TARGET, strategy.surrogate(table).least_runs(m))
    used = strategy.rungs(table)
    counts = np.bincount(table.rung, minlength=len(rungs))
    there = " and ".join(f"{counts[r]} at rungs[{r}] ({rungs[r].kind})" for r in used)
    said = (
        f"a model over {m} domains needs at least {least} runs of one rung, and there are {there}"
    )
    rung = next((r for r in used if rungs[r].runs >= least), used[0])
    if (
        counts[rung] < rungs[rung].runs
        and strategy.spent(table)
        and not np.any(table.busy_rung == rung)
    ):
        rung = table.target  # whose few runs have ended the search before that rung's were spent
    return f"{said}. {_budget(table, rung, least)}"


def _budget(table: Table, rung: int, least: int) -> str:
    """What to do for ``least`` measured runs at a rung."""
    budget, best = table.problem.rungs[rung].runs, 3 * (table.region.dimension + 1)
    least += int(np.sum((table.busy_rung == rung) & ~table.waits))  # those that failed are spent
    if budget < least:
        return (
            f"The job's budget does not reach it: set rungs[{rung}].runs, which is {budget}, to "
            f"{least} at least, best to {max(best, least)} or more"
        )
    return (
        f"rungs[{rung}].runs, which is {budget}, would reach it: let the search go on, or see why "
        "runs failed"
    )


def notes(
    table: Table,
    belief: Belief,
    loo: ObjectiveLoo,
    p: Array,
    noise: Noise | None,
    broken: Sequence[str],
) -> tuple[str, ...]:
    """What a reader should know before trusting the recommendation ``p (m,)``.

    Args:
        table: The search.
        belief: The posterior of the objective.
        loo: Its leave-one-out predictions.
        p: The recommendation.
        noise: Of one run.
        broken: Evaluation sets whose guardrails the strategy's own answer would have broken.
    """
    said = []
    if broken:
        said.append(
            f"the strategy's own answer would not hold the guardrails of {', '.join(broken)} with "
            "the chance that is asked for: the recommendation is the best mixture that does"
        )
    said += _edges(table, p)
    x, _ = table.at(table.target)
    m = len(p)
    if loo.rung != table.target:
        said.append(
            f"{len(x)} target runs are too few to judge predictions by ({LEAST} are wanted): "
            f"calibration is that of rung {loo.rung}"
        )
    elif len(x) < 3 * (m + 1) and table.target == 0:
        said.append(
            f"the answer rests on {len(x)} runs over {m} domains; {3 * (m + 1)} would make the "
            "intervals firmer"
        )
    if belief.inflation >= _WIDE:
        said.append(
            f"runs left out miss their predictions {belief.inflation:.1f} times as far as the "
            "surrogate expected: every interval is widened by this factor"
        )
    if not _baseline_measured(table):
        said.append(
            "the baseline was not measured at the target rung: the gain over it rests on the "
            "surrogate alone"
        )
    sd = float(belief.sd(p[None])[0])
    if noise is not None and sd > 2 * noise.objective > 0:
        said.append(
            f"the runs support this mixture weakly: its objective is known to {sd:.2g} bits per "
            f"byte, {sd / noise.objective:.1f} times the noise of one run"
        )
    said += _outliers(table, belief)
    failed = int(np.sum(table.busy_rung == table.target) - table.pending[table.target])
    if failed:
        said.append(f"{failed} target runs failed and say nothing")
    return tuple(said)


def _outliers(table: Table, belief: Belief) -> list[str]:
    """Runs with losses that were set aside, for a person to look at."""
    model = belief.model
    if not isinstance(model, Chosen):
        return []
    said = []
    for i in np.flatnonzero(model.named[: len(table.ids)])[:_NAMED]:
        sets = [table.eval_sets[e] for e in np.flatnonzero(model.suspect[i])]
        kind = table.problem.rungs[table.rung[i]].kind
        said.append(
            f"run {table.ids[i]} ({kind}) does not fit with the others on {_few(sets)}: those "
            "losses were set aside; look at the run"
        )
    return said


def _few(names: Sequence[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + more


def _edges(table: Table, p: Array) -> list[str]:
    """Where the answer is at the edge of the shares that target runs had, or beyond it."""
    x, _ = table.at(table.target)
    low, high = x.min(axis=0), x.max(axis=0)
    room_below = low > table.region.lower + 1e-4
    room_above = high < table.region.upper - 1e-4
    at_low = (np.abs(p - low) <= 1e-5) & room_below
    at_high = (np.abs(p - high) <= 1e-5) & room_above
    said = []
    for at, word, seen in ((at_low, "less", low), (at_high, "more", high)):
        held = [f"{table.domains[j]} ({seen[j]:.3g})" for j in np.flatnonzero(at)]
        if held:
            said.append(
                f"still {word} than any target run gave might be better for "
                f"{_few(held)}: the recommendation stays within what was seen"
            )
    for beyond, word, seen in ((p < low - 1e-4, "little", low), (p > high + 1e-4, "much", high)):
        past = [f"{table.domains[j]} ({seen[j]:.3g})" for j in np.flatnonzero(beyond)]
        if past:
            said.append(
                f"no target run gave so {word} to {_few(past)}: there the "
                "recommendation rests on cheaper rungs and on the surrogate"
            )
    return said


def _baseline_measured(table: Table) -> bool:
    x, _ = table.at(table.target)
    return bool(np.any(same(table.vector(table.problem.baseline), x)))
