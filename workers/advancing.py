"""The next decision of a job: claim it, let the engine compute, write the outcome.

Two short transactions around a computation that is in neither. The engine is pure: what it is
given is what ``begin`` read, and a decision lost on the way is computed again by somebody else.
"""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable

import structlog
from sqlalchemy.orm import Session

import cuvee
from cuvee.errors import CuveeError, FencedError
from cuvee.records import Problem
from service.observability import log_context
from service.usecases import advance
from service.usecases.advance import Decision
from workers.renewal import renewing
from workers.runtime import Runtime

__all__ = ["advance_job"]

_log = structlog.get_logger(__name__)

Write = Callable[[Session], object]


def advance_job(rt: Runtime, job_id: str) -> bool:
    """Take the next decision of a job; False if there is none to take now."""
    with rt.work() as session:
        decision = advance.begin(
            session, job_id, rt.worker, claim_seconds=rt.settings.lease_seconds
        )
    if decision is None:
        return False
    with log_context(job_id=job_id):
        try:
            with _kept(rt, decision):
                write = _decide(decision)
        except CuveeError as error:
            write = _failure(decision, error.code, error.message)
        except Exception as error:
            # The engine is deterministic: what it could not do now it cannot do later.
            _log.exception("engine.failed")
            write = _failure(decision, "engine_failed", f"{type(error).__name__}: {error}")
        try:
            _write(rt, decision, write)
        except FencedError as error:
            _log.warning("decision.superseded", reason=str(error))
    return True


def _write(rt: Runtime, decision: Decision, write: Write) -> None:
    """Write the outcome; one that the store refuses would be refused again, so the job fails."""
    try:
        with rt.work() as session:
            write(session)
    except (CuveeError, ValueError) as error:
        if isinstance(error, FencedError):
            raise
        _log.exception("decision.refused")
        failure = _failure(decision, "engine_failed", f"the outcome was refused: {error}")
        with rt.work() as session:
            failure(session)


def _decide(decision: Decision) -> Write:
    """Let the engine compute; returns what to write."""
    import torch  # and scipy: not for workers that only train

    from cuvee import engine
    from cuvee.engine.evidence import doctor

    # Small matrices, beside trainings that have the processors: a second thread mostly waits.
    torch.set_num_threads(1)
    job, token = decision.job_id, decision.token
    problem, history, seed = decision.problem, decision.history, decision.seed
    version = cuvee.__version__
    if decision.phase == "reporting":
        recommendation = decision.recommendation or engine.recommend(problem, history, seed)
        report = engine.build_report(
            problem,
            history,
            recommendation,
            job_id=job,
            name=decision.name,
            corpus_digest=decision.corpus_digest,
            stop_reason=decision.stop_reason,
            created_at=decision.now,
            seed=seed,
        )
        return lambda session: advance.finish(session, job, token, report)
    diagnosis = None
    if not decision.diagnosed and (decision.stop or doctor.ready(problem, history)):
        diagnosis = doctor.diagnose(problem, history)
    stop = decision.stop or engine.should_stop(problem, history)
    if stop.stop:
        recommendation = engine.recommend(problem, history, seed)
        proposals = engine.plan_verification(problem, recommendation, seed)
        return lambda session: advance.start_verification(
            session,
            job,
            token,
            recommendation,
            proposals,
            stop.reason,
            diagnosis=diagnosis,
            engine_version=version,
        )
    proposals = engine.propose(problem, history, seed, decision.count)
    return lambda session: advance.complete_proposals(
        session,
        job,
        token,
        proposals,
        decision.digest,
        diagnosis=diagnosis,
        engine_version=version,
    )


def _failure(decision: Decision, code: str, message: str) -> Write:
    problem = Problem(
        code=code, message=message, details={"traceback": traceback.format_exc()[-8192:]}
    )
    return functools.partial(
        advance.fail_advance, job_id=decision.job_id, token=decision.token, problem=problem
    )


def _kept(rt: Runtime, decision: Decision) -> contextlib.AbstractContextManager[None]:
    """Renew the claim while the engine computes."""

    def renew() -> None:
        with rt.work() as session:
            advance.renew_claim(session, decision.job_id, decision.token, rt.settings.lease_seconds)

    return renewing(rt.settings.renew_seconds, renew)
