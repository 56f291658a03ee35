"""Summaries of runs for many jobs at once, computed on read: no shared row to fight over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from cuvee.states import RunState
from service.db.models import CorpusRow, JobRow, ObservationRow, RunRow

__all__ = ["Best", "RungTime", "baselines", "best_runs", "corpora_of", "counts", "rung_times"]


@dataclass(frozen=True, slots=True)
class Best:
    """The best measured run of a job at its target rung, in bits per byte."""

    run_id: str
    objective: float


@dataclass(frozen=True, slots=True)
class RungTime:
    """Runs of one rung that succeeded: how many, seconds they took together, and when."""

    rung: int
    runs: int
    seconds: float
    began: datetime
    ended: datetime


def counts(session: Session, job_ids: Sequence[str]) -> dict[str, dict[tuple[str, int, str], int]]:
    """By job, the number of runs by ``(purpose, rung, state)``."""
    found: dict[str, dict[tuple[str, int, str], int]] = {job_id: {} for job_id in job_ids}
    rows = session.execute(
        select(RunRow.job_id, RunRow.purpose, RunRow.rung, RunRow.state, func.count())
        .where(RunRow.job_id.in_(job_ids))
        .group_by(RunRow.job_id, RunRow.purpose, RunRow.rung, RunRow.state)
    )
    for job_id, purpose, rung, state, number in rows:
        found[job_id][purpose, rung, state] = number
    return found


def best_runs(session: Session, targets: Mapping[str, int]) -> dict[str, Best]:
    """By job, its best run at the target rung; ``targets`` gives each job's target."""
    rows = session.execute(
        select(ObservationRow.job_id, RunRow.id, ObservationRow.objective)
        .ext(distinct_on(ObservationRow.job_id))
        .join(RunRow, RunRow.run_seq == ObservationRow.run_seq)
        .where(_at_target(targets))
        .order_by(ObservationRow.job_id, ObservationRow.objective, ObservationRow.run_seq)
    )
    return {job_id: Best(run_id, objective) for job_id, run_id, objective in rows}


def baselines(session: Session, targets: Mapping[str, int]) -> dict[str, float]:
    """By job, the mean objective of the baseline's runs at the target rung."""
    rows = session.execute(
        select(ObservationRow.job_id, func.avg(ObservationRow.objective))
        .join(RunRow, RunRow.run_seq == ObservationRow.run_seq)
        .where(_at_target(targets), RunRow.label == "baseline")
        .group_by(ObservationRow.job_id)
    )
    return {job_id: float(mean) for job_id, mean in rows}


def rung_times(session: Session, job_ids: Sequence[str]) -> dict[str, list[RungTime]]:
    """By job, the time that its rungs have taken."""
    took = func.extract("epoch", RunRow.finished_at - RunRow.started_at)
    rows = session.execute(
        select(
            RunRow.job_id,
            RunRow.rung,
            func.count(),
            func.sum(took),
            func.min(RunRow.started_at),
            func.max(RunRow.finished_at),
        )
        .where(RunRow.job_id.in_(job_ids), RunRow.state == RunState.SUCCEEDED)
        .group_by(RunRow.job_id, RunRow.rung)
        .order_by(RunRow.job_id, RunRow.rung)
    )
    found: dict[str, list[RungTime]] = {job_id: [] for job_id in job_ids}
    for job_id, rung, number, seconds, began, ended in rows:
        assert began is not None, "a run that succeeded was started"
        assert ended is not None, "a run that succeeded has ended"
        found[job_id].append(RungTime(rung, number, float(seconds), began, ended))
    return found


def corpora_of(session: Session, rows: Sequence[JobRow]) -> dict[str, tuple[str, str | None]]:
    """By corpus id, its state and what its preparation says, for jobs that still wait for it."""
    waiting = {row.corpus_id for row in rows if row.domains is None}
    if not waiting:
        return {}
    found = session.execute(
        select(CorpusRow.id, CorpusRow.state, CorpusRow.progress).where(CorpusRow.id.in_(waiting))
    )
    return {corpus_id: (state, said) for corpus_id, state, said in found}


def _at_target(targets: Mapping[str, int]) -> ColumnElement[Any]:
    return or_(
        false(),
        *(
            and_(ObservationRow.job_id == job_id, ObservationRow.rung == rung)
            for job_id, rung in targets.items()
        ),
    )
