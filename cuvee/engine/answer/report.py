"""The defended answer: everything that was measured and concluded, in one record."""

from __future__ import annotations

from datetime import datetime
from itertools import accumulate

import numpy as np

from cuvee import __version__
from cuvee.answer import (
    CurvePoint,
    DomainShare,
    EvalReport,
    GuardrailReport,
    Interval,
    PairedDifference,
    Recommendation,
    Report,
    RungSummary,
)
from cuvee.engine.answer.agreement import modelled_agreement, rank_agreement
from cuvee.engine.answer.guardrails import measured_guardrails
from cuvee.engine.answer.verification_power import run_noise
from cuvee.engine.answer.verify import differences, increases, mean_interval, single_noise, verified
from cuvee.engine.evidence.table import Table
from cuvee.engine.surrogates.belief import Belief
from cuvee.engine.surrogates.fitted import Fits
from cuvee.feasible import ACTIVE
from cuvee.mixture import Mixture
from cuvee.records import History, Observation, SearchProblem
from cuvee.wording import chance_words

__all__ = ["build_report"]

_AT_BOUND = 1e-4  # a share this near a bound is held by it


def build_report(
    problem: SearchProblem,
    history: History,
    recommendation: Recommendation,
    *,
    job_id: str,
    name: str | None,
    corpus_digest: str,
    stop_reason: str,
    created_at: datetime,
    seed: int,
) -> Report:
    """Assemble the report.

    Args:
        problem: What was searched.
        history: Every run, verification included.
        recommendation: The answer, as it was before verification.
        job_id: For the record.
        name: For the record.
        corpus_digest: For the record.
        stop_reason: Why the search ended.
        created_at: The caller's clock; the engine has none.
        seed: The job's seed, for bootstrap intervals.

    Raises:
        EngineError: If an observation lacks an evaluation set, or one verification pair was run
            and nothing tells the noise.
    """
    table = Table.build(problem, history)
    belief = Fits(table).belief
    known = run_noise(table, belief)
    noise, by_set = single_noise(table, history, known)
    shown = differences(problem, history, recommendation, known)
    mixture = recommendation.mixture
    measured = None
    guardrails = recommendation.guardrails
    if mixture is not None:
        measured = _measured_objective(problem, history, mixture, noise)
        if guardrails:
            guardrails = measured_guardrails(
                guardrails,
                tuple(g.chance for g in problem.spec.guardrails),
                increases(problem, history, mixture),
                by_set,
                problem.spec.verification.confidence,
            )
    rungs = _rungs(table, history, belief, seed)
    return Report(
        job_id=job_id,
        name=name,
        corpus_digest=corpus_digest,
        created_at=created_at,
        confidence=problem.spec.verification.confidence,
        verdict=" ".join(
            [_verdict(problem, recommendation, shown), *_kept(guardrails, recommendation)]
        ),
        refused=recommendation.refused,
        recommended=mixture,
        domains=() if mixture is None else _domains(problem, recommendation, mixture),
        evaluations=()
        if mixture is None
        else _evaluations(problem, history, recommendation, mixture, by_set),
        predicted_objective=recommendation.objective,
        measured_objective=measured,
        chance_of_beating=recommendation.chance_of_beating,
        predicted_gain=recommendation.gain,
        verification=shown,
        fits=recommendation.fits,
        equivalents=recommendation.equivalents,
        guardrails=guardrails,
        shadow_prices=recommendation.shadow_prices,
        calibration=recommendation.calibration,
        plan=recommendation.plan,
        front=recommendation.front,
        bridges=recommendation.bridges,
        reuse=recommendation.reuse,
        diagnosis=recommendation.diagnosis,
        rungs=rungs,
        curve=_curve(problem, history),
        stop_reason=stop_reason,
        notes=(*recommendation.notes, *_sparse(problem, mixture), *_useless(rungs)),
        seed=problem.spec.seed,
        engine_version=__version__,
    )


def _verdict(
    problem: SearchProblem, recommendation: Recommendation, shown: tuple[PairedDifference, ...]
) -> str:
    """The answer in a sentence or two, the first reference first."""
    level = f"{problem.spec.verification.confidence:.0%} interval"
    if recommendation.mixture is None:
        return f"No recommendation: {recommendation.refused}."
    same = [
        label
        for label in problem.spec.verification.references
        if problem.reference(label).digest() == recommendation.mixture.digest()
    ]
    if same:
        itself = f"The recommended mixture is {_called(same[0])} itself: nothing better was found."
        return " ".join([itself, *(_sentence(pair, level) for pair in shown)])
    if not shown:
        label = next(iter(problem.spec.verification.references), "baseline")
        gain = recommendation.gain[label]
        return (
            f"Recommended mixture is predicted to beat {_called(label)} by {gain.mean:.3f} "
            f"bits per byte ({level} {gain.low:.3f} to {gain.high:.3f}, chance "
            f"{chance_words(recommendation.chance_of_beating[label])}). It has not been verified."
        )
    return " ".join(_sentence(pair, level) for pair in shown)


