"""The two short transactions around a decision of the engine.

``begin`` reads a job's history and claims the decision; the engine computes outside of any
transaction; one of ``complete_proposals``, ``start_verification``, ``finish`` and ``fail_advance``
writes the outcome under the claim's token. At most one claim is open per job, so no two decisions
are ever made from one state, and a claim that is not kept in time is dropped by the sweep.

The phases of a job are searching, verifying, reporting::

    searching ── the engine stops, or time is up ──► verifying ── all runs over ──► reporting
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from cuvee.answer import Diagnosis, Recommendation, Report
from cuvee.errors import ConflictError, FencedError, SpecError
from cuvee.records import CorpusManifest, History, Problem, Proposal, SearchProblem, StopDecision
from cuvee.spec import JobSpec, Record
from cuvee.states import CorpusState, JobState
from service.db.mapping import document, job_spec
from service.db.models import AdvanceClaimRow, CorpusRow, JobRow, new_id
from service.db.repositories import histories, jobs, runs
from service.queue import ADVANCE, enqueue
from service.usecases.corpora import corpus_problem
from service.usecases.lifecycle import cancel_runs, fail_job, move_job, ring_runs
from service.usecases.progress import seconds_to_verify
from service.usecases.proposals import insert_runs

__all__ = [
    "Decision",
    "begin",
    "complete_proposals",
    "fail_advance",
    "finish",
    "history_digest",
    "renew_claim",
    "start_verification",
]

CLAIM_SECONDS = 120.0
"""How long a decision may take without a renewal. The largest histories take seconds."""


class Decision(Record):
    """A claim on a job's next decision, and everything the engine needs to take it.

    In phase ``searching``: if ``stop`` is set, or the engine's own rule says stop, recommend and
    call ``start_verification``; else propose ``count`` runs and call ``complete_proposals``. In
    phase ``reporting``: build the report from ``recommendation`` and call ``finish``. Until the
    job is ``diagnosed``, either call in phase ``searching`` takes the doctor's findings along once
    the anchors have run.
    """

    job_id: str
    token: str
    phase: Literal["searching", "reporting"]
    problem: SearchProblem
    history: History
    digest: str
    count: int
    seed: int
    stop: StopDecision | None
    diagnosed: bool
    recommendation: Recommendation | None
    name: str | None
    corpus_digest: str
    stop_reason: str
    now: datetime


# ------------------------------------------------------------------------------------------------
# Before the engine


def begin(
    session: Session, job_id: str, worker: str, *, claim_seconds: float = CLAIM_SECONDS
) -> Decision | None:
    """Claim a job's next decision; None if there is none to take now.

    Also the moment a job whose corpus has become ready starts to search, or fails because its
    corpus contradicts it.
    """
    job = jobs.lock(session, job_id)
    if job is None or job.state not in (JobState.ACCEPTED, JobState.RUNNING):
        return None
    corpus = session.get_one(CorpusRow, job.corpus_id, populate_existing=True)
    if corpus.state == CorpusState.FAILED:
        fail_job(session, job, corpus_problem(corpus))
        return None
    if corpus.state != CorpusState.READY or jobs.claim(session, job.id) is not None:
        return None
    manifest = CorpusManifest.model_validate(corpus.manifest)
    spec = job_spec(job)
    problem = _activated(session, job, spec, manifest)
    if problem is None:
        return None
    step = _next_step(session, job, spec)
    if step is None:
        return None
    phase, count, stop = step
    history = histories.history_of(session, job)
    digest = history_digest(history)
    if phase == "searching" and stop is None and job.settled_digest == digest:
        return None
    seed = _seed(job)
    token = new_id()
    session.add(
        AdvanceClaimRow(
            job_id=job.id,
            token=token,
            worker=worker,
            expires_at=func.now() + timedelta(seconds=claim_seconds),
            high_water=job.next_event_seq - 1,
            digest=digest,
            pending=[run.run_id for run in history.pending],
            seed=seed,
        )
    )
    stored = jobs.report(session, job.id)
    recommendation = None if stored is None else stored.recommendation
    return Decision(
        job_id=job.id,
        token=token,
        phase=phase,
        problem=problem,
        history=history,
        digest=digest,
        count=count,
        seed=seed,
        stop=stop,
        diagnosed=jobs.diagnosis(session, job.id) is not None,
        recommendation=None
        if recommendation is None
        else Recommendation.model_validate(recommendation),
        name=job.name,
        corpus_digest=manifest.digest,
        stop_reason=job.stop_reason or "",
        now=jobs.now(session),
    )


def _activated(
    session: Session, job: JobRow, spec: JobSpec, manifest: CorpusManifest
) -> SearchProblem | None:
    """The problem; on first sight of the census, fix the job's vector orders or fail it."""
    try:
        problem = SearchProblem.build(spec, manifest)
    except SpecError as error:
        said = Problem(code=error.code, message=error.message, details=dict(error.details))
        fail_job(session, job, said)
        return None
    if job.domains is None:
        job.domains = list(problem.names)
        job.eval_sets = list(problem.eval_sets)
        job.weights = list(problem.weights)
        job.runs_planned = problem.planned_runs
    if job.state == JobState.ACCEPTED:
        move_job(session, job, JobState.RUNNING, payload={"phase": job.phase})
    session.flush()
    return problem


