"""Corpora: register, read, and the lease under which one is prepared."""

from __future__ import annotations

from datetime import timedelta
from typing import NoReturn

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cuvee.errors import ConflictError, FencedError, NotFoundError
from cuvee.records import Corpus, CorpusManifest, Page, Problem
from cuvee.spec import CorpusSpec, Record
from cuvee.states import CorpusState, JobState
from service.db.mapping import canonical_hash, corpus_record, document
from service.db.models import CorpusRow, new_id
from service.db.repositories import corpora, jobs
from service.queue import ADVANCE, PREPARE, enqueue
from service.usecases.idempotency import Idempotency, first_resource
from service.usecases.lifecycle import fail_job, move_corpus
from service.usecases.naming import name_taken
from service.usecases.paging import check_limit, decode_cursor, page_of

__all__ = [
    "PreparationLease",
    "claim_preparation",
    "complete_preparation",
    "fail_corpus",
    "fail_preparation",
    "get_corpus",
    "list_corpora",
    "register_corpus",
    "release_preparation",
    "renew_preparation",
]


class PreparationLease(Record):
    """What a worker gets to prepare a corpus, and the attempt it must present."""

    corpus_id: str
    attempt: int
    spec: CorpusSpec
    lease_seconds: float


def register_corpus(
    session: Session,
    tenant_id: str,
    spec: CorpusSpec,
    *,
    idempotency: Idempotency | None = None,
) -> Corpus:
    """Register a corpus and ring for its preparation.

    Raises:
        ConflictError: If the name is taken (``details["id"]``, ``details["same_spec"]``).
        IdempotencyError: If the key was used for another request.
    """
    corpus_id = new_id()
    first = first_resource(session, tenant_id, "corpora.register", idempotency, corpus_id)
    if first is not None:
        return get_corpus(session, tenant_id, first)
    spec_hash = canonical_hash(spec)
    row = CorpusRow(
        id=corpus_id,
        tenant_id=tenant_id,
        name=spec.name,
        spec=document(spec),
        spec_hash=spec_hash,
    )
    savepoint = session.begin_nested()
    try:
        session.add(row)
        session.flush()
    except IntegrityError as error:
        savepoint.rollback()
        raise _name_taken(session, tenant_id, spec, spec_hash) from error
    savepoint.commit()
    enqueue(session, PREPARE, row.id)
    session.refresh(row)
    return corpus_record(row)


def _name_taken(
    session: Session, tenant_id: str, spec: CorpusSpec, spec_hash: str
) -> ConflictError:
    assert spec.name is not None, "the only unique constraint that can fail is the name's"
    return name_taken("corpus", corpora.find(session, tenant_id, spec.name), spec_hash)


def get_corpus(session: Session, tenant_id: str, reference: str) -> Corpus:
    """A corpus by id or name.

    Raises:
        NotFoundError: If the tenant has no such corpus.
    """
    row = corpora.find(session, tenant_id, reference)
    if row is None:
        raise NotFoundError(f"there is no corpus {reference!r}", corpus=reference)
    return corpus_record(row)


def list_corpora(
    session: Session, tenant_id: str, *, limit: int = 50, cursor: str | None = None
) -> Page[Corpus]:
    """Corpora, newest first.

    Raises:
        SpecError: If the limit or the cursor is wrong.
    """
    check_limit(limit)
    rows = corpora.page(session, tenant_id, decode_cursor(cursor, "corpora"), limit + 1)
    kept, following = page_of(rows, limit, "corpora", lambda row: row.id)
    return Page[Corpus](items=tuple(map(corpus_record, kept)), next_cursor=following)


# ------------------------------------------------------------------------------------------------
# Preparation