def _called(reference: str) -> str:
    return "the baseline" if reference == "baseline" else f"the {reference} mixture"


def _sentence(pair: PairedDifference, level: str) -> str:
    value, reference = pair.difference, _called(pair.reference)
    runs = f"{len(pair.pairs)} paired run{'s' if len(pair.pairs) > 1 else ''}"
    figures = f"{level} {value.low:.3f} to {value.high:.3f}, chance {chance_words(pair.chance)}"
    if value.low > 0:
        return (
            f"Recommended mixture beats {reference} by {value.mean:.3f} bits per byte "
            f"({figures}), verified by {runs}."
        )
    if value.high < 0:
        return (
            f"Recommended mixture does worse than {reference} by {-value.mean:.3f} bits "
            f"per byte ({figures}) in {runs}: keep {reference}."
        )
    return (
        f"Recommended mixture is not shown to beat {reference}: the difference is "
        f"{value.mean:.3f} bits per byte ({figures}) in {runs}."
    )


def _kept(guardrails: tuple[GuardrailReport, ...], recommendation: Recommendation) -> list[str]:
    """What paired runs say of the guardrails: broken ones first, then those not shown to hold."""
    if recommendation.mixture is None:
        return []
    tested = [g for g in guardrails if g.measured is not None]
    said = []
    for g in tested:
        if g.measured is not None and g.measured.low > g.max_increase:
            said.append(
                f"It breaks the guardrail of {g.eval_set}: {g.measured.mean:.3f} bits per byte "
                f"over the baseline, {g.max_increase:g} allowed."
            )
    unsure = [
        g.eval_set
        for g in tested
        if not g.holds and g.measured is not None and g.measured.low <= g.max_increase
    ]
    if unsure:
        word = "guardrail" if len(unsure) == 1 else "guardrails"
        said.append(f"The runs do not show that the {word} of {', '.join(unsure)} hold.")
    return said


def _domains(
    problem: SearchProblem, recommendation: Recommendation, mixture: Mixture
) -> tuple[DomainShare, ...]:
    feasible = problem.feasible()
    length = problem.spec.constraints.target_tokens
    held: dict[str, str] = {}
    for group in feasible.groups:  # smallest first: what stands nearest to a domain holds it
        members = [problem.names[j] for j in group.members]
        total = sum(mixture[n] for n in members)
        if group.upper < 1 and total >= group.upper - _AT_BOUND:
            said = f"the bound on {group.label}, at most {group.upper:g} together"
        elif group.lower > 0 and total <= group.lower + _AT_BOUND:
            said = f"the bound on {group.label}, at least {group.lower:g} together"
        else:
            continue
        held = dict.fromkeys(members, said) | held
    shares = []
    for j, name in enumerate(problem.names):
        share = mixture[name]
        if feasible.upper[j] < 1 and share >= feasible.upper[j] - _AT_BOUND:
            held[name] = feasible.reasons[j]
        elif feasible.lower[j] > 0 and share <= feasible.lower[j] + _AT_BOUND:
            held[name] = f"bounds.{name}.min = {feasible.lower[j]:g}"
        shares.append(
            DomainShare(
                name=name,
                tokens=problem.tokens[j],
                natural=problem.natural[name],
                baseline=problem.baseline[name],
                recommended=recommendation.shares.get(
                    name, Interval(mean=share, low=share, high=share)
                ),
                epochs=None if length is None else share * length / problem.tokens[j],
                cap=min(1.0, feasible.upper[j]),
                binding=held.get(name),
            )
        )
    return tuple(shares)


def _measured_objective(
    problem: SearchProblem, history: History, mixture: Mixture, noise: float | None
) -> Interval | None:
    values = [problem.objective(o.losses) for o in verified(problem, history, mixture)]
    if not values:
        return None
    return mean_interval(values, problem.spec.verification.confidence, noise)


