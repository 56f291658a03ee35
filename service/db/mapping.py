"""Rows to records and back: the only place that knows how records lie in columns."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from cuvee.answer import Diagnosis
from cuvee.mixture import Mixture
from cuvee.records import (
    Corpus,
    CorpusManifest,
    EarlierRun,
    EvalLoss,
    Event,
    Explanation,
    Job,
    JobProgress,
    LossPoint,
    Observation,
    PendingRun,
    Problem,
    Purpose,
    Run,
)
from cuvee.spec import CorpusSpec, JobSpec, Rung
from cuvee.states import CorpusState, JobState, RunState
from service.db.models import (
    CorpusRow,
    EvalPointRow,
    EventRow,
    JobRow,
    ObservationRow,
    RunLeaseRow,
    RunRow,
)

__all__ = [
    "Arrays",
    "canonical_hash",
    "corpus_record",
    "document",
    "earlier_record",
    "event_record",
    "is_id",
    "is_text",
    "job_record",
    "job_spec",
    "losses_of",
    "mixture_of",
    "observation_record",
    "pending_record",
    "point_record",
    "run_record",
    "to_arrays",
]

Arrays = Mapping[str, list[Any]]
"""Columns ``nats``, ``nats_se``, ``tokens``, ``bytes``, each in the job's evaluation-set order."""

_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_PURPOSE: TypeAdapter[Purpose] = TypeAdapter(Purpose)


def is_id(text: str) -> bool:
    """Whether a reference can be an id; else it can only be a name."""
    return _UUID.match(text) is not None


def is_text(text: str) -> bool:
    """Whether PostgreSQL can hold it: its text has no NUL."""
    return "\x00" not in text


def document(record: BaseModel) -> dict[str, Any]:
    """A record as JSON values, in the order of its fields."""
    dumped: dict[str, Any] = record.model_dump(mode="json")
    return dumped


def canonical_hash(record: BaseModel) -> str:
    """A hash equal for equal records, whatever the order of their keys."""
    text = json.dumps(document(record), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def to_arrays(losses: Mapping[str, EvalLoss], eval_sets: Sequence[str]) -> Arrays:
    """Losses as columns; every evaluation set must be there."""
    ordered = [losses[name] for name in eval_sets]
    return {
        "nats": [loss.nats for loss in ordered],
        "nats_se": [loss.nats_se for loss in ordered],
        "tokens": [loss.tokens for loss in ordered],
        "bytes": [loss.bytes for loss in ordered],
    }


def losses_of(row: ObservationRow | EvalPointRow, eval_sets: Sequence[str]) -> dict[str, EvalLoss]:
    return {
        name: EvalLoss(nats=nats, nats_se=se, tokens=tokens, bytes=size)
        for name, nats, se, tokens, size in zip(
            eval_sets, row.nats, row.nats_se, row.tokens, row.bytes, strict=True
        )
    }


def mixture_of(run: RunRow, domains: Sequence[str]) -> Mixture:
    """A run's mixture exactly as it was proposed: it is not normalised a second time."""
    return Mixture.model_construct(dict(zip(domains, run.shares, strict=True)))


def job_spec(job: JobRow) -> JobSpec:
    return JobSpec.model_validate(job.spec)


def corpus_record(row: CorpusRow) -> Corpus:
    return Corpus(
        id=row.id,
        name=row.name,
        state=CorpusState(row.state),
        spec=CorpusSpec.model_validate(row.spec),
        manifest=None if row.manifest is None else CorpusManifest.model_validate(row.manifest),
        progress=row.progress,
        error=_problem(row.error),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def job_record(row: JobRow, progress: JobProgress, diagnosis: dict[str, Any] | None = None) -> Job:
    """A job as the API shows it; ``diagnosis`` only when one job is read."""
    return Job(
        id=row.id,
        name=row.name,
        state=JobState(row.state),
        spec=job_spec(row),
        corpus_id=row.corpus_id,
        progress=progress,
        stop_reason=row.stop_reason,
        diagnosis=None if diagnosis is None else Diagnosis.model_validate(diagnosis),
        error=_problem(row.error),
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        version=row.version,
    )


def run_record(
    run: RunRow,
    job: JobRow,
    observation: ObservationRow | None,
    lease: RunLeaseRow | None,
    explanation: dict[str, Any] | None,
    curve: tuple[LossPoint, ...] | None = None,
) -> Run:
    """A run as the API shows it; ``curve`` only when one run is read."""
    state = RunState(run.state)
    return Run(
        id=run.id,
        job_id=run.job_id,
        rung=run.rung,
        kind=run.kind,
        purpose=_PURPOSE.validate_python(run.purpose),
        label=run.label,
        state=state,
        mixture=mixture_of(run, job.domains or []),
        seed=run.seed,
        attempt=run.attempt,
        reason=run.reason,
        explanation=None if explanation is None else Explanation.model_validate(explanation),
        progress=1.0 if state is RunState.SUCCEEDED else lease.progress if lease else None,
        objective=None if observation is None else observation.objective,
        losses=None if observation is None else losses_of(observation, job.eval_sets or []),
        curve=curve,
        train_tokens=None if observation is None else observation.train_tokens,
        seconds=None if observation is None else observation.seconds,
        error=_problem(run.error),
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )


def point_record(row: EvalPointRow, eval_sets: Sequence[str]) -> LossPoint:
    return LossPoint(
        step=row.step,
        tokens=row.train_tokens,
        train_loss=row.train_loss,
        losses=losses_of(row, eval_sets),
    )


def observation_record(run: RunRow, row: ObservationRow, job: JobRow) -> Observation:
    return Observation(
        run_id=run.id,
        rung=run.rung,
        mixture=mixture_of(run, job.domains or []),
        seed=run.seed,
        losses=losses_of(row, job.eval_sets or []),
        train_tokens=row.train_tokens,
        seconds=row.seconds,
        purpose=_PURPOSE.validate_python(run.purpose),
        label=run.label,
    )


def earlier_record(
    run: RunRow, row: ObservationRow, job: JobRow, rung: Rung, *, same_corpus: bool
) -> EarlierRun:
    """A measured run of another job, as that job's successors see it."""
    return EarlierRun(
        source=job.id,
        run_id=run.id,
        rung=rung,
        same_corpus=same_corpus,
        mixture=mixture_of(run, job.domains or []),
        seed=run.seed,
        losses=losses_of(row, job.eval_sets or []),
    )


def pending_record(run: RunRow, job: JobRow) -> PendingRun:
    return PendingRun(
        run_id=run.id,
        rung=run.rung,
        mixture=mixture_of(run, job.domains or []),
        seed=run.seed,
        purpose=_PURPOSE.validate_python(run.purpose),
        label=run.label,
    )


def event_record(row: EventRow, job_id: str) -> Event:
    return Event(
        job_id=job_id,
        seq=row.seq,
        type=row.type,
        payload=row.payload,
        created_at=row.created_at,
    )


def _problem(value: dict[str, Any] | None) -> Problem | None:
    return None if value is None else Problem.model_validate(value)
