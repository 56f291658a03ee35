"""Doing what was claimed: runs and preparations, from the lease to its last write.

A message says only that there may be work. What is done is what Postgres grants.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import structlog

from cuvee.errors import CuveeError, FencedError
from cuvee.records import CorpusManifest, EvalLoss, LossPoint, Problem
from cuvee.spec import Constraints, NgramRung
from service.observability import log_context
from service.queue import CPU
from service.usecases import corpora, runs
from workers.renewal import renewing
from workers.runtime import Runtime
from workers.supervisor import Failed, Finished, Lost, Outcome, Stopped, supervise

__all__ = ["execute_runs", "prepare"]

_log = structlog.get_logger(__name__)


def execute_runs(rt: Runtime, pool: str) -> int:
    """Claim and execute runs of a pool until none is left; returns how many were claimed.

    Taking more than the message announced makes up for messages that were lost.
    """
    claimed = 0
    while not rt.draining.is_set():
        asked = time.monotonic()
        with rt.work() as session:
            lease = runs.claim_run(session, pool, rt.worker, rt.settings.lease_seconds)
        if lease is None:
            break
        claimed += 1
        with log_context(job_id=lease.job_id, run_id=lease.run_id, attempt=lease.attempt), _fence():
            if isinstance(lease.rung, NgramRung):
                _count_ngrams(rt, lease, lease.rung)
            else:
                _train(rt, pool, lease, asked)
    return claimed


@contextlib.contextmanager
def _fence() -> Iterator[None]:
    """A superseded attempt has nothing left to say; whoever holds the run now goes on."""
    try:
        yield
    except FencedError as error:
        _log.warning("attempt.superseded", reason=str(error))


# ------------------------------------------------------------------------------------------------
# n-gram runs: milliseconds, in this process


def _count_ngrams(rt: Runtime, lease: runs.RunLease, rung: NgramRung) -> None:
    from cuvee.proxy.ngram import ngram_losses

    held = _HeldRun(rt, lease)
    began = time.monotonic()
    try:
        # The first run on a corpus counts its text, which takes longer than a lease on a large one.
        with renewing(rt.settings.renew_seconds, lambda: held.renew(None, "")):
            losses = ngram_losses(rung, rt.corpus(lease.corpus_digest), lease.mixture, lease.seed)
    except Exception as error:
        _log.exception("run.failed")
        _fail(rt, lease, _kind(error), _problem(error))
        return
    with rt.work() as session:
        # An n-gram model reads bytes: they are its tokens.
        seconds = time.monotonic() - began
        runs.observe(session, lease.run_id, lease.attempt, losses, rung.train_bytes, seconds)


# ------------------------------------------------------------------------------------------------
# Proxy runs: in a child process under this supervisor


class _HeldRun:
    """The lease of a run, as a supervisor sees it."""

    def __init__(self, rt: Runtime, lease: runs.RunLease) -> None:
        self._rt, self._lease = rt, lease

    def renew(self, share: float | None, message: str) -> Literal["continue", "stop"]:
        with self._rt.work() as session:
            return runs.renew_run(session, self._lease.run_id, self._lease.attempt, share)

    def point(self, point: LossPoint) -> None:
        with self._rt.work() as session:
            runs.append_point(session, self._lease.run_id, self._lease.attempt, point)


def _constraints(lease: runs.RunLease) -> Constraints:
    """References are trained as they are: what a team uses today may repeat more than we allow."""
    reference = lease.label in ("baseline", "natural", "uniform")
    return lease.constraints.without_caps() if reference else lease.constraints


def _train(rt: Runtime, pool: str, lease: runs.RunLease, asked: float) -> None:
    folder = rt.settings.runs_dir.resolve() / lease.run_id
    with rt.work() as session:
        runs.start_run(session, lease.run_id, lease.attempt)
    assignment = {
        "entry": "workers.trainer:train_proxy",
        "log": str(folder / f"attempt-{lease.attempt:04d}.log"),
        "threads": rt.settings.threads,
        "device": rt.settings.device,
        "rung": lease.rung.model_dump(mode="json"),
        "mixture": lease.mixture.model_dump(mode="json"),
        "seed": lease.seed,
        "constraints": _constraints(lease).model_dump(mode="json"),
        "corpora": str(rt.settings.corpora_dir.resolve()),
        "corpus_digest": lease.corpus_digest,
        "folder": str(folder),
        "attempt": lease.attempt,
    }
    outcome = supervise(
        rt.nursery(pool), assignment, _HeldRun(rt, lease), rt.timing,
        leased_at=asked, draining=rt.draining,
    )  # fmt: skip
    _conclude(rt, lease, outcome, folder)


def _conclude(rt: Runtime, lease: runs.RunLease, outcome: Outcome, folder: Path) -> None:
    _log.info("run.ended", outcome=type(outcome).__name__)
    match outcome:
        case Finished(result):
            losses = {n: EvalLoss.model_validate(v) for n, v in result["losses"].items()}
            try:
                with rt.work() as session:
                    runs.observe(
                        session, lease.run_id, lease.attempt, losses,
                        result["train_tokens"], result["seconds"],
                    )  # fmt: skip
            except CuveeError as error:
                if isinstance(error, FencedError):
                    raise
                _fail(rt, lease, "user", _problem(error))
                return
            shutil.rmtree(folder, ignore_errors=True)  # nothing will resume from it
        case Stopped():
            with rt.work() as session:
                runs.release_run(session, lease.run_id, lease.attempt)
        case Failed(kind, problem):
            _fail(rt, lease, kind, problem)
        case Lost():
            pass


def _fail(
    rt: Runtime, lease: runs.RunLease, kind: Literal["user", "infrastructure"], problem: Problem
) -> None:
    with rt.work() as session:
        runs.fail_run(
            session, lease.run_id, lease.attempt, kind, problem,
            max_attempts=rt.settings.max_attempts,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------
# Preparations: in a child process too, they may take hours


class _HeldPreparation:
    def __init__(self, rt: Runtime, lease: corpora.PreparationLease) -> None:
        self._rt, self._lease = rt, lease

    def renew(self, share: float | None, message: str) -> Literal["continue", "stop"]:
        self.say(message or None, self._rt.settings.lease_seconds)
        return "continue"

    def say(self, message: str | None, seconds: float) -> None:
        """Renew for so many seconds, and tell in words how far it is."""
        with self._rt.work() as session:
            held = corpora.renew_preparation(
                session, self._lease.corpus_id, self._lease.attempt, message, seconds
            )
        if not held:
            raise FencedError("another attempt prepares this corpus")

    def point(self, point: LossPoint) -> None:
        raise AssertionError("a preparation has no loss curve")


def prepare(rt: Runtime, corpus_id: str) -> bool:
    """Prepare a corpus unless it is done or somebody does it; True if this call held it."""
    asked = time.monotonic()
    with rt.work() as session:
        lease = corpora.claim_preparation(session, corpus_id, rt.worker, rt.settings.lease_seconds)
    if lease is None:
        return False
    logs = rt.settings.corpora_dir.resolve() / ".logs"
    assignment = {
        "entry": "workers.trainer:prepare_corpus",
        "log": str(logs / f"{corpus_id}-{lease.attempt:04d}.log"),
        "threads": rt.settings.threads,
        "spec": lease.spec.model_dump(mode="json"),
        "corpora": str(rt.settings.corpora_dir.resolve()),
        "data_roots": rt.settings.readable_roots,
    }
    held = _HeldPreparation(rt, lease)
    with log_context(corpus_id=corpus_id, attempt=lease.attempt), _fence():
        outcome = supervise(
            rt.nursery(CPU), assignment, held, rt.timing, leased_at=asked, draining=rt.draining
        )
        _log.info("preparation.ended", outcome=type(outcome).__name__)
        _conclude_preparation(rt, lease, held, outcome)
    return True


def _conclude_preparation(
    rt: Runtime, lease: corpora.PreparationLease, held: _HeldPreparation, outcome: Outcome
) -> None:
    match outcome:
        case Finished(result):
            manifest = CorpusManifest.model_validate(result["manifest"])
            with rt.work() as session:
                corpora.complete_preparation(session, lease.corpus_id, lease.attempt, manifest)
        case Failed("user", problem):
            with rt.work() as session:
                corpora.fail_preparation(session, lease.corpus_id, lease.attempt, problem)
        case Failed(_, problem):
            # The lease ends now; the sweep counts the loss and lets it be tried again.
            held.say(f"interrupted: {problem.message}", 0.0)
        case Stopped():
            with rt.work() as session:
                corpora.release_preparation(session, lease.corpus_id, lease.attempt)
        case Lost():
            pass


# ------------------------------------------------------------------------------------------------


def _kind(error: Exception) -> Literal["user", "infrastructure"]:
    return "user" if isinstance(error, CuveeError) else "infrastructure"


def _problem(error: Exception) -> Problem:
    if isinstance(error, CuveeError):
        details: dict[str, Any] = {k: v for k, v in error.details.items() if _is_plain(v)}
        return Problem(code=error.code, message=error.message, details=details)
    return Problem(
        code="error",
        message=f"{type(error).__name__}: {error}",
        details={"log": traceback.format_exc()[-16_384:]},
    )


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | list | dict) or value is None
