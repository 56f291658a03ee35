"""What the reconciler does: close what nobody closes, and ring for what nobody rang for.

Every step looks at states and identities in the database, is safe to repeat, and works in small
batches; all times are compared by the database's clock.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from cuvee.records import Problem
from cuvee.states import CorpusState, JobState
from service.db.repositories import corpora, jobs, outbox, runs
from service.queue import ADVANCE, EXECUTE, PREPARE, Message, enqueue
from service.usecases.corpora import fail_corpus
from service.usecases.lifecycle import (
    cancel_runs,
    continue_job,
    fail_job,
    move_corpus,
    settle,
)
from service.usecases.runs import lose_run

__all__ = ["expire_leases", "purge", "relay_outbox", "ring_again", "settle_jobs"]

_BATCH = 100
_DECISIONS_LOST = 5


def relay_outbox(
    session: Session, limit: int = _BATCH, *, older_than: float = 2.0
) -> list[Message]:
    """Take unpublished messages and mark them published.

    Publish them inside the unit of work: if the broker refuses, the error rolls the marks back,
    and a message published twice is harmless.
    """
    rows = outbox.lock_unpublished(session, limit, older_than)
    if rows:
        outbox.mark_published(session, [row.id for row in rows])
    return [Message(row.task, row.entity_id, row.queue) for row in rows]


def expire_leases(
    session: Session,
    *,
    max_attempts: int = 3,
    stall_seconds: float = 1800,
    limit: int = _BATCH,
) -> int:
    """Take runs, preparations and decisions from workers that are silent.

    Args:
        session: The unit of work.
        max_attempts: Attempts of a run or a preparation that may be lost before it fails.
        stall_seconds: A worker that renews but reports no progress for this long is stuck.
        limit: Runs and preparations taken at once.

    Returns:
        How many leases were taken.
    """
    taken = 0
    for job_id, run_id in runs.expired(session, stall_seconds, limit):
        taken += _expire_run(session, job_id, run_id, max_attempts, stall_seconds)
    taken += _expire_preparations(session, max_attempts, limit)
    for job_id in jobs.expired_claims(session):
        taken += _expire_claim(session, job_id)
    return taken


def _expire_run(
    session: Session, job_id: str, run_id: str, max_attempts: int, stall_seconds: float
) -> bool:
    job = jobs.lock(session, job_id)
    lease = runs.lock_lease(session, run_id)
    run = runs.get(session, run_id)
    # Asked again under the lock: the worker may have come back between the two questions.
    if (
        job is None
        or run is None
        or lease is None
        or not runs.is_expired(session, run_id, stall_seconds)
    ):
        return False
    problem = Problem(
        code="lease_lost",
        message=f"worker {lease.worker} was silent or made no progress for too long",
        details={"worker": lease.worker, "attempt": lease.attempt},
    )
    lose_run(session, job, run, lease, problem, max_attempts)
    return True


def _expire_preparations(session: Session, max_attempts: int, limit: int) -> int:
    expired = corpora.lock_expired(session, limit)
    for corpus in expired:
        losses = corpus.losses + 1
        if losses >= max_attempts:
            corpus.losses = losses
            cause = "a worker that is killed often lacks memory"
            if corpus.progress is not None and corpus.progress.startswith("interrupted"):
                cause = corpus.progress
            problem = Problem(
                code="attempts_exhausted",
                message=f"{losses} workers were lost while preparing it, the last {corpus.worker}; "
                f"look for their logs ({cause})",
                details={"attempts": losses, "worker": corpus.worker},
            )
            fail_corpus(session, corpus, problem)
        else:
            move_corpus(
                session,
                corpus,
                CorpusState.REGISTERED,
                losses=losses,
                worker=None,
                lease_until=None,
                progress=None,
            )
            enqueue(session, PREPARE, corpus.id)
    return len(expired)


def _expire_claim(session: Session, job_id: str) -> bool:
    job = jobs.lock(session, job_id)
    claim = None if job is None else jobs.claim(session, job.id)
    if job is None or claim is None or claim.expires_at >= jobs.now(session):
        return False
    jobs.drop_claim(session, job.id)
    job.advance_losses += 1
    if job.advance_losses >= _DECISIONS_LOST:
        message = (
            f"{job.advance_losses} workers in a row were lost while computing the next decision, "
            f"the last {claim.worker}"
        )
        fail_job(session, job, Problem(code="attempts_exhausted", message=message))
    else:
        enqueue(session, ADVANCE, job.id)
    return True


def ring_again(session: Session, older_than: float = 30.0) -> int:
    """Ring for work that waits and was not rung for in ``older_than`` seconds.

    This heals a broker that was emptied, and a worker that died with a message in its hands.
    """
    rung = 0
    for corpus_id in corpora.unheard(session, older_than):
        enqueue(session, PREPARE, corpus_id)
        rung += 1
    for job_id in jobs.due_for_advance(session, older_than):
        enqueue(session, ADVANCE, job_id)
        rung += 1
    for lease in runs.idle_leases(session, older_than):
        enqueue(session, EXECUTE, lease.run_id, lease.pool)
        rung += 1
    return rung


def settle_jobs(session: Session, *, cancel_seconds: float = 120) -> int:
    """Move on jobs that pause, cancel, or are past their deadline.

    A worker that has not let go of a cancelled run after ``cancel_seconds`` loses it. Past its
    deadline a job starts nothing more: waiting runs are cancelled, workers hear of it at their
    next renewal, and then it reports what is there.
    """
    moved = 0
    for job_id in jobs.unsettled(session, cancel_seconds):
        job = jobs.lock(session, job_id)
        if job is None:
            continue
        before = job.version
        if job.state == JobState.CANCELLING and jobs.older_than(
            session, job.state_since, cancel_seconds
        ):
            cancel_runs(session, job)
        if job.state == JobState.RUNNING:
            # It may have been resumed since it was listed.
            late = job.deadline_at is not None and job.deadline_at <= jobs.now(session)
            if late and cancel_runs(session, job, held=False):
                continue_job(session, job)
        else:
            settle(session, job)
        moved += job.version != before
    return moved


def purge(session: Session, *, outbox_hours: float = 1, key_hours: float = 48) -> int:
    """Delete published messages and idempotency keys past their retention; rows deleted."""
    return outbox.purge(session, outbox_hours, key_hours)
