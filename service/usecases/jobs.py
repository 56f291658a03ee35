"""Jobs: create, read, list, pause, resume, cancel."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cuvee.answer import Recommendation, Report, VerificationPlan
from cuvee.errors import ConflictError, NotFoundError, SpecError
from cuvee.records import CorpusManifest, Event, Job, Page, SearchProblem
from cuvee.spec import JobSpec
from cuvee.states import CorpusState, JobState
from service.db.mapping import canonical_hash, document, event_record, job_record
from service.db.models import CorpusRow, JobRow, new_id
from service.db.repositories import corpora, jobs
from service.queue import ADVANCE, enqueue
from service.usecases.idempotency import Idempotency, first_resource
from service.usecases.lifecycle import cancel_runs, move_job, ring_runs, settle
from service.usecases.naming import name_taken
from service.usecases.paging import check_limit, decode_cursor, page_of
from service.usecases.progress import progress_of
from service.usecases.validation import check_against, check_warm_start

__all__ = [
    "cancel_job",
    "create_job",
    "get_job",
    "get_plan",
    "get_report",
    "list_events",
    "list_jobs",
    "pause_job",
    "require_job",
    "resume_job",
]


def create_job(
    session: Session, tenant_id: str, spec: JobSpec, *, idempotency: Idempotency | None = None
) -> Job:
    """Accept a search.

    Everything that can be known to be wrong is refused here: what the corpus's specification
    contradicts, and once the corpus is ready, what its census contradicts.

    Raises:
        NotFoundError: If there is no such corpus.
        SpecError: If the specification does not fit the corpus, nothing is feasible, or there is no
            such job to start warm from.
        ConflictError: If the corpus has failed, or the name is taken (``details["id"]``).
        IdempotencyError: If the key was used for another request.
    """
    job_id = new_id()
    first = first_resource(session, tenant_id, "jobs.create", idempotency, job_id)
    if first is not None:
        return get_job(session, tenant_id, first)
    corpus = corpora.find(session, tenant_id, spec.corpus)
    if corpus is None:
        raise NotFoundError(
            f"there is no corpus {spec.corpus!r}: register it first", corpus=spec.corpus
        )
    _check_corpus(spec, corpus)
    sources = _sources(session, tenant_id, spec)
    spec_hash = canonical_hash(spec)
    row = JobRow(
        id=job_id,
        tenant_id=tenant_id,
        corpus_id=corpus.id,
        name=spec.name,
        spec=document(spec),
        spec_hash=spec_hash,
        seed=spec.seed,
        concurrency=spec.concurrency,
        warm_start=sources,
    )
    if spec.budget.max_seconds is not None:
        row.deadline_at = func.now() + timedelta(seconds=spec.budget.max_seconds)
    savepoint = session.begin_nested()
    try:
        session.add(row)
        session.flush()
    except IntegrityError as error:
        savepoint.rollback()
        raise _name_taken(session, tenant_id, spec, spec_hash) from error
    savepoint.commit()
    session.refresh(row)
    jobs.append_event(session, row, "job.accepted", {"name": spec.name, "corpus_id": corpus.id})
    session.flush()
    if corpus.state == CorpusState.READY:
        enqueue(session, ADVANCE, row.id)
    return _record(session, row)


def _check_corpus(spec: JobSpec, corpus: CorpusRow) -> None:
    if corpus.state == CorpusState.FAILED:
        raise ConflictError(
            f"corpus {corpus.name or corpus.id} failed: "
            f"{(corpus.error or {}).get('message', 'unknown cause')}; register a corrected one",
            id=corpus.id,
            state=corpus.state,
        )
    check_against(spec, corpus)
    if corpus.manifest is not None:
        SearchProblem.build(spec, CorpusManifest.model_validate(corpus.manifest))


def _sources(session: Session, tenant_id: str, spec: JobSpec) -> list[str] | None:
    """Ids of the jobs to start warm from; they need not have ended, for their runs are read anew.

    Raises:
        SpecError: If the tenant has no such job, or it has ended without a measured run.
    """
    if spec.warm_start is None:
        return None
    found: dict[str, JobRow] = {}
    for reference in spec.warm_start.jobs:
        row = jobs.find(session, tenant_id, reference)
        if row is None:
            raise SpecError(
                f"warm_start.jobs names {reference!r}: there is no such job",
                field="warm_start.jobs",
            )
        if JobState(row.state).terminal and not progress_of(session, [row])[row.id].runs_done:
            raise SpecError(
                f"warm_start.jobs names {reference!r}, which {_ended(row.state)} without a "
                "measured run: leave it out",
                field="warm_start.jobs",
            )
        found[row.id] = row
    check_warm_start(spec, [session.get_one(CorpusRow, row.corpus_id) for row in found.values()])
    return list(found)


def _name_taken(session: Session, tenant_id: str, spec: JobSpec, spec_hash: str) -> ConflictError:
    assert spec.name is not None, "the only unique constraint that can fail is the name's"
    return name_taken("job", jobs.find(session, tenant_id, spec.name), spec_hash)


# ------------------------------------------------------------------------------------------------
# Reading


def require_job(session: Session, tenant_id: str, reference: str) -> JobRow:
    """Raises NotFoundError unless the tenant has such a job, by id or name."""
    row = jobs.find(session, tenant_id, reference)
    if row is None:
        raise NotFoundError(f"there is no job {reference!r}", job=reference)
    return row


def get_job(session: Session, tenant_id: str, reference: str) -> Job:
    """A job by id or name.

    Raises:
        NotFoundError: If the tenant has no such job.
    """
    return _record(session, require_job(session, tenant_id, reference))


def list_jobs(
    session: Session,
    tenant_id: str,
    *,
    state: JobState | str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Job]:
    """Jobs, newest first.

    Raises:
        SpecError: If the limit or the cursor is wrong.
    """
    check_limit(limit)
    wanted = None if state is None else JobState(state)
    scope = f"jobs:{wanted or ''}"
    rows = jobs.page(session, tenant_id, wanted, decode_cursor(cursor, scope), limit + 1)
    kept, following = page_of(rows, limit, scope, lambda row: row.id)
    progress = progress_of(session, kept)
    return Page[Job](
        items=tuple(job_record(row, progress[row.id]) for row in kept), next_cursor=following
    )


def list_events(session: Session, job_id: str, after: int = 0, limit: int = 200) -> list[Event]:
    """The log of a job from just above ``after``, in order."""
    return [event_record(row, job_id) for row in jobs.events(session, job_id, after, limit)]


def get_report(session: Session, tenant_id: str, reference: str) -> Report:
    """The report of a job that has succeeded.

    Raises:
        NotFoundError: If the tenant has no such job.
        ConflictError: If there is no report yet, or will be none.
    """
    job = require_job(session, tenant_id, reference)
    row = jobs.report(session, job.id)
    if row is not None and row.report is not None:
        return Report.model_validate(row.report)
    if JobState(job.state).terminal:
        why = f": {job.error['message']}" if job.error else ""
        raise ConflictError(
            f"job {reference} has no report because it {_ended(job.state)}{why}", state=job.state
        )
    raise ConflictError(
        f"the report of job {reference} is not ready yet: the job is {job.state}", state=job.state
    )


def get_plan(session: Session, job_id: str) -> tuple[VerificationPlan, ...]:
    """What paired runs can show of a job's recommendation; empty before there is one."""
    row = jobs.report(session, job_id)
    if row is None or row.recommendation is None:
        return ()
    return Recommendation.model_validate(row.recommendation).plan


