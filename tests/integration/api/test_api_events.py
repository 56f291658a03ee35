"""The stream of a job's log: complete, resumable, ending, and cheap while it waits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from httpx_sse import connect_sse

from cuvee.client import Client
from cuvee.records import Event
from cuvee.spec import JobSpec, NgramRung
from service.db.repositories import jobs as job_rows
from service.settings import Settings

SPEC = JobSpec(corpus="text", rungs=(NgramRung(runs=5),))


@pytest.fixture
def job(client, corpus):
    return client.submit(SPEC)


@pytest.fixture
def append(work):
    """Append events to a job's log, as use cases do."""

    def add(job_id: str, count: int) -> None:
        with work() as session:
            row = job_rows.lock(session, job_id)
            assert row is not None
            for _ in range(count):
                job_rows.append_event(session, row, "run.started", {})

    return add


@contextmanager
def stream(server: str, job_id: str, **headers: str) -> Iterator[Iterator[Event]]:
    address = f"{server}/v1/jobs/{job_id}/events"
    with (
        httpx.Client(timeout=20) as http,
        connect_sse(http, "GET", address, headers=dict(headers)) as source,
    ):
        assert source.response.status_code == 200
        yield (Event.model_validate_json(m.data) for m in source.iter_sse() if m.data)


def take(events: Iterator[Event], count: int) -> list[int]:
    return [next(events).seq for _ in range(count)]


def test_what_happened_and_what_happens_come_in_one_stream(server, client, job, append):
    append(job.id, 3)
    with stream(server, job.id) as events:
        assert take(events, 4) == [1, 2, 3, 4]
        append(job.id, 2)
        assert take(events, 2) == [5, 6]
        client.cancel(job.id)
        rest = list(events)
    assert [event.seq for event in rest] == [7, 8]
    assert [event.type for event in rest] == ["job.cancelling", "job.cancelled"]


def test_a_stream_that_broke_in_the_middle_goes_on_without_a_gap(server, client, job, append):
    append(job.id, 9)
    with stream(server, job.id) as events:
        seen = take(events, 4)
    append(job.id, 5)
    with stream(server, job.id, **{"Last-Event-ID": str(seen[-1])}) as events:
        seen += take(events, 7)
    client.cancel(job.id)
    with stream(server, job.id, **{"Last-Event-ID": str(seen[-1])}) as events:
        seen += [event.seq for event in events]
    assert seen == list(range(1, 18))


def test_last_event_id_wins_over_after(server, client, job, append):
    append(job.id, 9)
    client.cancel(job.id)
    address = f"{server}/v1/jobs/{job.id}/events?after=2"
    with httpx.Client() as http:
        for headers, first in (({}, 3), ({"Last-Event-ID": "7"}, 8)):
            with connect_sse(http, "GET", address, headers=headers) as source:
                assert next(m for m in source.iter_sse() if m.data).id == str(first)


def test_the_wire_format_names_and_numbers_events(server, client, job):
    client.cancel(job.id)
    answer = httpx.get(f"{server}/v1/jobs/{job.id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    first, *blocks = answer.text.strip().split("\n\n")
    assert first == "retry: 1000"
    fields = dict(line.split(": ", 1) for line in blocks[0].splitlines())
    assert (fields["event"], fields["id"]) == ("job.accepted", "1")
    assert json.loads(fields["data"])["seq"] == 1


def test_nothing_follows_the_end(http, client, job):
    client.cancel(job.id)
    last = client.list_events(job.id).items[-1].seq
    answer = http.get(f"/v1/jobs/{job.id}/events", params={"after": last})
    assert answer.status_code == 204
    assert list(client.events(job.id, after=last)) == []


def test_a_page_is_given_to_those_who_ask_for_json(client, job, append):
    append(job.id, 9)
    seen, after = [], 0
    while True:
        page = client.list_events(job.id, after=after, limit=4)
        seen += [event.seq for event in page.items]
        if page.next_cursor is None:
            break
        after = int(page.next_cursor)
    assert seen == list(range(1, 11))


def test_a_wrong_position_is_refused(http, job):
    too_great = 10**20
    for headers, params in (
        ({"Last-Event-ID": "x"}, {}),
        ({}, {"after": -1}),
        ({}, {"after": too_great}),
    ):
        answer = http.get(f"/v1/jobs/{job.id}/events", headers=headers, params=params)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_stream_ends_when_its_reader_goes_away(make_app, serve, job):
    app = make_app()
    with serve(app) as url:
        with stream(url, job.id) as events:
            assert take(events, 1) == [1]
            assert app.state.feed.streams == 1
        wait_for(lambda: app.state.feed.streams == 0)


@contextmanager
def own_process(settings: Settings, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server as operators start it."""
    given = {
        "CUVEE_DATABASE_URL": settings.database_url,
        "CUVEE_DATA_DIR": str(settings.data_dir),
        "CUVEE_LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "service.app:create_app"]
    process = subprocess.Popen([*command, "--port", str(port)], env=os.environ | given)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_the_client_follows_a_job_through_a_restart_of_the_server(
    make_app, serve, settings, client, corpus, job, append
):
    """The first server is told to stop under an open stream; the second takes its place."""
    seen: list[int] = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def follow() -> None:
        with Client(f"http://127.0.0.1:{port}", reconnect_seconds=60) as following:
            for event in following.events(job.id):
                seen.append(event.seq)

    follower = threading.Thread(target=follow, daemon=True)
    with own_process(settings, port) as process:
        follower.start()
        wait_for(lambda: seen, 60)
        append(job.id, 3)
        wait_for(lambda: len(seen) == 4)
        process.terminate()
        assert process.wait(10) is not None, "an open stream must not hold up the shutdown"
    append(job.id, 3)
    with serve(make_app(), port=port):
        wait_for(lambda: len(seen) == 7)
        append(job.id, 3)
        client.cancel(job.id)
        follower.join(20)
    assert not follower.is_alive()
    assert seen == list(range(1, 13))


def test_waiting_streams_hold_no_connection_and_no_thread(make_app, serve, client, job, append):
    app = make_app()
    count = 40
    seen: list[list[int]] = [[] for _ in range(count)]
    with serve(app) as url:

        def follow(into: list[int]) -> None:
            with stream(url, job.id) as events:
                for event in events:
                    into.append(event.seq)

        followers = [threading.Thread(target=follow, args=(into,), daemon=True) for into in seen]
        for follower in followers:
            follower.start()
        wait_for(lambda: all(seen), 30)
        wait_for(lambda: app.state.engine.pool.checkedout() <= 1)
        readings = []
        for _ in range(30):
            readings.append(app.state.engine.pool.checkedout())
            time.sleep(0.01)
        assert max(readings) <= 1, "only the poller may hold a connection"
        # More streams than there are threads and connections, and requests are still answered.
        assert httpx.get(f"{url}/readyz", timeout=10).status_code == 200
        append(job.id, 5)
        client.cancel(job.id)
        for follower in followers:
            follower.join(20)
        wait_for(lambda: app.state.feed.streams == 0)
    assert seen == [list(range(1, 9))] * count


def test_streams_outlive_a_break_of_the_database(
    server, client, job, append, postgres, database_url
):
    with stream(server, job.id) as events:
        assert take(events, 1) == [1]
        name = database_url.rsplit("/", 1)[1].split("?")[0]
        with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND application_name = 'cuvee-api'",
                (name,),
            )
        append(job.id, 2)
        assert take(events, 2) == [2, 3]
        client.cancel(job.id)
        assert [event.seq for event in events] == [4, 5]


def wait_for(condition, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
