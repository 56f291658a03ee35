from __future__ import annotations

import httpx
import pytest

from cuvee.client import Client
from cuvee.errors import NotFoundError, UnavailableError

BROKEN = httpx.RemoteProtocolError("peer closed connection")


def test_events_end_with_the_job(client, script, stream):
    script.answers = [stream((1, "job.accepted"), (2, "job.succeeded"))]
    assert [e.seq for e in client.events("j1")] == [1, 2]
    assert len(script.requests) == 1


def test_a_broken_stream_goes_on_behind_the_last_event(client, script, stream):
    script.answers = [
        stream((1, "job.accepted"), (2, "job.running")),
        BROKEN,
        httpx.Response(503),
        stream((3, "run.proposed")),
        stream((4, "job.cancelled")),
    ]
    assert [e.seq for e in client.events("j1")] == [1, 2, 3, 4]
    assert [r.headers["last-event-id"] for r in script.requests] == ["0", "2", "2", "2", "3"]


def test_events_begin_where_asked(client, script, stream):
    script.answers = [stream((8, "job.failed"))]
    assert [e.seq for e in client.events("j1", after=7)] == [8]
    assert script.requests[0].headers["last-event-id"] == "7"


def test_nothing_follows_the_end_of_a_job(client, script):
    script.answers = [httpx.Response(204)]
    assert list(client.events("j1", after=9)) == []


def test_an_error_that_trying_again_cannot_help_is_raised(client, script, problem):
    script.answers = [problem(404, "not_found", "no job 'j1'")]
    with pytest.raises(NotFoundError, match="no job 'j1'"):
        list(client.events("j1"))


def test_a_server_that_stays_away_is_given_up(script):
    script.answers = [httpx.ConnectError("refused")] * 50
    transport = httpx.MockTransport(script)
    with (
        Client("http://cuvee.test", transport=transport, reconnect_seconds=0.6) as client,
        pytest.raises(UnavailableError, match="cuvee up"),
    ):
        list(client.events("j1"))
    assert 1 < len(script.requests) < 5
