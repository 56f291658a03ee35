"""``Client``: one typed method per operation of the API."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from cuvee.answer import Report
from cuvee.client._errors import error_from, unreachable
from cuvee.client._events import follow
from cuvee.client._reading import read
from cuvee.errors import CuveeError
from cuvee.records import Corpus, Event, Job, Page, Readiness, Run, ServerVersion
from cuvee.spec import CorpusSpec, JobSpec
from cuvee.states import JobState, RunState

__all__ = ["DEFAULT_URL", "Client"]

DEFAULT_URL = "http://127.0.0.1:8321"
"""Where ``cuvee up`` listens."""

R = TypeVar("R", bound=BaseModel)

_RETRIED_STATUSES = frozenset({429, 502, 503, 504})


class Client:
    """A connection to a Cuvée server.

    Calls that fail on the way (no connection, a broken one, 429, 502, 503, 504) are repeated after
    each of ``retry_delays``. That is safe: reads change nothing, and every POST carries an
    idempotency key, so that the server performs it once however often it arrives.

    Args:
        base_url: The server; ``CUVEE_URL`` or ``http://127.0.0.1:8321`` if not given.
        timeout: Seconds to wait for a connection or for the next bytes of an answer.
        transport: Replaces the network, as in httpx: tests hand in the application itself.
        retry_delays: Seconds before each further try; empty for a single try.
        reconnect_seconds: How long ``events`` bears a server that does not answer.

    Jobs, corpora and runs are named by id; jobs and corpora by their names too. Every method
    raises a class of ``cuvee.errors``: what the server raised, or ``UnavailableError``.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        retry_delays: Sequence[float] = (0.2, 0.6, 1.5),
        reconnect_seconds: float = 60.0,
    ) -> None:
        self.url = (base_url or os.environ.get("CUVEE_URL") or DEFAULT_URL).rstrip("/")
        self._delays = tuple(retry_delays)
        self._reconnect_seconds = reconnect_seconds
        self._http = httpx.Client(base_url=self.url, timeout=timeout, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    # -- the server ---------------------------------------------------------------------------

    def version(self) -> ServerVersion:
        return self._get(ServerVersion, "/v1/version")

    def live(self) -> bool:
        """Whether the server's process answers at all."""
        try:
            self._send("GET", "/healthz", delays=())
        except CuveeError:
            return False
        return True

    def ready(self) -> Readiness:
        """What the server depends on, checked now. Tried once: this is what a poller calls.

        Raises:
            UnavailableError: When the server cannot take work; ``details["checks"]`` says why.
        """
        return read(Readiness, self._send("GET", "/readyz", delays=()))

    # -- corpora ------------------------------------------------------------------------------

    def register_corpus(self, spec: CorpusSpec, idempotency_key: str | None = None) -> Corpus:
        """Register text; the server prepares it in the background.

        The paths are the server's paths.

        Raises:
            SpecError: When the specification is wrong or a path is outside the server's roots.
            ConflictError: When the name is taken by another corpus.
        """
        return self._post(Corpus, "/v1/corpora", spec, idempotency_key)

    def get_corpus(self, corpus: str) -> Corpus:
        return self._get(Corpus, _path("/v1/corpora/{}", corpus))

    def list_corpora(self, limit: int = 50, cursor: str | None = None) -> Page[Corpus]:
        return self._get(Page[Corpus], "/v1/corpora", limit=limit, cursor=cursor)

    # -- jobs ---------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, idempotency_key: str | None = None) -> Job:
        """Start a search. What is checked without the corpus is refused at once.

        Args:
            spec: What to search for.
            idempotency_key: Give one to make repeated calls, of several processes too, one job.

        Raises:
            SpecError: When the specification is wrong.
            InfeasibleError: When no mixture satisfies its constraints.
            NotFoundError: When there is no such corpus.
            ConflictError: When the name is taken by another job.
        """
        return self._post(Job, "/v1/jobs", spec, idempotency_key)

    def get_job(self, job: str) -> Job:
        return self._get(Job, _path("/v1/jobs/{}", job))

    def list_jobs(
        self, state: JobState | str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Job]:
        """Jobs, newest first."""
        return self._get(Page[Job], "/v1/jobs", state=state, limit=limit, cursor=cursor)

    def cancel(self, job: str) -> Job:
        """Stop a job for good; runs in flight are told to stop.

        Raises:
            ConflictError: When the job has ended another way.
        """
        return self._post(Job, _path("/v1/jobs/{}/cancel", job))

    def pause(self, job: str) -> Job:
        """Start no further runs; those in flight finish.

        Raises:
            ConflictError: When the job has ended or is being cancelled.
        """
        return self._post(Job, _path("/v1/jobs/{}/pause", job))

    def resume(self, job: str) -> Job:
        """Go on with a paused job.

        Raises:
            ConflictError: When the job is not paused.
        """
        return self._post(Job, _path("/v1/jobs/{}/resume", job))

    # -- runs ---------------------------------------------------------------------------------

    def list_runs(
        self,
        job: str,
        state: RunState | str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Run]:
        """Runs of a job, without their loss curves."""
        path = _path("/v1/jobs/{}/runs", job)
        return self._get(Page[Run], path, state=state, limit=limit, cursor=cursor)

    def runs(self, job: str, state: RunState | str | None = None) -> Iterator[Run]:
        """All runs of a job, page after page."""
        cursor: str | None = None
        while True:
            page = self.list_runs(job, state=state, limit=200, cursor=cursor)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def get_run(self, run: str) -> Run:
        """One run, with its loss curve."""
        return self._get(Run, _path("/v1/runs/{}", run))

    # -- what happened ------------------------------------------------------------------------

    def events(self, job: str, after: int = 0) -> Iterator[Event]:
        """The job's log from behind ``after``, then what happens, until the job ends.

        A broken connection is made again and goes on where it stopped: no event is missing and none
        comes twice.

        Raises:
            UnavailableError: When the server stays away for ``reconnect_seconds``.
        """
        path = _path("/v1/jobs/{}/events", job)
        return follow(self._http, self.url, path, after, self._reconnect_seconds)

    def list_events(self, job: str, after: int = 0, limit: int = 200) -> Page[Event]:
        """Up to ``limit`` events behind ``after``; the cursor is the next ``after``."""
        path = _path("/v1/jobs/{}/events", job)
        return self._get(Page[Event], path, after=after, limit=limit)

    def report(self, job: str) -> Report:
        """The answer of a job that succeeded.

        Raises:
            ConflictError: When the job has no report, yet or ever; the message says which.
        """
        return self._get(Report, _path("/v1/jobs/{}/report", job))

    def report_html(self, job: str) -> str:
        """The report as one page of HTML that needs nothing else."""
        return self._send("GET", _path("/v1/jobs/{}/report", job), params={"format": "html"}).text

    # -- plumbing -----------------------------------------------------------------------------

    def _get(self, record: type[R], path: str, **params: Any) -> R:
        given = {name: value for name, value in params.items() if value is not None}
        return read(record, self._send("GET", path, params=given))

    def _post(
        self,
        record: type[R],
        path: str,
        body: BaseModel | None = None,
        idempotency_key: str | None = None,
    ) -> R:
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = body.model_dump_json().encode()
        return read(record, self._send("POST", path, content=content, headers=headers))

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        delays: Sequence[float] | None = None,
    ) -> httpx.Response:
        """Send until it is answered, or until the delays are used up.

        Only for calls that may be repeated: a GET, or a POST with an idempotency key.
        """
        sent = {"Accept": "application/json", **(headers or {})}
        for delay in (*(self._delays if delays is None else delays), None):
            try:
                response = self._http.request(
                    method, path, params=params, content=content, headers=sent
                )
            except httpx.TransportError as error:
                if delay is None:
                    raise unreachable(self.url, error) from error
            else:
                if response.is_success:
                    return response
                if delay is None or response.status_code not in _RETRIED_STATUSES:
                    raise error_from(response)
                delay = max(delay, _retry_after(response))
            time.sleep(delay)
        raise AssertionError("the last try returns or raises")


def _path(template: str, name: str) -> str:
    return template.format(quote(name, safe=""))


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, at most ten; dates are not used by Cuvée."""
    value = response.headers.get("retry-after", "")
    return min(float(value), 10.0) if value.isdigit() else 0.0
