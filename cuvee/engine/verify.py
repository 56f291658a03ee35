"""Verification: paired runs of the recommendation and its references, and what they show.

The recommendation is fixed before these runs and is not tuned on them, so their difference is an
unbiased estimate of the gain. A pair shares its seed, hence its initial weights and, as far as the
mixtures allow, its data: what is common to both runs cancels.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from cuvee.engine.fitted import Fits, objective_noise
from cuvee.engine.table import Table
from cuvee.errors import EngineError
from cuvee.mixture import Mixture
from cuvee.records import (
    History,
    Interval,
    Observation,
    PairedDifference,
    Prediction,
    Proposal,
    Recommendation,
    SearchProblem,
)

__all__ = ["differences", "known_noise", "mean_interval", "plan_verification", "verified"]

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
    predicted = {
        name: Prediction(mean=value.mean, se=_se(value, problem.spec.verification.confidence))
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


def known_noise(problem: SearchProblem, history: History) -> float:
    """Standard deviation of one target run's objective, for when a single pair gives none.

    Raises:
        EngineError: If the search left no way to tell.
    """
    table = Table.build(problem, history)
    noise = objective_noise(table, Fits(table).at(table.target))
    if noise is None:
        raise EngineError(
            "one verification pair has no spread and the search measured no noise: "
            "use verification.seeds of 2 or more"
        )
    return noise


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


def differences(
    problem: SearchProblem, history: History, recommendation: Recommendation
) -> tuple[PairedDifference, ...]:
    """What the pairs show, per requested reference that has at least one complete pair.

    With two pairs or more, the interval and the chance are those of Student's t, the posterior of
    the mean under a flat prior. A single pair uses the noise known from the search, times the
    square root of two.

    Raises:
        EngineError: If there is one pair and no known noise.
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
        if not seeds:
            continue
        values = [theirs[s] - ours[s] for s in seeds]
        noise = known_noise(problem, history) * np.sqrt(2) if len(seeds) == 1 else None
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
