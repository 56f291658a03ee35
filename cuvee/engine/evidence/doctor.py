"""The objective doctor: whether an objective can be searched, from a few repeated anchors.

The anchors are mixtures run at the cheapest rung and at the target before anything else, some of
them more than once (``anchors.py``). Per evaluation set they tell how much mixtures move its loss
against how much seeds do, whether the cheapest rung ranks them as the target does, which other
sets say the same, and how much of the objective's variance is its own. What is wrong is said in
words, with what to do.

All is estimated by the one-way analysis of variance with random effects: with ``n_a`` runs of
anchor ``a``, ``N`` in all, of ``A`` anchors, and mean squares ``B`` between and ``W`` within them,

    noise^2 = W,    signal^2 = (B - W) / n0,    n0 = (N - sum n_a^2 / N) / (A - 1)

(Searle, Casella and McCulloch, *Variance Components*, 1992, section 3.6).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import cluster, optimize, special, stats
from scipy.spatial.distance import squareform

from cuvee.answer import Diagnosis, Interval, SetDiagnosis
from cuvee.engine.answer.agreement import rank_agreement
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies import STRATEGIES
from cuvee.engine.strategies.base import opening
from cuvee.records import History, SearchProblem

__all__ = ["diagnose", "moderate", "ready"]

NOISY = 2.0
"""Signal over noise below which a set is called noisy: a fifth of a run's variance is its seed."""

DROWNED = 1.0
DISAGREES = 0.3
"""Rank correlation of the cheapest rung with the target below which it is warned of."""

REDUNDANT = 0.94
"""Least rank correlation, at every rung with anchors, of sets that say the same."""

_LEAST_ANCHORS = 3
_LEAST_RANKED = 5  # with fewer anchors two unrelated sets often have the same order
_FLAT = 2e-3  # signal below this part of the loss, and nothing known of the noise: flat


@dataclass(frozen=True)
class _Anchors:
    """What the anchors of one rung measured.

    Attributes:
        key: Mixtures, rounded, one per anchor.
        mean: Mean losses by anchor, shape ``(A, E)``.
        count: Runs by anchor, shape ``(A,)``.
        within: Sums of squares and products within anchors, shape ``(E, E)``.
    """

    key: tuple[tuple[float, ...], ...]
    mean: Array
    count: Array
    within: Array

    @property
    def freedom(self) -> int:
        """Runs beyond the first of an anchor."""
        return int(self.count.sum()) - len(self.count)


def ready(problem: SearchProblem, history: History) -> bool:
    """Whether the anchors have run, so that ``diagnose`` can say all that it ever will.

    Raises:
        EngineError: If an observation lacks an evaluation set.
    """
    if any(run.label is not None for run in history.pending if run.purpose == "search"):
        return False
    table = Table.build(problem, history)
    rungs = STRATEGIES[problem.spec.strategy].rungs(table)
    return all(opening(table, rung) is None for rung in rungs if table.left(rung) > 0)


def diagnose(problem: SearchProblem, history: History) -> Diagnosis | None:
    """Examine the objective; None with fewer than three anchors at the target.

    Later runs of the search are not looked at: they crowd where the objective is low, and would
    make every signal look small.

    Args:
        problem: What is searched.
        history: Every run so far; labelled runs of the search are its anchors.

    Raises:
        EngineError: If an observation lacks an evaluation set.
    """
    table = Table.build(problem, history)
    here = _anchors(table, history, table.target)
    if len(here.key) < _LEAST_ANCHORS:
        return None
    below = _anchors(table, history, 0) if table.target > 0 else None
    level = problem.spec.verification.confidence
    size = np.abs(here.mean.mean(axis=0))
    signal, noise = _components(here, size)
    agreement = _agreement(here, below, level)
    clusters = _redundant([a for a in (here, below) if a is not None])
    dominance = _dominance(table, here)
    found = {}
    for e, name in enumerate(table.eval_sets):
        ratio = _ratio(signal[e], None if noise is None else noise[e])
        found[name] = SetDiagnosis(
            eval_set=name,
            signal=float(signal[e]),
            noise=None if noise is None else float(noise[e]),
            signal_to_noise=ratio,
            agreement=agreement[e],
            redundant_with=tuple(sorted(table.eval_sets[o] for o in clusters.get(e, ()) if o != e)),
            dominance=float(dominance[e]),
            verdict=_verdict(ratio, signal[e] / size[e], agreement[e]),
        )
    sets = tuple(found[name] for name in problem.eval_sets)
    objective = _objective(table, history, level)
    return Diagnosis(
        anchors=len(here.key),
        repeats=here.freedom,
        sets=sets,
        objective=objective,
        warnings=tuple(_warnings(problem, sets, objective, len(here.key))),
    )


