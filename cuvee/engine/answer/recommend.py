"""The answer before verification: a mixture, how sure each share is, and what to expect of it.

Everything is read off one posterior of the losses at the target (``belief.py``), the one that the
job's strategy is modelled with; the mixture is the strategy's own answer. Where nothing supports an
answer there is none, and ``refused`` says what is missing.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from cuvee.answer import BridgePlan, Diagnosis, Interval, Recommendation, VerificationPlan
from cuvee.engine import bridges, stopping
from cuvee.engine.acquisition.guardrails import Guards
from cuvee.engine.answer.calibration import calibrate
from cuvee.engine.answer.caveats import notes, refusal
from cuvee.engine.answer.contrast import Gap, gap
from cuvee.engine.answer.equivalents import equivalents
from cuvee.engine.answer.fit_records import reuse_summaries, set_fits
from cuvee.engine.answer.front import front
from cuvee.engine.answer.guardrails import best_that_holds, predicted_guardrails, unheld
from cuvee.engine.answer.shadow import shadow_prices
from cuvee.engine.answer.verification_power import Noise, plan, run_noise
from cuvee.engine.evidence import doctor
from cuvee.engine.evidence.reuse import alarms
from cuvee.engine.evidence.table import Table
from cuvee.engine.propose import answer_mixture
from cuvee.engine.space.optima import descend, draw_optima, gather
from cuvee.engine.space.simplex import Array, Region
from cuvee.engine.strategies import STRATEGIES
from cuvee.engine.surrogates.belief import Belief, ObjectiveLoo
from cuvee.engine.surrogates.fitted import Fits
from cuvee.mixture import Mixture
from cuvee.records import History, SearchProblem

__all__ = ["recommend"]

_DRAWS = 256
"""Joint draws: thirteen in each tail of a 90 % interval."""

_NEAR, _UNIFORM = 192, 32
_MEASURED = 48
_ABSENT = 0.01
_LABELS = ("baseline", "natural", "uniform")
_BEATEN = (
    "another mixture is predicted to be at least as good as the strategy's own answer on every "
    "part: the recommendation is the best such mixture on the front"
)
_STREAM = 15_485_863  # sets this generator apart from the proposals' and the answer's


def recommend(problem: SearchProblem, history: History, seed: int) -> Recommendation:
    """The mixture that the job's strategy answers with, or why it can not answer.

    Intervals of shares are those of the optimum over joint draws of the objective; predicted losses
    and gains are those of the fixed recommendation, so they are free of the optimism of judging
    each draw at its own optimum. Every interval contains its point.

    A strategy that knows nothing of guardrails may answer with a mixture that breaks one; the best
    mixture that holds them takes its place. Of a front, the recommendation is one of the points
    (``front``): the answer, or what beats it on every part.

    Args:
        problem: What was searched.
        history: Every run; verification runs are ignored.
        seed: The job's seed.

    Raises:
        EngineError: If an observation lacks an evaluation set.
    """
    table = Table.build(problem, history)
    fits = Fits(table)
    belief = fits.belief
    diagnosis = doctor.diagnose(problem, history)
    loo = None if belief is None else belief.loo()
    refused = refusal(table, belief, loo)
    if belief is None or loo is None or refused is not None:
        return _refused(table, fits, belief, loo, diagnosis, refused)
    level = problem.spec.verification.confidence
    rng = np.random.default_rng([seed, _STREAM, len(table.shares)])
    mixture = answer_mixture(problem, history, seed)
    p = table.vector(mixture)
    region = _reach(table, p)
    cloud = gather(region, p, _best_measured(table), rng, _NEAR, _UNIFORM)
    best = descend(belief.mean, region, _lowest(belief, cloud))
    guards = Guards.of(table)
    broken = guards.chances(belief, p[None])[0] < guards.chance
    if np.any(broken):
        held = best_that_holds(table, guards, belief, p, np.concatenate([best[None], cloud]))
        if held is None:
            said = unheld(table, guards, belief, cloud)
            return _refused(table, fits, belief, loo, diagnosis, said)
        mixture = table.mixture(held)
        p = table.vector(mixture)
    points, chosen = front(table, belief, guards, region, p, cloud, level)
    beaten = bool(np.any(chosen != p))
    if points:
        mixture = table.mixture(chosen)
        p = table.vector(mixture)
    optima = draw_optima(belief, region, best, cloud, rng, _DRAWS)
    references = np.array([table.vector(problem.reference(label)) for label in _LABELS])
    gains = gap(belief, references, p, level)
    noise = run_noise(table, belief)
    reuse = reuse_summaries(table, belief.model)
    return Recommendation(
        mixture=mixture,
        shares=_shares(table, mixture, optima.p, level),
        predicted=_predicted(table, belief, p, level),
        objective=_objective(belief, p, level),
        gain={
            label: _hull(gains.mean[i], gains.low[i], gains.high[i])
            for i, label in enumerate(_LABELS)
        },
        chance_of_beating={label: float(gains.chance[i]) for i, label in enumerate(_LABELS)},
        fits=set_fits(table, fits, belief),
        equivalents=equivalents(
            table, belief, region, p, optima, None if noise is None else noise.objective, rng, level
        ),
        guardrails=predicted_guardrails(table, guards, belief, p, level),
        shadow_prices=shadow_prices(table, belief, region, p, optima, level),
        calibration=calibrate(belief, loo),
        plan=_plans(table, mixture, gains, noise),
        front=points,
        bridges=_bridges(table, fits),
        reuse=reuse,
        diagnosis=diagnosis,
        notes=(
            *notes(table, belief, loo, p, noise, [table.eval_sets[e] for e in guards.sets[broken]]),
            *([_BEATEN] if beaten else []),
            *alarms(reuse),
        ),
    )


def _refused(
    table: Table,
    fits: Fits,
    belief: Belief | None,
    loo: ObjectiveLoo | None,
    diagnosis: Diagnosis | None,
    reason: str | None,
) -> Recommendation:
    """No answer, with what was found out all the same."""
    if belief is None or loo is None:
        return Recommendation(mixture=None, diagnosis=diagnosis, refused=reason)
    return Recommendation(
        mixture=None,
        fits=set_fits(table, fits, belief),
        calibration=calibrate(belief, loo),
        bridges=_bridges(table, fits),
        reuse=reuse_summaries(table, belief.model),
        diagnosis=diagnosis,
        refused=reason,
    )


def _bridges(table: Table, fits: Fits) -> BridgePlan | None:
    """What runs at both ends of the ladder have repaired, where the strategy uses the ladder."""
    if len(STRATEGIES[table.problem.spec.strategy].rungs(table)) < 2:
        return None
    return bridges.plan(table, fits, stopping.over(table, fits))


def _reach(table: Table, p: Array) -> Region:
    """The region cut to a little beyond the shares that runs at any rung have had.

    Half the least (nothing, once it is nearly absent) and one and a half times the greatest, as for
    proposals: the best mixture may lie there, and an interval must not end where the runs happen
    to.
    """
    low, high = table.shares.min(axis=0), table.shares.max(axis=0)
    low = np.where(low > _ABSENT, low / 2, 0.0)
    return table.region.within(np.minimum(low, p), np.maximum(np.minimum(1.5 * high, 1.0), p))


def _best_measured(table: Table) -> Array:
    """The target's measured mixtures, the best of them where there are many."""
    x, y = table.at(table.target)
    return x[np.argsort(table.goal.value(y), kind="stable")[:_MEASURED]]


