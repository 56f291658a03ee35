"""Following a job's log over server-sent events, across broken connections."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
from httpx_sse import connect_sse

from cuvee.client._errors import error_from, unreachable
from cuvee.client._reading import parse
from cuvee.errors import UnavailableError
from cuvee.records import Event

__all__ = ["follow"]

_SILENCE_SECONDS = 45.0
"""The server sends a comment every 15 s; three missed ones mean that the connection is dead."""

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0


def follow(http: httpx.Client, url: str, path: str, after: int, patience: float) -> Iterator[Event]:
    """Yield the events behind ``after`` until the job ends, reconnecting as needed.

    Args:
        http: Where to send.
        url: The server, for messages.
        path: The job's events.
        after: The last sequence number already known.
        patience: Seconds without any answer before giving up.

    Raises:
        CuveeError: What the server answered, if it is not worth another try.
        UnavailableError: When nothing answered for ``patience`` seconds.
    """
    last_contact = time.monotonic()
    pause = _FIRST_PAUSE
    while True:
        failure: UnavailableError
        try:
            for event in _stream(http, path, after):
                last_contact = time.monotonic()
                if event is None:
                    continue
                after, pause = event.seq, _FIRST_PAUSE
                yield event
                if event.ends_job:
                    return
            return
        except httpx.TransportError as error:
            failure = unreachable(url, error)
        except UnavailableError as error:
            failure = error
        if time.monotonic() - last_contact + pause > patience:
            raise failure
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _stream(http: httpx.Client, path: str, after: int) -> Iterator[Event | None]:
    """One connection: None when it stands, then its events.

    Returns only when the server says that nothing follows (204); a stream that stops without the
    job's last event is a broken one.

    Raises:
        httpx.TransportError: When the connection broke.
        CuveeError: When the server answered with an error.
    """
    timeout = httpx.Timeout(http.timeout.connect, read=_SILENCE_SECONDS)
    headers = {"Last-Event-ID": str(after)}
    with connect_sse(http, "GET", path, headers=headers, timeout=timeout) as source:
        response = source.response
        if response.status_code == httpx.codes.NO_CONTENT:
            return
        if response.is_error:
            response.read()
            raise error_from(response)
        yield None
        for message in source.iter_sse():
            if message.data:
                yield parse(Event, message.data)
        raise httpx.RemoteProtocolError("the stream of events stopped before the job ended")
