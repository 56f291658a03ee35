"""Whether the process lives, whether it can take work, and which version it is.

Live: the event loop answers. Ready: the database answers and its schema fits. The broker is only
a doorbell, so a server without it is ``degraded`` and still ready: work is kept and starts when
workers look for it.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

import cuvee
from cuvee.errors import UnavailableError
from cuvee.records import Readiness, ServerVersion
from service.api import examples
from service.api.docs import answers
from service.db.revision import revision_status
from service.deps import WorkDep

__all__ = ["router", "version_router"]

router = APIRouter(tags=["server"])
version_router = APIRouter(tags=["server"])

_SCHEMA = {
    "current": "ok",
    "behind": "behind: the database must be migrated (alembic upgrade head)",
    "ahead": "ahead: the database was migrated by a newer release; update this server",
}


@router.get(
    "/healthz",
    operation_id="live",
    summary="Whether the process lives",
    responses={200: {"content": {"application/json": {"example": {"status": "live"}}}}},
)
async def live() -> dict[str, str]:
    return {"status": "live"}


@router.get(
    "/readyz",
    operation_id="ready",
    summary="Whether the server can take work",
    responses=answers(examples.READINESS, what="Ready, or degraded: work is kept, starts late."),
)
def ready(request: Request, work: WorkDep) -> Readiness:
    checks = _database(work) | _broker(request)
    if checks["database"] != "ok" or checks["schema"] == _SCHEMA["behind"]:
        wrong = "; ".join(f"{name}: {said}" for name, said in checks.items() if said != "ok")
        raise UnavailableError(f"not ready: {wrong}", checks=checks)
    whole = all(said == "ok" for said in checks.values())
    return Readiness(status="ready" if whole else "degraded", checks=checks)


@version_router.get(
    "/version",
    operation_id="version",
    summary="The server's version",
    responses={200: {"content": {"application/json": {"example": examples.VERSION}}}},
)
async def version() -> ServerVersion:
    return ServerVersion(version=cuvee.__version__, api="v1")


def _database(work: WorkDep) -> dict[str, str]:
    try:
        with work() as session:
            session.execute(text("SELECT 1"))
            schema = _SCHEMA[revision_status(session.connection())]
    except SQLAlchemyError:
        # The reason may hold the host and the user's name: it is for the log, not for the network.
        return {"database": "does not answer", "schema": "unknown"}
    return {"database": "ok", "schema": schema}


def _broker(request: Request) -> dict[str, str]:
    broker = request.app.state.broker
    if broker is None:
        return {"broker": "ok"}
    return {"broker": "ok" if broker.alive() else "does not answer; work waits to be found"}
