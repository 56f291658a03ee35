"""What endpoints ask FastAPI for: the edge, the tenant, the idempotency key.

Endpoints open the unit of work themselves, ``with work() as session:``. A dependency that yields a
session would end after the answer was built and on another thread; this way the transaction is
committed before the endpoint returns, so "accepted" is never said of something that is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException

from cuvee.spec import Record
from service.db.mapping import canonical_hash
from service.db.models import DEFAULT_TENANT
from service.edge import unit_of_work
from service.feed import Feed
from service.settings import Settings
from service.usecases.idempotency import Idempotency

__all__ = [
    "FeedDep",
    "KeyDep",
    "ListQuery",
    "SettingsDep",
    "TenantDep",
    "UnitOfWork",
    "WorkDep",
    "keyed",
    "refuse_cross_site",
]

UnitOfWork = Callable[[], AbstractContextManager[Session]]


def _work(request: Request) -> UnitOfWork:
    state = request.app.state
    return lambda: unit_of_work(state.sessions, state.publish)


def _tenant() -> str:
    return DEFAULT_TENANT


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


def _key(
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="Makes repeating the request safe: the same key and body perform it once "
            "and answer with the same resource; the same key with another body is refused.",
        ),
    ] = None,
) -> str | None:
    return idempotency_key


def keyed(key: str | None, spec: Record) -> Idempotency | None:
    """The key with a hash of what is asked for: the order of fields and defaults do not count."""
    return None if key is None else (key, canonical_hash(spec))


def refuse_cross_site(request: Request) -> None:
    """Refuse what another site's page makes a browser send: a server on localhost has no password.

    Browsers state the origin of a request in ``Sec-Fetch-Site``; other clients send no such header.
    """
    if request.method != "GET" and request.headers.get("sec-fetch-site") == "cross-site":
        raise HTTPException(403, "requests from the pages of other sites are refused")


class ListQuery(Record):
    """Which page of a list. An unknown parameter is refused: a misspelt filter filters nothing."""

    limit: int = Field(50, ge=1, le=200, description="Items per page.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


WorkDep = Annotated[UnitOfWork, Depends(_work)]
TenantDep = Annotated[str, Depends(_tenant)]
SettingsDep = Annotated[Settings, Depends(_settings)]
FeedDep = Annotated[Feed, Depends(_feed)]
KeyDep = Annotated[str | None, Depends(_key)]