def _lowest(belief: Belief, cloud: Array) -> Array:
    return np.asarray(cloud[np.argmin(belief.mean(cloud))])


def _hull(mean: float, low: float, high: float) -> Interval:
    """An interval that contains its point."""
    return Interval(mean=float(mean), low=float(min(low, mean)), high=float(max(high, mean)))


def _shares(
    table: Table, mixture: Mixture, optima: Array, confidence: float
) -> dict[str, Interval]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(optima, [tail, 1 - tail], axis=0)
    places = {name: j for j, name in enumerate(table.domains)}
    return {
        name: _hull(mixture[name], low[places[name]], high[places[name]])
        for name in table.problem.names
    }


def _predicted(table: Table, belief: Belief, p: Array, confidence: float) -> dict[str, Interval]:
    mean = belief.model.mean(p[None], belief.target)[0]
    sd = belief.inflation * np.sqrt(belief.model.var(p[None], belief.target)[0])
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * sd
    places = {name: e for e, name in enumerate(table.eval_sets)}
    return {
        name: _hull(mean[e], mean[e] - half[e], mean[e] + half[e])
        for name in table.problem.eval_sets
        for e in (places[name],)
    }


def _objective(belief: Belief, p: Array, confidence: float) -> Interval:
    mean, sd = float(belief.mean(p[None])[0]), float(belief.sd(p[None])[0])
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * sd
    return _hull(mean, mean - half, mean + half)


def _plans(
    table: Table, mixture: Mixture, gains: Gap, noise: Noise | None
) -> tuple[VerificationPlan, ...]:
    checks = table.problem.spec.verification
    return tuple(
        plan(
            label,
            (float(gains.mean[_LABELS.index(label)]), float(gains.sd[_LABELS.index(label)])),
            noise,
            checks.seeds,
            checks.confidence,
        )
        for label in checks.references
        if table.problem.reference(label).digest() != mixture.digest()
    )
