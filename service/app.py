"""The application: ``uvicorn --factory service.app:create_app``. Importing this does nothing."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import FrameType

from anyio import to_thread
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

import cuvee
from cuvee.records import Event
from service.api import TAGS, api_router
from service.api.docs import build_openapi
from service.broker import Broker
from service.dashboard.routes import router as dashboard_router
from service.db.repositories.heads import event_heads
from service.db.session import make_engine, make_sessions
from service.edge import unit_of_work
from service.errors import add_error_handlers
from service.feed import Feed, Head
from service.limits import DeclaredLength
from service.middleware import ResponseHeaders
from service.observability import configure_logging
from service.settings import Settings
from service.usecases import jobs

__all__ = ["MAX_BODY_BYTES", "create_app"]

MAX_BODY_BYTES = 1 << 20
"""A specification of 200 domains with a hundred paths each fits."""

_CONNECTIONS = 15

_DESCRIPTION = """\
Finds the data mixture for training a language model. Register a corpus, submit a job, follow its
events, read its report. Every error is a problem document (RFC 9457) with a stable `code`.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; no connection is made until the first request.

    Args:
        settings: Read from the environment if not given.
    """
    settings = settings or Settings()
    app = FastAPI(
        title="Cuvée",
        summary="The data mixture for training a language model, and how sure it is.",
        description=_DESCRIPTION,
        version=cuvee.__version__,
        openapi_tags=TAGS,
        # The stock pages load their scripts from a CDN, which the content policy refuses.
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        telemetry={"auto_configure": False},
    )
    engine = make_engine(settings.database_url, role="api", pool_size=_CONNECTIONS)
    sessions = make_sessions(engine)
    app.state.settings = settings
    app.state.engine = engine
    app.state.sessions = sessions
    app.state.broker = Broker(settings.broker_url) if settings.broker_url else None
    app.state.publish = app.state.broker.publish if app.state.broker else None
    app.state.feed = Feed(partial(_read_heads, sessions), partial(_read_events, sessions))

    # The last one added is the outermost.
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY_BYTES)
    app.add_middleware(DeclaredLength, max_body_size=MAX_BODY_BYTES)
    app.add_middleware(ResponseHeaders)
    add_error_handlers(app)
    app.include_router(api_router())
    app.include_router(dashboard_router, include_in_schema=False)
    app.openapi = partial(build_openapi, app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    configure_logging(app.state.settings, "api")
    # As many threads as connections: one more would only wait for a connection.
    to_thread.current_default_thread_limiter().total_tokens = 2 * _CONNECTIONS
    try:
        with _before_exit(app.state.feed.end):
            yield
    finally:
        await app.state.feed.aclose()
        if app.state.broker is not None:
            app.state.broker.close()
        app.state.engine.dispose()


@contextmanager
def _before_exit(act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` when the process is asked to end, and then the server's own handler.

    Uvicorn waits for open responses before it tells the application that it is stopping, and an
    idle stream of events stays open for hours; so the application has to hear of it first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        following = handlers[signal.Signals(number)]
        if callable(following):
            following(number, frame)

    ours = [number for number, handler in handlers.items() if callable(handler)]
    for number in ours:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, handlers[number])


def _read_heads(sessions: sessionmaker[Session], job_ids: Collection[str]) -> Mapping[str, Head]:
    with unit_of_work(sessions) as session:
        heads = event_heads(session, job_ids)
    return {job_id: Head(last_seq, ended) for job_id, (last_seq, ended) in heads.items()}


def _read_events(
    sessions: sessionmaker[Session], job_id: str, after: int, limit: int
) -> Sequence[Event]:
    with unit_of_work(sessions) as session:
        return jobs.list_events(session, job_id, after, limit)
