"""What is said of guardrails: predicted with the recommendation, measured after verification.

The chance that a guardrail holds before verification is that of ``acquisition/guardrails.py``.
After it, the increase over the baseline is the mean over pairs, and the chance that it is within
what is allowed is Student's, under a flat prior, as for the objective (``verify.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from cuvee.answer import GuardrailReport, Interval
from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief

__all__ = ["best_that_holds", "measured_guardrails", "predicted_guardrails"]

_STEPS = 33


def best_that_holds(
    table: Table, guards: Guards, belief: Belief, p: Array, among: Array
) -> Array | None:
    """The mixture with the least expected objective for which every guardrail holds, ``(m,)``.

    Looked for among candidates and on the way from the answer to the baseline.

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
        return None
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