# ------------------------------------------------------------------------------------------------
# Estimates


def _anchors(table: Table, history: History, rung: int, *, objective: bool = False) -> _Anchors:
    """The anchors of a rung, by evaluation set, or of the objective alone as the only set."""
    rows = sorted(
        (
            tuple(np.round(table.vector(o.mixture), 5).tolist()),
            tuple(o.losses[name].bits_per_byte for name in table.eval_sets),
        )
        for o in history.observations
        if o.purpose == "search" and o.rung == rung and o.label is not None
    )
    groups = {
        key: np.array([y for _, y in group])
        for key, group in itertools.groupby(rows, key=lambda row: row[0])
    }
    if objective:  # run by run: the greatest of noisy losses is not that of their means
        groups = {key: table.goal.value(y)[:, None] for key, y in groups.items()}
    sets = 1 if objective else len(table.eval_sets)
    means = {key: y.mean(axis=0) for key, y in groups.items()}
    within = np.zeros((sets, sets))
    for key, y in groups.items():
        within += (y - means[key]).T @ (y - means[key])
    return _Anchors(
        tuple(groups),
        np.array(list(means.values())).reshape(-1, sets),
        np.array([len(y) for y in groups.values()], dtype=np.float64),
        within,
    )


def _between(anchors: _Anchors) -> tuple[Array, float]:
    """Mean squares and products between anchors ``(E, E)``, and ``n0``."""
    n, total = anchors.count, float(anchors.count.sum())
    away = anchors.mean - n @ anchors.mean / total
    freedom = len(n) - 1
    return (n[:, None] * away).T @ away / freedom, (total - float(n @ n) / total) / freedom


def _components(anchors: _Anchors, size: Array) -> tuple[Array, Array | None]:
    """Deviations between mixtures and between seeds, each ``(E,)``; the latter None if unknown.

    Args:
        anchors: Of one rung.
        size: Mean losses, shape ``(E,)``: noise is likened between sets relative to them.
    """
    between, n0 = _between(anchors)
    square = np.diag(between)
    if anchors.freedom == 0:
        return np.sqrt(square / n0), None
    relative = np.diag(anchors.within) / anchors.freedom / size**2
    noise = moderate(relative, anchors.freedom) * size**2
    return np.sqrt(np.maximum(square - noise, 0.0) / n0), np.sqrt(noise)


def moderate(variance: Array, freedom: int) -> Array:
    """Variances of many sets, each drawn to what they have in common, shape ``(E,)``.

    With one repeat a variance of its own says next to nothing. If the true ones follow a scaled
    inverse chi-squared with ``d0`` degrees of freedom about ``s0^2``, the posterior mean of their
    inverses is that of ``(d0 s0^2 + d s^2) / (d0 + d)``; both are matched to the mean and the
    variance of ``log s^2`` (Smyth 2004, *Statistical Applications in Genetics and Molecular
    Biology* 3(1), section 6). Sets that differ much keep their own.

    Args:
        variance: Sample variances, shape ``(E,)``.
        freedom: Their degrees of freedom, ``d``.
    """
    some = variance > 0
    if np.sum(some) < 3:
        return variance
    log = np.log(variance[some]) - special.digamma(freedom / 2) + np.log(freedom / 2)
    spread = float(log.var(ddof=1)) - float(special.polygamma(1, freedom / 2))
    if spread <= 0:
        return np.full_like(variance, np.exp(log.mean()))
    prior = 2 * float(
        optimize.brentq(lambda half: float(special.polygamma(1, half)) - spread, 1e-6, 1e9)
    )
    centre = np.exp(log.mean() + special.digamma(prior / 2) - np.log(prior / 2))
    return np.asarray((prior * centre + freedom * variance) / (prior + freedom))


