"""What the engine may look at when it decides: a job's runs, and those of the jobs before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cuvee.records import EarlierRun, History, Observation, PendingRun
from cuvee.states import RunState
from service.db.mapping import earlier_record, job_spec, observation_record, pending_record
from service.db.models import CorpusRow, JobRow, ObservationRow, RunRow

__all__ = ["MOST_EARLIER", "history_of"]

MOST_EARLIER = 1_000
"""Runs of earlier jobs that are read, the newest; more would slow each decision."""


def history_of(session: Session, job: JobRow) -> History:
    """Everything the engine may look at, oldest run first."""
    rows: Iterable[tuple[RunRow, ObservationRow | None]] = session.execute(
        select(RunRow, ObservationRow)
        .outerjoin(ObservationRow, ObservationRow.run_seq == RunRow.run_seq)
        .where(RunRow.job_id == job.id, RunRow.state != RunState.CANCELLED)
        .order_by(RunRow.run_seq)
    )
    observations: list[Observation] = []
    pending: list[PendingRun] = []
    failed: list[PendingRun] = []
    for run, measured in rows:
        if measured is not None:
            observations.append(observation_record(run, measured, job))
        elif run.state == RunState.FAILED:
            failed.append(pending_record(run, job))
        else:
            pending.append(pending_record(run, job))
    found, left_out = _earlier(session, job)
    return History(
        earlier=found,
        left_out=left_out,
        observations=tuple(observations),
        pending=tuple(pending),
        failed=tuple(failed),
    )


def _earlier(session: Session, job: JobRow) -> tuple[tuple[EarlierRun, ...], dict[str, int]]:
    """Measured runs of the jobs that a job starts warm from; by source, how many more there are."""
    if not job.warm_start:
        return (), {}
    sources = {
        row.id: row
        for row in session.scalars(
            select(JobRow).where(JobRow.tenant_id == job.tenant_id, JobRow.id.in_(job.warm_start))
        )
    }
    digests = {
        row.id: row.digest
        for row in session.execute(
            select(CorpusRow.id, CorpusRow.manifest["digest"].as_string().label("digest")).where(
                CorpusRow.id.in_({job.corpus_id, *(row.corpus_id for row in sources.values())})
            )
        )
    }
    same = {s: digests[row.corpus_id] == digests[job.corpus_id] for s, row in sources.items()}
    rungs = {s: job_spec(row).rungs for s, row in sources.items()}
    rows = session.execute(
        select(RunRow, ObservationRow)
        .join(ObservationRow, ObservationRow.run_seq == RunRow.run_seq)
        .where(RunRow.job_id.in_(sources))
        .order_by(RunRow.run_seq.desc())
        .limit(MOST_EARLIER)
    )
    found = tuple(
        earlier_record(
            run,
            measured,
            sources[run.job_id],
            rungs[run.job_id][run.rung],
            same_corpus=same[run.job_id],
        )
        for run, measured in rows
    )
    counts = session.execute(
        select(ObservationRow.job_id, func.count())
        .where(ObservationRow.job_id.in_(sources))
        .group_by(ObservationRow.job_id)
    )
    read = Counter(run.source for run in found)
    return found, {s: n - read[s] for s, n in counts if n > read[s]}