def _next_step(
    session: Session, job: JobRow, spec: JobSpec
) -> tuple[Literal["searching", "reporting"], int, StopDecision | None] | None:
    """Phase, number of runs there is room for, and a stop that the engine has no say in."""
    if job.phase == "searching":
        if job.stop_reason is None and _time_is_up(session, job, spec):
            job.stop_reason = f"the time budget of {spec.budget.max_seconds:g} s is used up"
            _cancel_waiting(session, job)
        active = runs.in_flight(session, job.id)
        if job.stop_reason is not None:
            # What is running was paid for: the recommendation waits for it and uses it.
            stop = StopDecision(stop=True, reason=job.stop_reason)
            return None if active else ("searching", 0, stop)
        room = job.concurrency - active
        return ("searching", room, None) if room > 0 else None
    if runs.in_flight(session, job.id):
        return None
    if job.phase == "verifying":
        _enter(session, job, "reporting")
    return "reporting", 0, None


def _time_is_up(session: Session, job: JobRow, spec: JobSpec) -> bool:
    """Whether what is left of the time budget is needed for the verification."""
    if job.deadline_at is None:
        return False
    left = (job.deadline_at - jobs.now(session)).total_seconds()
    return left <= seconds_to_verify(session, job, spec)


def _cancel_waiting(session: Session, job: JobRow) -> None:
    cancel_runs(session, job, held=False)
    session.flush()


def _enter(session: Session, job: JobRow, phase: str, **facts: object) -> None:
    job.phase = phase
    payload = {"phase": phase, "stop_reason": job.stop_reason, **facts}
    jobs.append_event(session, job, "job.phase", payload)


def _seed(job: JobRow) -> int:
    """A seed of its own for each decision, a function of the job's seed and its proposals."""
    text = f"{job.seed}:{job.phase}:{job.next_proposal}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) & 0x7FFFFFFF


def history_digest(history: History) -> str:
    """Which runs a decision saw, and in which role; measurements never change once made."""
    parts = [
        ",".join(sorted(run.run_id for run in group))
        for group in (history.observations, history.pending, history.failed)
    ]
    if history.earlier:
        parts.append(",".join(sorted(run.run_id for run in history.earlier)))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def renew_claim(
    session: Session, job_id: str, token: str, claim_seconds: float = CLAIM_SECONDS
) -> bool:
    """Keep the claim of a decision that takes long; False if it was lost."""
    renewed = session.scalar(
        update(AdvanceClaimRow)
        .where(AdvanceClaimRow.job_id == job_id, AdvanceClaimRow.token == token)
        .values(expires_at=func.now() + timedelta(seconds=claim_seconds))
        .returning(AdvanceClaimRow.job_id),
        execution_options={"synchronize_session": False},
    )
    return renewed is not None


# ------------------------------------------------------------------------------------------------
# After the engine