def _shared(here: _Anchors, below: _Anchors | None) -> tuple[list[int], list[int]]:
    """Rows of the anchors that both rungs have."""
    places = {} if below is None else {key: i for i, key in enumerate(below.key)}
    both = [(i, places[key]) for i, key in enumerate(here.key) if key in places]
    return [i for i, _ in both], [j for _, j in both]


def _agreement(here: _Anchors, below: _Anchors | None, confidence: float) -> list[Interval | None]:
    top, bottom = _shared(here, below)
    sets = here.mean.shape[1]
    if below is None:
        return [None] * sets
    # The bootstrap's seed is fixed: the same anchors always agree as much.
    return [
        rank_agreement(
            below.mean[bottom, e], here.mean[top, e], np.random.default_rng(0), confidence
        )
        for e in range(sets)
    ]


def _redundant(rungs: Sequence[_Anchors]) -> dict[int, tuple[int, ...]]:
    """Clusters of sets that all order the anchors alike, at every rung, by set.

    Complete linkage: any two sets of a cluster agree.
    """
    enough = [a for a in rungs if len(a.key) >= _LEAST_RANKED]
    sets = rungs[0].mean.shape[1]
    if not enough or enough[0] is not rungs[0] or sets < 2:
        return {}
    likeness = np.ones((sets, sets))
    for anchors in enough:
        ranks = stats.rankdata(anchors.mean, axis=0)
        ranks -= ranks.mean(axis=0)
        scale = np.linalg.norm(ranks, axis=0)
        safe = np.where(scale > 0, scale, np.inf)  # a set that never moves is like no other
        likeness = np.minimum(likeness, (ranks / safe).T @ (ranks / safe))
    gap = np.clip(1 - likeness, 0, None)
    np.fill_diagonal(gap, 0)
    tree = cluster.hierarchy.linkage(squareform(gap, checks=False), method="complete")
    which = cluster.hierarchy.fcluster(tree, 1 - REDUNDANT + 1e-9, criterion="distance")
    members = {c: tuple(np.flatnonzero(which == c).tolist()) for c in np.unique(which)}
    return {e: group for group in members.values() if len(group) > 1 for e in group}


def _dominance(table: Table, anchors: _Anchors) -> Array:
    """Share of the objective's variance over mixtures by set, shape ``(E,)``, sum one.

    Of a weighted mean ``f`` it is ``w_e Cov(L_e, f) / Var(f)``; of the worst excess, the share of
    anchors where the set is the worst.
    """
    if table.goal.reference is not None:
        worst = np.argmax(anchors.mean - table.goal.reference, axis=1)
        return np.bincount(worst, minlength=len(table.eval_sets)) / len(worst)
    between, _ = _between(anchors)
    noise = anchors.within / anchors.freedom if anchors.freedom else np.zeros_like(between)
    for covariance in (between - noise, between):
        part = table.w * (covariance @ table.w)
        if part.sum() > 0:
            break
    part = np.maximum(part, 0.0)
    return np.asarray(part / part.sum() if part.sum() > 0 else table.w)


def _objective(table: Table, history: History, confidence: float) -> SetDiagnosis:
    """The objective as one more set; a front by the mean of its parts."""
    one = _anchors(table, history, table.target, objective=True)
    below = _anchors(table, history, 0, objective=True) if table.target > 0 else None
    signal, noise = _components(one, np.ones(1))
    agreement = _agreement(one, below, confidence)[0]
    ratio = _ratio(signal[0], None if noise is None else noise[0])
    return SetDiagnosis(
        eval_set="objective",
        signal=float(signal[0]),
        noise=None if noise is None else float(noise[0]),
        signal_to_noise=ratio,
        agreement=agreement,
        dominance=1.0,
        verdict=_verdict(ratio, 1.0, agreement),
    )


