"""``cuvee list``, ``runs``, ``cancel``, ``pause`` and ``resume``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from cuvee.cli.console import out, print_json
from cuvee.cli.context import JobArgument, JsonOption, UrlOption, connect
from cuvee.cli.explain import in_short
from cuvee.cli.tables import job_table, run_table
from cuvee.records import Job, Run
from cuvee.states import JobState, RunState

__all__ = ["cancel", "list_jobs", "pause", "resume", "runs"]

_PAGE = 200


def list_jobs(
    ctx: typer.Context,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many jobs, newest first.")] = 20,
    json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """List jobs, newest first.

    Examples:

        cuvee list
        cuvee list --state running
        cuvee list --limit 100 --json
    """
    found: list[Job] = []
    more: str | None = None
    with connect(ctx, url) as client:
        while len(found) < limit:
            count = min(_PAGE, limit - len(found))
            page = client.list_jobs(state=state, limit=count, cursor=more)
            found += page.items
            more = page.next_cursor
            if more is None:
                break
    if json:
        print_json([job.model_dump(mode="json") for job in found])
    elif not found:
        out().print("No jobs yet. Start one with `cuvee submit job.yaml`." if state is None else
                    f"No job is {state}.")  # fmt: skip
    else:
        out().print(job_table(found, datetime.now(UTC)))
        if more is not None:
            out().print(f"These are the newest {len(found)}; more with --limit.")


def runs(
    ctx: typer.Context,
    job: JobArgument,
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why each run was made, in a line each.")
    ] = False,
    json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """List the runs of a job: rung, purpose, state, objective, mixture.

    Examples:

        cuvee runs JOB
        cuvee runs JOB --state failed
        cuvee runs JOB --explain
        cuvee runs JOB --json
    """
    with connect(ctx, url) as client:
        found: list[Run] = list(client.runs(job, state=state))
    if json:
        print_json([run.model_dump(mode="json") for run in found])
    elif not found:
        out().print("No runs yet." if state is None else f"No run is {state}.")
    else:
        out().print(run_table(found))
        if explain:
            for run in found:
                out().print(f"Run {run.id}: {in_short(run)}", soft_wrap=True)
        for run in found:
            if run.error is not None:
                out().print(f"Run {run.id} failed: {run.error.message}", soft_wrap=True)


def cancel(
    ctx: typer.Context, job: JobArgument, json: JsonOption = False, url: UrlOption = None
) -> None:
    """Cancel a job for good; runs in flight are told to stop.

    Example:

        cuvee cancel JOB
    """
    with connect(ctx, url) as client:
        _tell(client.cancel(job), json)


def pause(
    ctx: typer.Context, job: JobArgument, json: JsonOption = False, url: UrlOption = None
) -> None:
    """Pause a job: runs in flight finish, no further ones start.

    Example:

        cuvee pause JOB
    """
    with connect(ctx, url) as client:
        _tell(client.pause(job), json)


def resume(
    ctx: typer.Context, job: JobArgument, json: JsonOption = False, url: UrlOption = None
) -> None:
    """Go on with a paused job.

    Example:

        cuvee resume JOB
    """
    with connect(ctx, url) as client:
        _tell(client.resume(job), json)


def _tell(job: Job, json: bool) -> None:
    if json:
        print_json(job)
    else:
        out().print(f"Job {job.id} is {job.state}.", soft_wrap=True)