def claim_preparation(
    session: Session, corpus_id: str, worker: str, lease_seconds: float = 60
) -> PreparationLease | None:
    """Take a registered corpus to prepare it; None if there is nothing to take."""
    row = corpora.lock(session, corpus_id)
    if row is None or row.state != CorpusState.REGISTERED:
        return None
    move_corpus(
        session,
        row,
        CorpusState.PREPARING,
        attempt=row.attempt + 1,
        worker=worker,
        lease_until=func.now() + timedelta(seconds=lease_seconds),
        progress="starting",
    )
    return PreparationLease(
        corpus_id=row.id,
        attempt=row.attempt,
        spec=CorpusSpec.model_validate(row.spec),
        lease_seconds=lease_seconds,
    )


def renew_preparation(
    session: Session,
    corpus_id: str,
    attempt: int,
    message: str | None = None,
    lease_seconds: float = 60,
) -> bool:
    """Extend the lease and say in words what is going on; False if another attempt took over."""
    return corpora.renew(session, corpus_id, attempt, lease_seconds, message)


def complete_preparation(
    session: Session, corpus_id: str, attempt: int, manifest: CorpusManifest
) -> None:
    """The corpus is ready: jobs that wait for it begin. Saying it twice is saying it once.

    Raises:
        FencedError: If this attempt no longer holds the preparation.
    """
    row = corpora.lock(session, corpus_id)
    if row is not None and row.state == CorpusState.READY and row.attempt == attempt:
        return
    row = _require_held(row, corpus_id, attempt)
    move_corpus(
        session,
        row,
        CorpusState.READY,
        manifest=document(manifest),
        progress=None,
        worker=None,
        lease_until=None,
    )
    for job_id in corpora.waiting_jobs(session, row.id):
        enqueue(session, ADVANCE, job_id)


def fail_preparation(session: Session, corpus_id: str, attempt: int, problem: Problem) -> None:
    """The text cannot be used: the corpus fails, and with it the jobs that wait for it.

    Raises:
        FencedError: If this attempt no longer holds the preparation.
    """
    row = _require_held(corpora.lock(session, corpus_id), corpus_id, attempt)
    fail_corpus(session, row, problem)


def release_preparation(session: Session, corpus_id: str, attempt: int) -> None:
    """Give a preparation back unfinished, without counting it: the worker is going away.

    Raises:
        FencedError: If this attempt no longer holds the preparation.
    """
    row = _require_held(corpora.lock(session, corpus_id), corpus_id, attempt)
    move_corpus(session, row, CorpusState.REGISTERED, worker=None, lease_until=None, progress=None)
    enqueue(session, PREPARE, row.id)


def fail_corpus(session: Session, row: CorpusRow, problem: Problem) -> None:
    """Fail a locked corpus and the jobs that wait for it."""
    move_corpus(
        session,
        row,
        CorpusState.FAILED,
        error=document(problem),
        progress=None,
        worker=None,
        lease_until=None,
    )
    for job_id in corpora.waiting_jobs(session, row.id):
        job = jobs.lock(session, job_id)
        if job is not None and job.state in (
            JobState.ACCEPTED,
            JobState.RUNNING,
            JobState.PAUSING,
        ):
            fail_job(session, job, corpus_problem(row))


def corpus_problem(row: CorpusRow) -> Problem:
    """What a job says that failed with its corpus."""
    cause = Problem.model_validate(row.error)
    return Problem(
        code=cause.code,
        message=f"its corpus {row.name or row.id} failed: {cause.message}",
        details={**cause.details, "corpus_id": row.id},
    )


def _require_held(row: CorpusRow | None, corpus_id: str, attempt: int) -> CorpusRow:
    if row is None or row.state != CorpusState.PREPARING or row.attempt != attempt:
        _fence(corpus_id, attempt)
    return row


def _fence(corpus_id: str, attempt: int) -> NoReturn:
    raise FencedError(
        f"attempt {attempt} no longer holds the preparation of corpus {corpus_id}: it ended, or "
        "went to another worker; stop the work and write nothing",
        corpus_id=corpus_id,
        attempt=attempt,
    )