def _ratio(signal: float, noise: float | None) -> float | None:
    return None if not noise else float(signal / noise)


# ------------------------------------------------------------------------------------------------
# Words


def _verdict(ratio: float | None, relative: float, agreement: Interval | None) -> str:
    if ratio is None and relative < _FLAT:
        return "flat: mixtures hardly move it"
    if ratio is not None and ratio < DROWNED:
        return "drowned: seeds move it more than mixtures do"
    if agreement is not None and agreement.mean < DISAGREES:
        return "unlike: the cheapest rung does not rank it as the target does"
    if ratio is not None and ratio < NOISY:
        return "noisy: seeds move it almost as much as mixtures do"
    return "good"


def _warnings(
    problem: SearchProblem,
    sets: Sequence[SetDiagnosis],
    objective: SetDiagnosis,
    anchors: int,
) -> Iterable[str]:
    """What is wrong with the sets that count, and what to do; the objective first."""
    weights = dict(zip(problem.eval_sets, problem.weights, strict=True))
    guarded = {g.eval_set for g in problem.spec.guardrails}
    counted = [s for s in sets if weights[s.eval_set] > 0 or s.eval_set in guarded]
    if objective.noise is None:
        yield (
            "no anchor was repeated at the target, so nothing is known of the noise: allow it more "
            "runs, or raise doctor.repeats"
        )
    elif objective.signal_to_noise is not None and objective.signal_to_noise < NOISY:
        yield (
            "seeds move the objective almost as much as mixtures do (signal to noise "
            f"{objective.signal_to_noise:.2g}): train target runs for longer, or expect to need "
            "many of them"
        )
    if objective.agreement is not None and objective.agreement.mean < DISAGREES:
        yield (
            "the cheapest rung may not rank mixtures as the target does (rank correlation "
            f"{_of(objective.agreement)}, over {anchors} anchors): give it fewer runs, or make it "
            "more like the target"
        )
    poor = [s for s in counted if s.signal_to_noise is not None and s.signal_to_noise < NOISY]
    if poor:
        yield (
            "noise hides what mixtures do to "
            + _named((s, f"signal to noise {s.signal_to_noise:.2g}") for s in poor)
            + ": give such a set less weight, score it on more text, or leave it out"
        )
    apart = [s for s in counted if s.agreement is not None and s.agreement.mean < DISAGREES]
    if apart:
        yield (
            "the cheapest rung may tell nothing of "
            + _named((s, f"rank correlation {_of(s.agreement)}") for s in apart if s.agreement)
            + ": only target runs will, so plan more of them or leave such a set out"
        )
    yield from _repetitions(counted, weights)
    heavy = [s for s in counted if s.dominance > max(0.5, 1.5 * weights[s.eval_set])]
    for s in heavy:
        yield (
            f"{s.eval_set} makes up {s.dominance:.0%} of the objective's variance with "
            f"{weights[s.eval_set]:.0%} of its weight: the answer will be its optimum; lower "
            "its weight, or use the objective worst_excess, if that is not meant"
        )


def _repetitions(counted: Sequence[SetDiagnosis], weights: dict[str, float]) -> Iterable[str]:
    """One warning per cluster of sets that say the same and weigh something together."""
    clusters = {
        tuple(sorted((s.eval_set, *s.redundant_with)))
        for s in counted
        if s.redundant_with and weights[s.eval_set] > 0
    }
    for names in sorted(clusters):
        weighed = [name for name in names if weights[name] > 0]
        if len(weighed) > 1:
            total = sum(weights[name] for name in weighed)
            yield (
                f"{', '.join(weighed)} order the anchors alike: together they are one thing with "
                f"{total:.0%} of the weight; keep one of them, or say that this is meant"
            )


def _named(items: Iterable[tuple[SetDiagnosis, str]]) -> str:
    listed = [f"{s.eval_set} ({said})" for s, said in items]
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


def _of(value: Interval) -> str:
    return f"{value.mean:.2f}, {value.low:.2f} to {value.high:.2f}"
