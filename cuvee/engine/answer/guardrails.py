"""What is said of guardrails: whether they can be kept, what is predicted, what was measured.

The chance that a guardrail holds before verification is that of ``acquisition/guardrails.py``.
After it, the increase over the baseline is the mean over pairs, and the chance that it is within
what is allowed is Student's, under a flat prior, as for the objective (``verify.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.special import log_ndtr

from cuvee.answer import GuardrailReport, Interval
from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.optima import descend
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief

__all__ = [
    "Nearest",
    "best_that_holds",
    "hopeless",
    "measured_guardrails",
    "nearest",
    "predicted_guardrails",
    "unheld",
]

FAINT = 0.05
"""Chance below which guardrails can hardly be kept: one mixture in twenty such would do so."""

_STEPS = 33
_ROUNDS = 20
_FAR = 1e3  # minus the log chance of a guardrail that certainly breaks


@dataclass(frozen=True)
class Nearest:
    """The mixture that most likely keeps all guardrails.

    Attributes:
        p: The mixture, shape ``(m,)``.
        chance: That it keeps all of them.
        chances: That it keeps each, shape ``(G,)``.
    """

    p: Array
    chance: float
    chances: Array


def nearest(table: Table, guards: Guards, belief: Belief, among: Array) -> Nearest:
    """The mixture that most likely keeps all guardrails: a candidate, and downhill from it.

    Args:
        table: The search.
        guards: Its guardrails, one or more.
        belief: The posterior.
        among: Feasible candidates, shape ``(n, m)``; of a pool, all there is.
    """

    def doubt(p: Array) -> Array:
        # Minus the log chance, which has a slope where the chance underflows.
        mean, sd = guards.increase(belief, p)
        room = guards.slack - mean
        known = np.where(room >= -1e-12, 0.0, _FAR * (1.0 - room))
        each = np.where(sd > 1e-12, -log_ndtr(room / np.maximum(sd, 1e-12)), known)
        return np.asarray(each.sum(axis=1))

    p = among[np.argmin(doubt(among))]
    if table.pool is None:
        p = descend(doubt, table.region, table.region.project(p), _ROUNDS)
    row = p[None]
    return Nearest(p, float(guards.all_hold(belief, row)[0]), guards.chances(belief, row)[0])


def hopeless(table: Table, guards: Guards, belief: Belief, among: Array) -> str | None:
    """Why no mixture can be hoped to keep the guardrails, in words; None while one can.

    Args:
        table: The search.
        guards: Its guardrails.
        belief: The posterior.
        among: Feasible candidates, shape ``(n, m)``.
    """
    if not len(guards) or not len(among):
        return None
    together = nearest(table, guards, belief, among)
    if together.chance >= FAINT:
        return None
    said = []
    for g, e in enumerate(guards.sets):
        one = replace(
            guards,
            sets=guards.sets[g : g + 1],
            slack=guards.slack[g : g + 1],
            chance=guards.chance[g : g + 1],
        )
        chance = nearest(table, one, belief, among).chance
        if chance < FAINT:
            said.append(
                f"the guardrail on {table.eval_sets[e]} can hardly be kept: the chance is "
                f"{_chance(chance)} at best, over all mixtures that the constraints allow, and "
                f"{guards.chance[g]:g} is asked"
            )
    if said:
        return "; ".join(dict.fromkeys(said))
    names = ", ".join(table.eval_sets[e] for e in np.unique(guards.sets))
    return (
        f"the guardrails on {names} can hardly be kept together: the chance is "
        f"{_chance(together.chance)} at best, over all mixtures that the constraints allow"
    )


def unheld(table: Table, guards: Guards, belief: Belief, among: Array) -> str:
    """Why the guardrails allow no answer: how near a mixture comes, and what would allow it.

    Args:
        table: The search.
        guards: Its guardrails.
        belief: The posterior.
        among: Feasible candidates, shape ``(n, m)``.
    """
    found = nearest(table, guards, belief, among)
    mean, sd = (values[0] for values in guards.increase(belief, found.p[None]))
    wanted = mean + stats.norm.ppf(guards.chance) * sd
    broken = np.flatnonzero(found.chances < guards.chance)
    keeps = ", and ".join(
        f"{table.eval_sets[guards.sets[g]]} within {guards.slack[g]:g} bits per byte of the "
        f"baseline with a chance of {_chance(found.chances[g])}, not {guards.chance[g]:g}"
        for g in broken
    )
    raised = " and ".join(
        f"that of {table.eval_sets[guards.sets[g]]} to {_above(wanted[g]):g}" for g in broken
    )
    more = (
        "more runs will hardly help"
        if found.chance < FAINT
        else "or run more at the target, which may show that it keeps them"
    )
    return (
        f"no mixture keeps all guardrails: the nearest keeps {keeps}. Raise max_increase "
        f"({raised} would allow that mixture), widen the constraints so that mixtures nearer to "
        f"the baseline are allowed, or ask for less chance; {more}"
    )


def _chance(value: float) -> str:
    return "below 0.01" if value < 0.01 else f"{value:.2f}"


def _above(value: float) -> float:
    """A little more than a value, with two digits."""
    step = 10.0 ** (np.floor(np.log10(max(value, 1e-6))) - 1)
    return float(np.ceil(value / step) * step)


def best_that_holds(
    table: Table, guards: Guards, belief: Belief, p: Array, among: Array
) -> Array | None:
    """The mixture with the least expected objective for which every guardrail holds, ``(m,)``.

    Looked for among candidates and on the way from the answer to the baseline; where none of these
    holds, at the mixture that most likely does.

    Args:
        table: The search.
        guards: Its guardrails.
        belief: The posterior of the objective.
        p: The answer that does not hold, shape ``(m,)``.
        among: Feasible candidates, shape ``(n, m)``.

    Returns:
        None when none of them holds with the chance that is asked for.
    """
    safe = guards.baseline
    if not table.region.contains(safe)[0]:
        safe = table.region.project(safe)
    way = np.append(p + np.linspace(0.0, 1.0, _STEPS)[:-1, None] * (safe - p), safe[None], axis=0)
    candidates = np.concatenate([way[table.region.contains(way, slack=1e-9)], among])
    held = candidates[guards.allowed(belief, candidates)]
    if not len(held):
        likeliest = nearest(table, guards, belief, candidates).p
        return likeliest if guards.allowed(belief, likeliest[None])[0] else None
    return np.asarray(held[np.argmin(belief.mean(held))])


def predicted_guardrails(
    table: Table, guards: Guards, belief: Belief, p: Array, confidence: float
) -> tuple[GuardrailReport, ...]:
    """What is predicted of each guardrail at the recommendation ``(m,)``, in the job's order."""
    guardrails = table.problem.spec.guardrails
    if not guardrails:
        return ()
    mean, sd = guards.increase(belief, p[None])
    chances = guards.chances(belief, p[None])[0]
    half = stats.norm.ppf(0.5 + confidence / 2) * sd[0]
    found: dict[int, GuardrailReport] = {}
    for g, i in enumerate(_canonical(table)):
        centre, width = float(mean[0, g]), float(half[g])
        found[i] = GuardrailReport(
            eval_set=guardrails[i].eval_set,
            max_increase=guardrails[i].max_increase,
            increase=Interval(mean=centre, low=centre - width, high=centre + width),
            chance=float(chances[g]),
            holds=bool(chances[g] >= guardrails[i].chance),
        )
    return tuple(found[i] for i in range(len(guardrails)))


