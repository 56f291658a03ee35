"""Verification: paired runs of the recommendation and its references, and what they show.

The recommendation is fixed before these runs and is not tuned on them, so their difference is an
unbiased estimate of the gain. A pair shares its seed, hence its initial weights and, as far as the
mixtures allow, its data: what is common to both runs cancels.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from cuvee.answer import Interval, PairedDifference, Recommendation
from cuvee.engine.answer.verification_power import Noise
from cuvee.engine.evidence.table import Table
from cuvee.errors import EngineError
from cuvee.mixture import Mixture
from cuvee.records import Explanation, History, Observation, Prediction, Proposal, SearchProblem

__all__ = [
    "differences",
    "increases",
    "mean_interval",
    "plan_verification",
    "single_noise",
    "verified",
]

_STREAM = 7919  # sets the verification seeds apart from the search's streams


def plan_verification(
    problem: SearchProblem, recommendation: Recommendation, seed: int
) -> tuple[Proposal, ...]:
    """The runs that verify a recommendation, pair by pair; none when it was refused.

    Each mixture is run once per seed, equal mixtures once: where the baseline is the natural
    mixture, one run serves both.

    Args:
        problem: What was searched.
        recommendation: The answer to verify.
        seed: The job's seed.
    """
    if recommendation.mixture is None:
        return ()
    labelled: list[tuple[str, Mixture]] = [("recommended", recommendation.mixture)]
    for label in problem.spec.verification.references:
        mixture = problem.reference(label)
        if all(mixture.digest() != other.digest() for _, other in labelled):
            labelled.append((label, mixture))
    rng = np.random.default_rng([seed, _STREAM])
    wanted = problem.spec.verification.seeds
    seeds: list[int] = []
    while len(seeds) < wanted:
        drawn = int(rng.integers(2**31))
        if drawn not in seeds:
            seeds.append(drawn)
    # Fixed before its runs: they are to show its objective, not to improve on it.
    objective = recommendation.objective
    level = problem.spec.verification.confidence
    known = None if objective is None else _se(objective, level)
    predicted = {
        name: Prediction(mean=value.mean, se=_se(value, level))
        for name, value in recommendation.predicted.items()
    }
    return tuple(
        Proposal(
            mixture=mixture,
            rung=problem.target,
            seed=run_seed,
            reason=f"verifies the recommendation: {label}, pair {number} of {wanted}",
            purpose="verify",
            label=label,
            predicted=predicted if label == "recommended" else {},
            explanation=Explanation(
                method="verify", uncertainty=known if label == "recommended" else None, cost=1.0
            ),
        )
        for number, run_seed in enumerate(seeds, start=1)
        for label, mixture in labelled
    )


def _se(value: Interval, confidence: float) -> float:
    return (value.high - value.low) / 2 / float(stats.norm.ppf(0.5 + confidence / 2))


def verified(problem: SearchProblem, history: History, mixture: Mixture) -> list[Observation]:
    """The verification runs of a mixture, by seed. Mixtures are matched by content."""
    digest = mixture.digest()
    found = {
        o.seed: o
        for o in sorted(history.observations, key=lambda o: o.run_id, reverse=True)
        if o.purpose == "verify" and o.rung == problem.target and o.mixture.digest() == digest
    }
    return [found[seed] for seed in sorted(found)]


def single_noise(
    table: Table, history: History, known: Noise | None
) -> tuple[float | None, dict[str, float]]:
    """Noise of one target run, of the objective and per set, where a mean rests on one run.

    As the search tells it; where it does not, from the held-out text alone, which leaves out the
    seed and so is the least that it can be. Nothing without a run at the target.

    Args:
        table: The search.
        history: Every run, verification included.
        known: ``run_noise`` of the search.
    """
    if known is not None:
        return known.objective, dict(zip(table.eval_sets, known.sets.tolist(), strict=True))
    problem = table.problem
    first = next((o for o in history.observations if o.rung == problem.target), None)
    if first is None:
        return None, {}
    by_set = {name: loss.bits_per_byte_se for name, loss in first.losses.items()}
    each = np.array([by_set[e] for e in problem.eval_sets])
    weighted = float(np.linalg.norm(np.array(problem.weights) * each))
    worst = problem.spec.objective.reference is not None
    return float(each.max()) if worst else weighted, by_set


def mean_interval(values: list[float], confidence: float, noise: float | None) -> Interval:
    """Mean of runs with a t interval, or with a known standard deviation where there is one run.

    Args:
        values: At least one measurement.
        confidence: Level of the interval.
        noise: Standard deviation of one value; used when there is a single value.
    """
    mean, se, freedom = _mean(values, noise)
    half = se * _quantile(0.5 + confidence / 2, freedom)
    return Interval(mean=mean, low=mean - half, high=mean + half)


def increases(problem: SearchProblem, history: History, mixture: Mixture) -> dict[str, list[float]]:
    """Recommended minus baseline by complete pair, bits per byte, by evaluation set.

    Empty lists where the recommendation is the baseline: nothing can increase.
    """
    same = mixture.digest() == problem.baseline.digest()
    ours = {o.seed: o for o in verified(problem, history, mixture)}
    theirs = {o.seed: o for o in verified(problem, history, problem.baseline)}
    seeds = [] if same else sorted(ours.keys() & theirs.keys())
    return {
        e: [ours[s].losses[e].bits_per_byte - theirs[s].losses[e].bits_per_byte for s in seeds]
        for e in problem.eval_sets
    }


def differences(
    problem: SearchProblem,
    history: History,
    recommendation: Recommendation,
    known: Noise | None,
) -> tuple[PairedDifference, ...]:
    """What the pairs show, per requested reference that has at least one complete pair.

    With two pairs or more, the interval and the chance are those of Student's t, the posterior of
    the mean under a flat prior. A single pair uses the noise known from the search, times the
    square root of two.

    Where the search measured no noise either, a single pair shows nothing and is left out. A
    reference that is the recommended mixture itself has no difference to show.

    Args:
        problem: What was searched.
        history: Every run, verification included.
        recommendation: What was verified.
        known: ``run_noise`` of the search.
    """
    if recommendation.mixture is None:
        return ()
    ours = {
        o.seed: problem.objective(o.losses)
        for o in verified(problem, history, recommendation.mixture)
    }
    found = []
    for label in problem.spec.verification.references:
        runs = verified(problem, history, problem.reference(label))
        theirs = {o.seed: problem.objective(o.losses) for o in runs}
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds or recommendation.mixture.digest() == problem.reference(label).digest():
            continue
        values = [theirs[s] - ours[s] for s in seeds]
        noise = None
        if len(seeds) == 1:
            if known is None:
                continue  # one pair, and no idea how much a pair varies: it shows nothing
            noise = known.objective * np.sqrt(2)
        mean, se, freedom = _mean(values, noise)
        found.append(
            PairedDifference(
                reference=label,
                difference=mean_interval(values, problem.spec.verification.confidence, noise),
                chance=_chance(mean, se, freedom),
                pairs=tuple((s, theirs[s], ours[s]) for s in seeds),
            )
        )
    return tuple(found)


def _mean(values: list[float], noise: float | None) -> tuple[float, float, float]:
    """Mean, its standard error, and degrees of freedom."""
    n = len(values)
    mean = float(np.mean(values))
    if n > 1:
        return mean, float(np.std(values, ddof=1) / np.sqrt(n)), n - 1
    if noise is None:
        raise EngineError("the mean of one run has no interval without a known noise")
    return mean, float(noise), float("inf")


def _quantile(level: float, freedom: float) -> float:
    return float(stats.norm.ppf(level) if np.isinf(freedom) else stats.t.ppf(level, freedom))


def _chance(mean: float, se: float, freedom: float) -> float:
    if se == 0:
        return 0.5 if mean == 0 else float(mean > 0)
    ratio = mean / se
    return float(stats.norm.cdf(ratio) if np.isinf(freedom) else stats.t.cdf(ratio, freedom))
