"""Where jobs stand, computed when somebody looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from sqlalchemy.orm import Session

from cuvee.records import JobProgress
from cuvee.spec import JobSpec
from cuvee.states import CorpusState, JobState, RunState
from service.db.mapping import job_spec
from service.db.models import JobRow
from service.db.repositories import jobs, progress

__all__ = ["progress_of", "seconds_left", "seconds_to_verify"]

Phase = Literal["waiting", "preparing", "searching", "verifying", "reporting", "done"]
Counts = Mapping[tuple[str, int, str], int]

_LEAST_PARALLELISM = 0.05
"""A job that paused for hours must not promise years: below this the estimate says nothing."""


def _planned(row: JobRow, spec: JobSpec) -> int:
    """Runs of the whole job; before the corpus is counted, as many as there can be."""
    if row.runs_planned is not None:
        return row.runs_planned
    most = spec.verification.seeds * (1 + len(spec.verification.references))
    return _search_runs(spec) + most


def _search_runs(spec: JobSpec) -> int:
    return sum(rung.runs for rung in spec.rungs)


def progress_of(session: Session, rows: Sequence[JobRow]) -> dict[str, JobProgress]:
    """By job id, where it stands; a fixed number of queries for any number of jobs."""
    if not rows:
        return {}
    session.flush()
    job_ids = [row.id for row in rows]
    specs = {row.id: job_spec(row) for row in rows}
    targets = {job_id: len(spec.rungs) - 1 for job_id, spec in specs.items()}
    counts = progress.counts(session, job_ids)
    best = progress.best_runs(session, targets)
    baselines = progress.baselines(session, targets)
    times = progress.rung_times(session, [r.id for r in rows if r.state == JobState.RUNNING])
    corpora = progress.corpora_of(session, rows)
    now = jobs.now(session)
    found = {}
    for row in rows:
        spec, count = specs[row.id], counts[row.id]
        corpus_state, said = corpora.get(row.corpus_id, (CorpusState.READY, None))
        phase = _phase(row, corpus_state)
        done = _total(count, RunState.SUCCEEDED)
        planned = _planned(row, spec)
        at_best = best.get(row.id)
        active = sum(_total(count, s) for s in RunState if not s.terminal)
        found[row.id] = JobProgress(
            phase=phase,
            runs_done=done,
            runs_planned=planned,
            runs_failed=_total(count, RunState.FAILED),
            runs_active=active,
            best=None if at_best is None else at_best.objective,
            best_run_id=None if at_best is None else at_best.run_id,
            baseline=baselines.get(row.id),
            seconds_left=seconds_left(row, spec, count, times.get(row.id, []), now),
            message=_message(row, phase, done, planned, active, said),
        )
    return found


def _total(counts: Counts, state: RunState, purpose: str | None = None) -> int:
    return sum(
        number
        for (of, _, in_state), number in counts.items()
        if in_state == state and purpose in (None, of)
    )


def _phase(row: JobRow, corpus_state: str) -> Phase:
    if JobState(row.state).terminal:
        return "done"
    if row.domains is None:
        return "preparing" if corpus_state == CorpusState.PREPARING else "waiting"
    phases: dict[str, Phase] = {"searching": "searching", "verifying": "verifying"}
    return phases.get(row.phase, "reporting")


def _message(
    row: JobRow, phase: Phase, done: int, planned: int, active: int, said: str | None
) -> str:
    state = JobState(row.state)
    if state is JobState.FAILED:
        return str((row.error or {}).get("message", "failed"))
    if state.terminal or state is JobState.PAUSED:
        return str(state)
    if state in (JobState.PAUSING, JobState.CANCELLING):
        return f"{state}: {active} runs have not ended yet"
    words = {
        "waiting": "waiting for the corpus to be prepared",
        "preparing": f"preparing the corpus: {said or 'started'}",
        "searching": f"searching: {done} of {planned} runs",
        "verifying": f"verifying the recommendation: {done} of {planned} runs",
        "reporting": "writing the report",
    }
    return words[phase]


# ------------------------------------------------------------------------------------------------
# Time


def seconds_left(
    row: JobRow,
    spec: JobSpec,
    counts: Counts,
    times: Sequence[progress.RungTime],
    now: datetime,
) -> float | None:
    """An estimate of the seconds until the runs are done; None while nothing supports one.

    Each run that is left takes as long as those of its rung did, and as many go on at once as did
    so far. A deadline bounds the estimate.
    """
    if row.state != JobState.RUNNING or row.domains is None:
        return None
    if row.phase == "reporting":
        return 0.0
    bound = None if row.deadline_at is None else max(0.0, (row.deadline_at - now).total_seconds())
    left = _runs_left(row, spec, counts)
    mean = {time.rung: time.seconds / time.runs for time in times}
    if not times or any(rung not in mean for rung in left):
        return bound
    busy = sum(time.seconds for time in times)
    span = (max(t.ended for t in times) - min(t.began for t in times)).total_seconds()
    at_once = min(float(row.concurrency), max(_LEAST_PARALLELISM, busy / span if span else 1.0))
    estimate = sum(number * mean[rung] for rung, number in left.items()) / at_once
    return estimate if bound is None else min(estimate, bound)


def _runs_left(row: JobRow, spec: JobSpec, counts: Counts) -> dict[int, int]:
    """Runs not yet over, by rung, those that are only planned included."""
    open_: dict[int, int] = {}
    over: dict[int, int] = {}
    for (purpose, rung, state), number in counts.items():
        if not RunState(state).terminal:
            open_[rung] = open_.get(rung, 0) + number
        elif purpose == "search" and state != RunState.CANCELLED:
            over[rung] = over.get(rung, 0) + number
    if row.phase == "verifying":
        return open_
    left = {
        index: open_.get(index, 0)
        if row.stop_reason is not None
        else max(open_.get(index, 0), rung.runs - over.get(index, 0))
        for index, rung in enumerate(spec.rungs)
    }
    target = len(spec.rungs) - 1
    left[target] += _planned(row, spec) - _search_runs(spec)
    return {rung: number for rung, number in left.items() if number}


def seconds_to_verify(session: Session, row: JobRow, spec: JobSpec) -> float:
    """How long the verification will take, from the runs of the target rung so far (0 if none)."""
    target = len(spec.rungs) - 1
    times = [t for t in progress.rung_times(session, [row.id])[row.id] if t.rung == target]
    if not times:
        return 0.0
    mean = times[0].seconds / times[0].runs
    verification = _planned(row, spec) - _search_runs(spec)
    rounds = -(-verification // row.concurrency)
    return (rounds + 1) * mean  # and a run of the search that is still to end
