"""``/v1/jobs/{id}/runs`` and ``/v1/runs``: what was tried and what it measured."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from cuvee.records import Page, Run
from cuvee.states import RunState
from service.api import examples
from service.api.docs import answers
from service.deps import ListQuery, TenantDep, WorkDep
from service.usecases import runs

router = APIRouter(tags=["runs"])


class RunsQuery(ListQuery):
    state: RunState | None = Field(None, description="Only runs in this state.")


@router.get(
    "/jobs/{job}/runs",
    operation_id="list_runs",
    summary="List the runs of a job",
    responses=answers(examples.page({**examples.RUN, "curve": None}), 404),
)
def list_runs(
    job: str, query: Annotated[RunsQuery, Query()], work: WorkDep, tenant: TenantDep
) -> Page[Run]:
    """Without loss curves: read one run for its curve."""
    with work() as session:
        return runs.list_runs(
            session, tenant, job, state=query.state, limit=query.limit, cursor=query.cursor
        )


@router.get(
    "/runs/{run}",
    operation_id="get_run",
    summary="Read a run with its loss curve",
    responses=answers(examples.RUN, 404),
)
def get_run(run: str, work: WorkDep, tenant: TenantDep) -> Run:
    with work() as session:
        return runs.get_run(session, tenant, run)