def complete_proposals(
    session: Session,
    job_id: str,
    token: str,
    proposals: Sequence[Proposal],
    observation_digest: str,
    *,
    diagnosis: Diagnosis | None = None,
    engine_version: str = "",
) -> tuple[str, ...]:
    """Store what the engine proposed, and found out, and queue the runs; returns their ids.

    No proposals means that the engine waits for runs in flight. With none in flight nothing could
    ever change its answer, so the job fails.

    Raises:
        FencedError: If the claim was lost.
        ConflictError: If the digest is not that of the history the claim was given for.
    """
    job, claim = _claimed(session, job_id, token)
    if observation_digest != claim.digest:
        raise ConflictError(
            f"the proposals for job {job_id} were computed from history "
            f"{observation_digest[:12]}, but the claim was for {claim.digest[:12]}",
            job_id=job_id,
        )
    job.settled_digest = None if proposals else claim.digest
    job.advance_losses = 0
    _diagnosed(session, job, diagnosis)
    if not proposals and not runs.in_flight(session, job.id):
        said = "the engine proposed nothing, did not stop, and no run is in flight"
        fail_job(session, job, Problem(code="engine_failed", message=said))
        return ()
    made = insert_runs(session, job, claim, proposals, engine_version)
    _close_claim(session, job)
    return made


def start_verification(
    session: Session,
    job_id: str,
    token: str,
    recommendation: Recommendation,
    proposals: Sequence[Proposal],
    stop_reason: str,
    *,
    diagnosis: Diagnosis | None = None,
    engine_version: str = "",
) -> bool:
    """End the search: store the recommendation and queue the verification.

    While runs of the search are still in flight, only the end of the search is recorded: when they
    are over, ``begin`` asks again, with ``stop`` set and their results in the history.

    Returns:
        Whether the recommendation was taken.

    Raises:
        FencedError: If the claim was lost.
    """
    job, claim = _claimed(session, job_id, token)
    job.stop_reason = job.stop_reason or stop_reason
    job.advance_losses = 0
    _diagnosed(session, job, diagnosis)
    if runs.in_flight(session, job.id):
        _close_claim(session, job)
        return False
    jobs.save_report(session, job, recommendation=document(recommendation))
    late = job.deadline_at is not None and job.deadline_at <= jobs.now(session)
    if proposals and not late:
        # Before the pairs are paid for: who watches can still cancel what would show too little.
        _enter(session, job, "verifying", plan=[document(one) for one in recommendation.plan])
        insert_runs(session, job, claim, proposals, engine_version)
    else:
        _enter(session, job, "reporting")
    job.runs_planned = runs.worth(session, job.id)
    _close_claim(session, job)
    return True


def _diagnosed(session: Session, job: JobRow, diagnosis: Diagnosis | None) -> None:
    """Store the doctor's findings on a locked job, and tell those who watch it."""
    if diagnosis is None:
        return
    job.diagnosis = document(diagnosis)
    facts = {
        "anchors": diagnosis.anchors,
        "repeats": diagnosis.repeats,
        "warnings": list(diagnosis.warnings),
    }
    jobs.append_event(session, job, "job.diagnosed", facts)


def finish(session: Session, job_id: str, token: str, report: Report) -> None:
    """Store the report; the job has succeeded.

    Raises:
        FencedError: If the claim was lost.
    """
    job, _ = _claimed(session, job_id, token)
    cancel_runs(session, job)
    jobs.save_report(session, job, body=document(report))
    jobs.drop_claim(session, job.id)
    move_job(
        session,
        job,
        JobState.SUCCEEDED,
        payload={"verdict": report.verdict, "stop_reason": report.stop_reason},
        stop_reason=job.stop_reason or report.stop_reason,
    )


def fail_advance(session: Session, job_id: str, token: str, problem: Problem) -> None:
    """The engine cannot answer: the same history would fail again, so the job fails.

    Raises:
        FencedError: If the claim was lost.
    """
    job, _ = _claimed(session, job_id, token)
    fail_job(session, job, problem)


def _claimed(session: Session, job_id: str, token: str) -> tuple[JobRow, AdvanceClaimRow]:
    job = jobs.lock(session, job_id)
    claim = None if job is None else jobs.claim(session, job.id)
    if job is None or claim is None or claim.token != token or job.state != JobState.RUNNING:
        raise FencedError(
            f"the claim on the next decision of job {job_id} was lost: the job was paused or "
            "ended, or the decision took too long; drop the result",
            job_id=job_id,
        )
    return job, claim


def _close_claim(session: Session, job: JobRow) -> None:
    """Drop the claim, and ring again if there is more to decide already."""
    jobs.drop_claim(session, job.id)
    session.flush()
    active = runs.in_flight(session, job.id)
    searching = job.phase == "searching" and job.settled_digest is None
    if active == 0 or (searching and active < job.concurrency):
        enqueue(session, ADVANCE, job.id)
    ring_runs(session, job)