def _evaluations(
    problem: SearchProblem,
    history: History,
    recommendation: Recommendation,
    mixture: Mixture,
    noise: dict[str, float],
) -> tuple[EvalReport, ...]:
    level = problem.spec.verification.confidence
    ours = verified(problem, history, mixture)
    theirs = verified(problem, history, problem.baseline)

    def measured(runs: list[Observation], name: str) -> Interval | None:
        values = [o.losses[name].bits_per_byte for o in runs]
        return mean_interval(values, level, noise.get(name)) if values else None

    return tuple(
        EvalReport(
            name=name,
            weight=weight,
            predicted=recommendation.predicted[name],
            measured=measured(ours, name),
            baseline_measured=measured(theirs, name),
        )
        for name, weight in zip(problem.eval_sets, problem.weights, strict=True)
    )


def _sparse(problem: SearchProblem, mixture: Mixture | None) -> list[str]:
    """Whether the limit on active domains binds, in words: it has no domain to stand beside."""
    feasible = problem.feasible()
    if mixture is None or feasible.max_active is None:
        return []
    shares = mixture.shares(problem.names)
    absent = [s <= ACTIVE and cap > ACTIVE for s, cap in zip(shares, feasible.upper, strict=True)]
    if not any(absent) or sum(s > ACTIVE for s in shares) < feasible.max_active:
        return []
    return [
        f"max_active = {feasible.max_active} binds: as many domains have a share as may have one, "
        f"and {sum(absent)} more could"
    ]


_UNLIKE = 0.5
"""Rank correlation with the target below which, surely, a rung tells little of it."""


def _useless(rungs: tuple[RungSummary, ...]) -> list[str]:
    """Rungs that rank mixtures otherwise than the target does, in words."""
    return [
        f"rung {number} ({rung.kind}) ranks mixtures otherwise than the target (correlation "
        f"{rung.modelled.mean:.2f}, {rung.modelled.low:.2f} to {rung.modelled.high:.2f}, by the "
        "model): it told little here; leave it out, or make it more like the target"
        for number, rung in enumerate(rungs)
        if rung.modelled is not None and rung.modelled.high < _UNLIKE
    ]


def _rungs(
    table: Table, history: History, belief: Belief | None, seed: int
) -> tuple[RungSummary, ...]:
    problem = table.problem
    means = [_mean_objectives(problem, history, rung) for rung in range(len(problem.rungs))]
    level = problem.spec.verification.confidence
    summaries = []
    for rung, spec in enumerate(problem.rungs):
        runs = [o for o in history.observations if o.rung == rung]
        shared = sorted(means[rung].keys() & means[problem.target].keys())
        agreement = modelled = None
        if rung != problem.target:
            rng = np.random.default_rng([seed, rung])
            agreement = rank_agreement(
                np.array([means[rung][d] for d in shared]),
                np.array([means[problem.target][d] for d in shared]),
                rng,
                level,
            )
            if belief is not None and np.any(table.rung == table.target):
                either = table.shares[(table.rung == rung) | (table.rung == table.target)]
                modelled = modelled_agreement(
                    belief.model, table.goal, rung, either, rng, level, belief.inflation
                )
        summaries.append(
            RungSummary(
                kind=spec.kind,
                runs=len(runs),
                failed=sum(r.rung == rung for r in history.failed),
                seconds=sum(sorted(o.seconds for o in runs)),
                agreement=agreement,
                shared=0 if rung == problem.target else len(shared),
                modelled=modelled,
            )
        )
    return tuple(summaries)


def _mean_objectives(problem: SearchProblem, history: History, rung: int) -> dict[str, float]:
    """Mean objective by mixture digest."""
    values: dict[str, list[float]] = {}
    for o in history.observations:
        if o.rung == rung:
            values.setdefault(o.mixture.digest(), []).append(problem.objective(o.losses))
    return {digest: float(np.mean(sorted(v))) for digest, v in values.items()}


def _curve(problem: SearchProblem, history: History) -> tuple[CurvePoint, ...]:
    """Best feasible objective at the target after each of its search runs.

    Observations carry no time; run ids are UUIDv7 and sort by it. Seconds are of training, summed
    over all rungs.
    """
    runs = sorted(
        (o for o in history.observations if o.purpose == "search"), key=lambda o: o.run_id
    )
    spent = list(accumulate(o.seconds for o in runs))
    feasible = problem.feasible()
    points: list[CurvePoint] = []
    best = float("inf")
    at_target = 0
    for o, seconds in zip(runs, spent, strict=True):
        if o.rung != problem.target:
            continue
        at_target += 1
        if not feasible.violations(o.mixture):
            best = min(best, problem.objective(o.losses))
        if np.isfinite(best):
            points.append(CurvePoint(runs=at_target, seconds=seconds, best=best))
    return tuple(points)
