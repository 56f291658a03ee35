"""Runs of earlier jobs, told in this job's domains, as far as they can be.

Domains of the same name are the same domain. One that was cut up, renamed or merged is told by
``warm_start.splits``: its share goes to its parts here, in the stated proportions. A domain that is
gone must have had next to nothing of the run, and one that is new had nothing. What cannot be told
is dropped, with the reason.

Evaluation sets change with the domains, for each domain has one. The loss on the whole stands for
that on each part; a set that an earlier run did not measure is left open, and says nothing.

Every earlier job, at each of its rungs, is a *task*: an output of its own with its own level, slope
and discrepancy, so that a surrogate learns from the runs how far to trust it (Swersky, Snoek and
Adams, *Multi-Task Bayesian Optimization*, 2013). Even equal settings are not taken for the same
function: the text may have changed under a name. Only what this job's runs bear out is, rung by
rung (``joining``).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cuvee.answer import ReuseSummary
from cuvee.engine.evidence.joining import joined
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Runs
from cuvee.mixture import Mixture
from cuvee.records import EarlierRun, History, SearchProblem
from cuvee.spec import Rung

__all__ = ["Earlier", "alarms", "express", "settings"]

_TRUSTED = 0.75
"""Correlation below which earlier runs are no great help. Over four worlds with one domain's text
altered it was 0.54 to 0.71, with a domain split or added and the rest as it was 0.82 to 0.91."""

_NOTHING = 1e-3
"""Share of a domain that is gone which a run may have had: the others are scaled up by it."""

_REASONS = 5  # the most common, for a summary

_MUTED = 1e4  # variance of a loss that was not measured, in units of that of its set's losses

_LEAST_RUNS = 4
"""Runs of a task below which its level, slope and discrepancy would be guesses."""


@dataclass(frozen=True)
class Earlier:
    """Earlier runs as arrays, in canonical order.

    Attributes:
        x: Mixtures in this job's domains, shape ``(K, m)``.
        y: Losses, bits per byte, shape ``(K, E)``; not a number where a set was not measured.
        se: Their standard errors from the held-out text, shape ``(K, E)``.
        rung: The rung of this job that has the same settings; the target where none has, shape
            ``(K,)``. Together with ``task`` it names the output that a run belongs to.
        task: 1, 2, ... by earlier job, and by rung where it matches none of this job's, ``(K,)``.
        expressed: Which of the runs had other domains than this job, shape ``(K,)``.
        sources: The earlier job of each task, shape of ``task.max()``.
        summaries: By earlier job, what was used and what was not; trust is not known yet.
    """

    x: Array
    y: Array
    se: Array
    rung: npt.NDArray[np.intp]
    task: npt.NDArray[np.intp]
    expressed: npt.NDArray[np.bool_]
    sources: tuple[str, ...]
    summaries: tuple[ReuseSummary, ...]

    def after(self, own: Runs) -> Runs:
        """This job's runs with the earlier ones behind them, as its own where they bear it out.

        A loss that was not measured is some number of a variance that leaves it no say.
        """
        y = np.concatenate([own.y, self.y])
        variance = np.concatenate([own.variance, self.se**2])
        absent = np.isnan(y)
        if np.any(absent):
            known = np.sum(~absent, axis=0)
            mean = np.where(known, np.nansum(y, axis=0) / np.maximum(known, 1), 1.0)
            y = np.where(absent, mean, y)
            variance = np.where(absent, _MUTED * np.maximum(y.var(axis=0), 1e-12), variance)
        every = replace(
            own,
            x=np.concatenate([own.x, self.x]),
            y=y,
            rung=np.concatenate([own.rung, self.rung]),
            variance=variance,
            task=np.concatenate([own.task, self.task]),
        )
        return joined(every)

    def without(self, unused: npt.NDArray[np.bool_], why: str) -> tuple[ReuseSummary, ...]:
        """The summaries where the runs ``unused (K,)`` had no say, for the reason given."""
        source = np.array(self.sources, dtype=object)[self.task - 1]
        found = []
        for summary in self.summaries:
            lost = unused & (source == summary.source)
            count, expressed = np.count_nonzero(lost), np.count_nonzero(lost & self.expressed)
            update = {
                "used": summary.used - count,
                "expressed": summary.expressed - expressed,
                "dropped": summary.dropped + count,
                "reasons": (f"{count} {why}", *summary.reasons),
            }
            found.append(summary.model_copy(update=update) if count else summary)
        return tuple(found)

    def trusted(self, trust: Array) -> tuple[ReuseSummary, ...]:
        """The summaries with what a surrogate has learned.

        Args:
            trust: By task and rung, the correlation of an earlier job's loss with this job's
                target, mean over sets, shape ``(tasks, rungs)``; not a number where unknown.
        """
        by_source: dict[str, list[float]] = defaultdict(list)
        for task, rung in zip(self.task.tolist(), self.rung.tolist(), strict=True):
            by_source[self.sources[task - 1]].append(float(trust[task - 1, rung]))
        return tuple(
            summary.model_copy(update={"trust": float(np.mean(by_source[summary.source]))})
            if np.all(np.isfinite(by_source.get(summary.source, [np.nan])))
            else summary
            for summary in self.summaries
        )


def alarms(summaries: Sequence[ReuseSummary]) -> tuple[str, ...]:
    """What a reader should know of earlier jobs that did not help, in words."""
    said = []
    for one in summaries:
        if one.used == 0 and one.dropped:
            why = f": {one.reasons[0]}" if one.reasons else ""
            said.append(f"no run of the earlier job {one.source} was of use{why}")
        elif one.trust is not None and one.trust < _TRUSTED:
            said.append(
                f"the runs of the earlier job {one.source} foretell this job's target poorly "
                f"(correlation {one.trust:.2f}): the text under a domain's name may have changed, "
                "or their rung tells little of the target; they count for no more than that"
            )
    return tuple(said)


_Row: TypeAlias = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], int, bool]
"""Shares, losses, their errors, seed, and whether the run's domains were not this job's."""


@dataclass
class _Count:
    used: int = 0
    expressed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)  # by the sets that were not measured


def settings(rung: Rung) -> str:
    """Equal for rungs that train and evaluate alike; how many runs they may spend is left out."""
    return rung.model_dump_json(exclude={"runs", "cost"})


def express(
    problem: SearchProblem, history: History, domains: Sequence[str], eval_sets: Sequence[str]
) -> Earlier:
    """Tell earlier runs in this job's domains, or count why not.

    Args:
        problem: This job; its ``warm_start.splits`` say what became of old domains.
        history: Its ``earlier`` runs, in any order.
        domains: This job's domains, in the order of the columns wanted.
        eval_sets: Its evaluation sets, in the order of the columns wanted.
    """
    ours = {settings(rung): r for r, rung in enumerate(problem.rungs)}
    counts: dict[str, _Count] = defaultdict(_Count)
    groups: dict[tuple[str, int, str], list[_Row]] = defaultdict(list)
    parts = _parts(problem)
    whole = {part: name for name in sorted(parts) for part in parts[name]}
    for run in history.earlier:
        count = counts[run.source]
        told = _told(run, domains, parts)
        losses = [run.losses.get(name, run.losses.get(whole.get(name, ""))) for name in eval_sets]
        absent = [name for name, loss in zip(eval_sets, losses, strict=True) if loss is None]
        if isinstance(told, str):
            count.reasons[told] += 1
        elif len(absent) == len(eval_sets):
            count.reasons[f"without a loss on {_listed(absent)}"] += 1
        else:
            if absent:
                count.open[_listed(absent)] += 1
            theirs = settings(run.rung)
            own = "" if theirs in ours else theirs
            key = (run.source, ours.get(theirs, problem.target), own)
            groups[key].append(
                (
                    told,
                    tuple(math.nan if loss is None else loss.bits_per_byte for loss in losses),
                    # The same text's error moves all losses alike: only other text's is noise.
                    tuple(
                        0.0 if loss is None or run.same_corpus else loss.bits_per_byte_se
                        for loss in losses
                    ),
                    run.seed,
                    set(run.mixture.root) != set(domains),
                )
            )
    sources: list[str] = []
    tasks: dict[tuple[str, str], int] = {}
    rows: list[tuple[int, int, _Row]] = []
    for key in sorted(groups):
        source, rung, own = key
        group = groups[key]
        count = counts[source]
        if len(group) < _LEAST_RUNS:
            few = f"at a rung with fewer than {_LEAST_RUNS} usable runs"
            count.reasons[few] += len(group)
            continue
        if (source, own) not in tasks:
            sources.append(source)
            tasks[source, own] = len(sources)
        count.used += len(group)
        count.expressed += sum(changed for *_, changed in group)
        rows += [(tasks[source, own], rung, row) for row in group]
    rows.sort()
    for source, number in history.left_out.items():
        counts[source].reasons["older than the runs that are read"] += number
    return Earlier(
        np.array([row[0] for _, _, row in rows], dtype=np.float64).reshape(-1, len(domains)),
        np.array([row[1] for _, _, row in rows], dtype=np.float64).reshape(-1, len(eval_sets)),
        np.array([row[2] for _, _, row in rows], dtype=np.float64).reshape(-1, len(eval_sets)),
        np.array([rung for _, rung, _ in rows], dtype=np.intp),
        np.array([task for task, _, _ in rows], dtype=np.intp),
        np.array([row[4] for _, _, row in rows], dtype=bool),
        tuple(sources),
        tuple(_summary(source, counts[source]) for source in sorted(counts)),
    )


def _parts(problem: SearchProblem) -> dict[str, dict[str, float]]:
    """What became of old domains that were cut up; shares sum to one."""
    warm = problem.spec.warm_start
    splits = {} if warm is None else warm.splits
    return {name: dict(Mixture.from_weights(parts).root) for name, parts in splits.items()}


def _told(
    run: EarlierRun, domains: Sequence[str], parts: dict[str, dict[str, float]]
) -> tuple[float, ...] | str:
    """The run's mixture over ``domains``, or why it cannot be told."""
    here: dict[str, list[float]] = {name: [] for name in domains}
    gone: dict[str, list[float]] = {}
    for name, share in run.mixture.root.items():
        for part, portion in parts.get(name, {name: 1.0}).items():
            if part in here:
                here[part].append(share * portion)
            elif share * portion > 0:
                gone.setdefault(part, []).append(share * portion)
    # Exact sums: they do not depend on the order in which an old job named its domains.
    if math.fsum(share for shares in gone.values() for share in shares) > _NOTHING:
        return f"with text of {_listed(sorted(gone))}, which this job does not have"
    total = math.fsum(share for shares in here.values() for share in shares)
    return tuple(math.fsum(here[name]) / total for name in domains)


def _listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _summary(source: str, count: _Count) -> ReuseSummary:
    open_sets = count.open.most_common(1)
    return ReuseSummary(
        source=source,
        used=count.used,
        expressed=count.expressed,
        dropped=count.reasons.total(),
        reasons=(
            *(f"{n} {why}" for why, n in count.reasons.most_common(_REASONS)),
            *(f"{n} tell nothing of {sets}, not measured then" for sets, n in open_sets),
        ),
    )
