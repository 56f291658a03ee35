"""``/v1/jobs``: start a search, steer it, read its answer."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from cuvee.answer import Report
from cuvee.records import Job, Page
from cuvee.spec import JobSpec, Record
from cuvee.states import JobState
from service.api import examples
from service.api.docs import answers, body_example
from service.dashboard.report import render_report, report_csp
from service.deps import KeyDep, ListQuery, TenantDep, WorkDep, keyed
from service.usecases import jobs

router = APIRouter(prefix="/jobs", tags=["jobs"])

_POLL_SECONDS = "5"
"""How soon it is worth asking again; streams need no asking."""


class JobsQuery(ListQuery):
    state: JobState | None = Field(None, description="Only jobs in this state.")


class ReportQuery(Record):
    format: Literal["json", "html"] = Field(
        "json", description="`html`: one page with plots that needs nothing else."
    )


@router.post(
    "",
    operation_id="submit",
    summary="Start a search",
    status_code=202,
    responses=answers(
        {**examples.JOB, "state": "accepted"},
        404,
        409,
        413,
        status=202,
        what="Kept; it starts once its corpus is ready. `Location` is the job.",
    ),
    openapi_extra=body_example(examples.JOB_SPEC),
)
def submit(spec: JobSpec, response: Response, work: WorkDep, tenant: TenantDep, key: KeyDep) -> Job:
    """Find the mixture that does best at the last rung, within the constraints.

    The job may be submitted before its corpus is ready. What needs the corpus (names of domains,
    supply) is then checked when it is, and a job that turns out to be wrong fails with the error
    that it would have been refused with.
    """
    with work() as session:
        job = jobs.create_job(session, tenant, spec, idempotency=keyed(key, spec))
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = _POLL_SECONDS
    return job


@router.get(
    "",
    operation_id="list_jobs",
    summary="List jobs, newest first",
    responses=answers(examples.page(examples.JOB)),
)
def list_jobs(query: Annotated[JobsQuery, Query()], work: WorkDep, tenant: TenantDep) -> Page[Job]:
    with work() as session:
        return jobs.list_jobs(
            session, tenant, state=query.state, limit=query.limit, cursor=query.cursor
        )


@router.get(
    "/{job}",
    operation_id="get_job",
    summary="Read a job by id or name",
    responses=answers(examples.JOB, 404),
)
def get_job(job: str, work: WorkDep, tenant: TenantDep) -> Job:
    with work() as session:
        return jobs.get_job(session, tenant, job)


@router.post(
    "/{job}/cancel",
    operation_id="cancel",
    summary="Stop a job for good",
    responses=answers({**examples.JOB, "state": "cancelling"}, 404, 409),
)
def cancel(job: str, work: WorkDep, tenant: TenantDep) -> Job:
    """Runs in flight are told to stop; the job is `cancelled` when none is left."""
    with work() as session:
        return jobs.cancel_job(session, tenant, job)


@router.post(
    "/{job}/pause",
    operation_id="pause",
    summary="Start no further runs",
    responses=answers({**examples.JOB, "state": "pausing"}, 404, 409),
)
def pause(job: str, work: WorkDep, tenant: TenantDep) -> Job:
    """Runs in flight finish and are counted; the job is `paused` when none is left."""
    with work() as session:
        return jobs.pause_job(session, tenant, job)


@router.post(
    "/{job}/resume",
    operation_id="resume",
    summary="Go on with a paused job",
    responses=answers(examples.JOB, 404, 409),
)
def resume(job: str, work: WorkDep, tenant: TenantDep) -> Job:
    with work() as session:
        return jobs.resume_job(session, tenant, job)


@router.get(
    "/{job}/report",
    operation_id="report",
    summary="Read the answer of a job that succeeded",
    response_model=Report,
    responses=answers(examples.REPORT, 404, 409)
    | {
        200: {
            "description": "The report, as JSON or as a page.",
            "content": {
                "application/json": {"example": examples.REPORT},
                "text/html": {"schema": {"type": "string"}},
            },
        }
    },
)
def report(
    job: str, query: Annotated[ReportQuery, Query()], work: WorkDep, tenant: TenantDep
) -> Report | Response:
    with work() as session:
        found = jobs.get_report(session, tenant, job)
    if query.format == "json":
        return found
    return HTMLResponse(render_report(found), headers={"Content-Security-Policy": report_csp()})
