"""``/v1/jobs/{id}/events``: a job's log, as a stream that can be resumed, or as a page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import Field
from starlette.types import Receive, Scope, Send

from cuvee.records import Event, Job, Page
from cuvee.spec import Record
from service.api import examples
from service.api.docs import answers
from service.deps import FeedDep, TenantDep, UnitOfWork, WorkDep
from service.feed import Feed
from service.usecases import jobs

router = APIRouter(tags=["jobs"])

_RECONNECT_MILLISECONDS = 1000


class EventsQuery(Record):
    after: int = Field(0, ge=0, description="Sequence number of the last event already known.")
    limit: int = Field(200, ge=1, le=200, description="Of a page; streams have no limit.")


@router.get(
    "/jobs/{job}/events",
    operation_id="events",
    summary="Follow a job's log",
    response_model=Page[Event],
    responses=answers(examples.page(examples.EVENT), 404)
    | {
        200: {
            "description": "A stream of server-sent events, or a page of them.",
            "content": {
                "text/event-stream": {"schema": {"type": "string"}, "example": examples.STREAM},
                "application/json": {"example": examples.page(examples.EVENT)},
            },
        },
        204: {"description": "The job has ended and nothing follows: do not reconnect."},
    },
)
async def events(
    job: str,
    request: Request,
    query: Annotated[EventsQuery, Query()],
    work: WorkDep,
    tenant: TenantDep,
    feed: FeedDep,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, description="Sent by browsers that reconnect; wins over `after`."),
    ] = None,
) -> Response:
    """What has happened to the job and, as it happens, what does.

    Events are numbered 1, 2, 3 ... per job, without a gap. A stream that breaks is resumed by
    sending the last number received as `Last-Event-ID`. It ends after `job.succeeded`,
    `job.failed` or `job.cancelled`. With `Accept: application/json` the answer is one page, and its
    `next_cursor` is the next `after`.
    """
    after = query.after if last_event_id is None else last_event_id
    found, behind = await run_in_threadpool(_read, work, tenant, job, after, query.limit)
    accept = request.headers.get("accept", "")
    if "application/json" in accept and "text/event-stream" not in accept:
        return _page(behind, query.limit)
    if found.state.terminal and not behind:
        return Response(status_code=204)
    return _EventStream(
        _stream(feed, found.id, after),
        # Proxies must pass events on as they come.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class _EventStream(EventSourceResponse):
    """Ends when the client goes away.

    Starlette leaves that to the next ``send``, but uvicorn's does not fail, so that a stream
    without a reader would live as long as its job.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:

            async def end_with_client() -> None:
                await self.listen_for_disconnect(receive)
                group.cancel_scope.cancel()

            group.start_soon(end_with_client)
            await self.stream_response(send)
            group.cancel_scope.cancel()


def _read(
    work: UnitOfWork, tenant: str, job: str, after: int, limit: int
) -> tuple[Job, list[Event]]:
    with work() as session:
        found = jobs.get_job(session, tenant, job)
        return found, jobs.list_events(session, found.id, after, limit)


def _page(events: list[Event], limit: int) -> Response:
    more = str(events[-1].seq) if len(events) == limit else None
    page = Page[Event](items=tuple(events), next_cursor=more)
    return Response(page.model_dump_json(), media_type="application/json")


async def _stream(feed: Feed, job_id: str, after: int) -> AsyncIterator[bytes]:
    # The first bytes go out at once, so that clients and proxies know that the stream stands.
    yield format_sse_event(retry=_RECONNECT_MILLISECONDS)
    async with aclosing(feed.follow(job_id, after)) as following:
        async for event in following:
            yield (
                KEEPALIVE_COMMENT
                if event is None
                else format_sse_event(
                    data_str=event.model_dump_json(), event=event.type, id=str(event.seq)
                )
            )
