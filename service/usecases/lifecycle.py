"""Every change of state, in one place.

A transition is: the row locked, the table of ``cuvee.states`` asked, an update that names the state
it expects, and an event in the same transaction. Callers hold the job's lock; locks are taken in
the order corpus, job, run, lease.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from cuvee.errors import ConflictError
from cuvee.records import Problem
from cuvee.states import (
    CORPUS_TRANSITIONS,
    JOB_TRANSITIONS,
    RUN_TRANSITIONS,
    CorpusState,
    JobState,
    RunState,
    require_transition,
)
from service.db.mapping import document
from service.db.models import CorpusRow, JobRow, RunLeaseRow, RunRow
from service.db.repositories import jobs, runs
from service.queue import ADVANCE, EXECUTE, enqueue

__all__ = [
    "cancel_runs",
    "continue_job",
    "end_run",
    "fail_job",
    "move_corpus",
    "move_job",
    "move_run",
    "requeue_run",
    "ring_runs",
    "run_facts",
    "settle",
    "unwanted",
]

_MOST_BELLS = 32
"""Runs rung for at once: enough for any number of workers to start, few enough to be cheap."""


def move_corpus(session: Session, corpus: CorpusRow, target: CorpusState, **values: Any) -> None:
    """Move a locked corpus to another state and set columns with it."""
    current = CorpusState(corpus.state)
    require_transition(CORPUS_TRANSITIONS, current, target, f"corpus {corpus.id}")
    moved = session.scalar(
        update(CorpusRow)
        .where(CorpusRow.id == corpus.id, CorpusRow.state == current)
        .values(state=target, updated_at=func.now(), **values)
        .returning(CorpusRow),
        execution_options={"populate_existing": True},
    )
    if moved is None:
        raise ConflictError(f"corpus {corpus.id} is no longer {current}")


def move_job(
    session: Session,
    job: JobRow,
    target: JobState,
    *,
    event: str | None = None,
    payload: dict[str, Any] | None = None,
    **values: Any,
) -> None:
    """Move a locked job to another state, set columns with it, and append the event.

    The event is ``job.<target>`` unless another name is given.
    """
    current = JobState(job.state)
    require_transition(JOB_TRANSITIONS, current, target, f"job {job.id}")
    if target.terminal:
        values["finished_at"] = func.now()
    moved = session.scalar(
        update(JobRow)
        .where(JobRow.id == job.id, JobRow.state == current)
        .values(state=target, state_since=func.now(), **values)
        .returning(JobRow),
        execution_options={"populate_existing": True},
    )
    if moved is None:
        raise ConflictError(f"job {job.id} is no longer {current}")
    jobs.append_event(session, job, event or f"job.{target}", payload or {})


def move_run(
    session: Session,
    job: JobRow,
    run: RunRow,
    target: RunState,
    event: str,
    payload: dict[str, Any] | None = None,
    **values: Any,
) -> None:
    """Move a run of a locked job to another state, set columns with it, and append the event."""
    current = RunState(run.state)
    require_transition(RUN_TRANSITIONS, current, target, f"run {run.id}")
    if target.terminal:
        values["finished_at"] = func.now()
    moved = session.scalar(
        update(RunRow)
        .where(RunRow.id == run.id, RunRow.state == current)
        .values(state=target, **values)
        .returning(RunRow),
        execution_options={"populate_existing": True},
    )
    if moved is None:
        raise ConflictError(f"run {run.id} is no longer {current}")
    jobs.append_event(session, job, event, run_facts(run) | (payload or {}))


def run_facts(run: RunRow) -> dict[str, Any]:
    """What every event about a run says."""
    return {
        "run_id": run.id,
        "rung": run.rung,
        "purpose": run.purpose,
        "label": run.label,
        "attempt": run.attempt,
    }


def end_run(
    session: Session,
    job: JobRow,
    run: RunRow,
    lease: RunLeaseRow,
    target: RunState,
    *,
    problem: Problem | None = None,
    payload: dict[str, Any] | None = None,
    **values: Any,
) -> None:
    """End a run: state, attempt, lease and event together."""
    error = None if problem is None else document(problem)
    if lease.lease_until is not None:
        _end_attempt(session, run, target.value, error)
    details = payload or {}
    if error is not None:
        details = details | {"error": error}
        values["error"] = error
    move_run(session, job, run, target, f"run.{target}", details, **values)
    session.delete(lease)
    session.flush()


def requeue_run(
    session: Session,
    job: JobRow,
    run: RunRow,
    lease: RunLeaseRow,
    *,
    outcome: str,
    problem: Problem | None = None,
    **values: Any,
) -> None:
    """End a run's attempt, and give the run back to the queue."""
    error = None if problem is None else document(problem)
    _end_attempt(session, run, outcome, error)
    payload: dict[str, Any] = {"outcome": outcome}
    if error is not None:
        payload["error"] = error
    move_run(session, job, run, RunState.QUEUED, "run.lost", payload, **values)
    lease.worker = lease.lease_until = lease.lease_seconds = None
    lease.progress = lease.progress_at = None
    session.flush()


def _end_attempt(session: Session, run: RunRow, outcome: str, error: dict[str, Any] | None) -> None:
    attempt = runs.attempt(session, run, run.attempt)
    assert attempt is not None, "a held lease has an attempt: they are written together"
    attempt.outcome = outcome
    attempt.error = error
    attempt.ended_at = func.now()


def cancel_runs(session: Session, job: JobRow, *, held: bool | None = None) -> int:
    """Cancel runs of a locked job: all that are not over, or only those (not) held by a worker.

    A worker whose run is cancelled under it learns so at its next write, which is fenced.
    """
    leases = runs.leases(session, job.id, held=held)
    for lease in leases:
        run = runs.get(session, lease.run_id)
        assert run is not None, "a lease refers to its run by foreign key"
        end_run(session, job, run, lease, RunState.CANCELLED)
    return len(leases)


def unwanted(session: Session, job: JobRow) -> bool:
    """Whether a run of this job that ends without a result should not be tried again."""
    if job.state not in (JobState.RUNNING, JobState.PAUSING):
        return True
    return job.deadline_at is not None and job.deadline_at <= jobs.now(session)


def settle(session: Session, job: JobRow) -> None:
    """Finish pausing or cancelling a locked job once no worker holds a run of it."""
    state = JobState(job.state)
    if state not in (JobState.PAUSING, JobState.CANCELLING):
        return
    if runs.leases(session, job.id, held=True):
        return
    if state is JobState.CANCELLING:
        cancel_runs(session, job)
        move_job(session, job, JobState.CANCELLED)
    else:
        move_job(session, job, JobState.PAUSED)


def fail_job(session: Session, job: JobRow, problem: Problem) -> None:
    """Fail a locked job: nothing of it goes on, so its failure is the last event of its log."""
    cancel_runs(session, job)
    jobs.drop_claim(session, job.id)
    error = document(problem)
    move_job(session, job, JobState.FAILED, payload={"error": error}, error=error)


def continue_job(session: Session, job: JobRow) -> None:
    """After one of its runs ended: settle a locked job, or ring for its next steps."""
    settle(session, job)
    if job.state == JobState.RUNNING:
        enqueue(session, ADVANCE, job.id)
        ring_runs(session, job)


def ring_runs(session: Session, job: JobRow) -> None:
    """Ring for the waiting runs of a job, oldest first."""
    for lease in runs.free_leases(session, job.id, min(job.concurrency, _MOST_BELLS)):
        enqueue(session, EXECUTE, lease.run_id, lease.pool)