def _canonical(table: Table) -> list[int]:
    """The job's guardrails in the order of ``Guards``, by index."""
    guardrails = table.problem.spec.guardrails
    return sorted(
        range(len(guardrails)),
        key=lambda i: (
            table.eval_sets.index(guardrails[i].eval_set),
            guardrails[i].max_increase,
            guardrails[i].chance,
        ),
    )


def measured_guardrails(
    predicted: tuple[GuardrailReport, ...],
    asked: tuple[float, ...],
    increases: Mapping[str, list[float]],
    noise: Mapping[str, float],
    confidence: float,
) -> tuple[GuardrailReport, ...]:
    """The same, with what paired runs measured.

    Args:
        predicted: As recommended.
        asked: Chance that is asked of each.
        increases: Recommended minus baseline by pair, bits per byte, by evaluation set.
        noise: Standard deviation of one run, by evaluation set, for want of a second pair.
        confidence: Level of the interval.
    """
    found = []
    for report, wanted in zip(predicted, asked, strict=True):
        values = increases.get(report.eval_set, [])
        n = len(values)
        if n == 0 or (n == 1 and report.eval_set not in noise):
            found.append(report)
            continue
        mean = float(np.mean(values))
        if n == 1:
            se, freedom = float(np.sqrt(2)) * noise[report.eval_set], np.inf
        else:
            se, freedom = float(np.std(values, ddof=1) / np.sqrt(n)), n - 1.0
        half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * se
        room = report.max_increase - mean
        chance = float(stats.t.cdf(room / se, freedom)) if se > 0 else float(room >= 0)
        found.append(
            report.model_copy(
                update={
                    "measured": Interval(mean=mean, low=mean - half, high=mean + half),
                    "holds": chance >= wanted,
                }
            )
        )
    return tuple(found)
