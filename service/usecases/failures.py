"""When a job should not go on: its runs fail beyond what a search can bear."""

from __future__ import annotations

from sqlalchemy.orm import Session

from cuvee.records import Problem
from cuvee.states import JobState, RunState
from service.db.models import (
    JobRow,
    RunRow,
)
from service.db.repositories import runs

__all__ = ["beyond_sense"]

_FAILURES_BEYOND_SENSE = 3
"""Fewer failures than this are bad luck, whatever their share."""


def beyond_sense(session: Session, job: JobRow, run: RunRow, problem: Problem) -> Problem | None:
    """Why a job should not go on after this failure, if it should not."""
    if job.state not in (JobState.RUNNING, JobState.PAUSING):
        return None
    counts = runs.failures(session, job.id)
    failed = sum(n for _, _, state, n in counts if state == RunState.FAILED)
    ended = failed + sum(n for _, _, state, n in counts if state == RunState.SUCCEEDED)
    if run.purpose == "verify":
        same = {
            state: n
            for purpose, label, state, n in counts
            if purpose == "verify" and label == run.label
        }
        if set(same) == {RunState.FAILED}:
            return Problem(
                code="verification_failed",
                message=f"every verification run of the {run.label} mixture failed "
                f"({same[RunState.FAILED]}), the last with: {problem.message}",
                details={"label": run.label, "last": problem.model_dump(mode="json")},
            )
    if failed >= _FAILURES_BEYOND_SENSE and 2 * failed > ended:
        return Problem(
            code="too_many_failures",
            message=f"{failed} of {ended} finished runs failed, the last with: {problem.message}",
            details={"failed": failed, "ended": ended, "last": problem.model_dump(mode="json")},
        )
    return None