def _ended(state: str) -> str:
    return "was cancelled" if state == JobState.CANCELLED else state


# ------------------------------------------------------------------------------------------------
# Changing


def pause_job(session: Session, tenant_id: str, reference: str) -> Job:
    """Start nothing new; what runs finishes, and then the job is paused. Asking twice is fine.

    Raises:
        NotFoundError: If the tenant has no such job.
        TransitionError: If the job has ended or is being cancelled.
    """
    job = _locked(session, tenant_id, reference)
    if job.state not in (JobState.PAUSING, JobState.PAUSED):
        move_job(session, job, JobState.PAUSING)
        # A decision that is being computed is thrown away; it is computed again after resuming.
        jobs.drop_claim(session, job.id)
        settle(session, job)
    return _record(session, job)


def resume_job(session: Session, tenant_id: str, reference: str) -> Job:
    """Go on with a paused job. Asking twice is fine.

    Raises:
        NotFoundError: If the tenant has no such job.
        TransitionError: If the job is neither paused nor pausing nor running.
    """
    job = _locked(session, tenant_id, reference)
    if job.state not in (JobState.RUNNING, JobState.ACCEPTED):
        move_job(session, job, JobState.RUNNING, event="job.resumed")
        enqueue(session, ADVANCE, job.id)
        ring_runs(session, job)
    return _record(session, job)


def cancel_job(session: Session, tenant_id: str, reference: str) -> Job:
    """Cancel: waiting runs at once; workers hear of it at their next renewal. Twice is fine.

    Raises:
        NotFoundError: If the tenant has no such job.
        TransitionError: If the job has ended.
    """
    job = _locked(session, tenant_id, reference)
    if job.state not in (JobState.CANCELLING, JobState.CANCELLED):
        move_job(session, job, JobState.CANCELLING)
        jobs.drop_claim(session, job.id)
        cancel_runs(session, job, held=False)
        settle(session, job)
    return _record(session, job)


def _locked(session: Session, tenant_id: str, reference: str) -> JobRow:
    job = jobs.lock(session, require_job(session, tenant_id, reference).id)
    assert job is not None, "jobs are never deleted"
    return job


def _record(session: Session, row: JobRow) -> Job:
    session.flush()
    session.refresh(row)
    progress = progress_of(session, [row])[row.id]
    return job_record(row, progress, jobs.diagnosis(session, row.id))
