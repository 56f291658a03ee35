"""The feed against a log in memory that tests can grow, break and slow down."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import aclosing
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from cuvee.records import Event
from service import feed as feed_module
from service.feed import Feed, Head

NOW = datetime(2026, 11, 24, tzinfo=UTC)


class Log:
    """Jobs' logs, as the database would show them."""

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = {}
        self.head_reads = 0
        self.event_reads = 0
        self.broken = False

    def add(self, job: str, kind: str = "run.succeeded") -> None:
        log = self.events.setdefault(job, [])
        log.append(Event(job_id=job, seq=len(log) + 1, type=kind, payload={}, created_at=NOW))

    def heads(self, jobs: Collection[str]) -> dict[str, Head]:
        self.head_reads += 1
        self._fail()
        return {
            job: Head(len(self.events[job]), any(e.ends_job for e in self.events[job]))
            for job in jobs
            if job in self.events
        }

    def read(self, job: str, after: int, limit: int) -> list[Event]:
        self.event_reads += 1
        self._fail()
        return self.events.get(job, [])[after : after + limit]

    def _fail(self) -> None:
        if self.broken:
            raise OperationalError("SELECT", {}, Exception("gone"))


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def feed(log):
    return Feed(log.heads, log.read, poll_seconds=0.005, idle_seconds=5)


async def collect(feed: Feed, job: str, after: int = 0) -> list[int]:
    async with aclosing(feed.follow(job, after)) as following:
        return [event.seq async for event in following if event is not None]


async def settle(feed: Feed, streams: int) -> None:
    while feed.streams != streams:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.03)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_a_finished_log_is_read_and_ends(log, feed):
    for _ in range(3):
        log.add("a")
    log.add("a", "job.succeeded")
    assert run(collect(feed, "a")) == [1, 2, 3, 4]
    assert run(collect(feed, "a", after=2)) == [3, 4]


def test_a_stream_behind_the_end_ends(log, feed):
    log.add("a", "job.failed")
    log.add("a", "run.lost")
    assert run(collect(feed, "a", after=1)) == [2]
    assert run(collect(feed, "a", after=2)) == []


def test_events_arrive_as_they_happen(log, feed):
    log.add("a")

    async def scene():
        reader = asyncio.create_task(collect(feed, "a"))
        for kind in ("run.started", "run.succeeded", "job.cancelled"):
            await settle(feed, 1)
            log.add("a", kind)
        return await reader

    assert run(scene()) == [1, 2, 3, 4]


def test_many_streams_of_one_job_cost_one_reader(log, feed):
    log.add("a")

    async def scene():
        readers = [asyncio.create_task(collect(feed, "a", after=1)) for _ in range(50)]
        await settle(feed, 50)
        before = log.event_reads
        for _ in range(20):
            log.add("a")
            await asyncio.sleep(0.01)
        log.add("a", "job.succeeded")
        got = await asyncio.gather(*readers)
        return got, log.event_reads - before

    got, reads = run(scene())
    assert got == [list(range(2, 23))] * 50
    assert reads <= 21


def test_a_long_log_comes_whole_though_it_is_longer_than_page_and_memory(log, feed, monkeypatch):
    monkeypatch.setattr(feed_module, "_PAGE", 7)
    log.add("a")

    async def scene():
        early = asyncio.create_task(collect(feed, "a"))
        await settle(feed, 1)
        for _ in range(3000):
            log.add("a")
        log.add("a", "job.succeeded")
        late = asyncio.create_task(collect(feed, "a", after=5))
        return await early, await late

    early, late = run(scene())
    assert early == list(range(1, 3003))
    assert late == list(range(6, 3003))


def test_a_slow_reader_misses_nothing(log, feed):
    log.add("a")

    async def slow() -> list[int]:
        got = []
        async with aclosing(feed.follow("a", 0)) as following:
            async for event in following:
                if event is not None:
                    got.append(event.seq)
                    if event.seq in (1, 40):
                        await asyncio.sleep(0.2)
        return got

    async def scene():
        reader = asyncio.create_task(slow())
        for _ in range(1500):
            log.add("a")
            if len(log.events["a"]) % 300 == 0:
                await asyncio.sleep(0.03)
        log.add("a", "job.succeeded")
        return await reader

    assert run(scene()) == list(range(1, 1503))


def test_a_broken_database_delays_and_loses_nothing(log, feed, monkeypatch):
    monkeypatch.setattr(feed_module, "_RETRY_SECONDS", 0.01)
    log.add("a")

    async def scene():
        reader = asyncio.create_task(collect(feed, "a"))
        await settle(feed, 1)
        log.broken = True
        log.add("a")
        late = asyncio.create_task(collect(feed, "a"))
        await asyncio.sleep(0.1)
        log.broken = False
        log.add("a", "job.succeeded")
        return await reader, await late

    assert run(scene()) == ([1, 2, 3], [1, 2, 3])


def test_silence_is_broken_by_a_sign_of_life(log):
    feed = Feed(log.heads, log.read, poll_seconds=0.005, idle_seconds=0.02)
    log.add("a")

    async def scene():
        async with aclosing(feed.follow("a", 1)) as following:
            return [await anext(following) for _ in range(3)]

    assert run(scene()) == [None, None, None]


def test_nothing_is_asked_while_nobody_watches(log, feed):
    log.add("a")

    async def scene():
        reader = asyncio.create_task(collect(feed, "a"))
        await settle(feed, 1)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await settle(feed, 0)
        before = log.head_reads
        await asyncio.sleep(0.1)
        return log.head_reads - before

    assert run(scene()) == 0


def test_closing_ends_the_streams_and_the_poller(log, feed):
    log.add("a")

    async def scene():
        reader = asyncio.create_task(collect(feed, "a"))
        await settle(feed, 1)
        await feed.aclose()
        late = await collect(feed, "a")
        return await reader, late, {task.get_name() for task in asyncio.all_tasks()}

    early, late, tasks = run(scene())
    assert (early, late) == ([1], [])
    assert "event-feed" not in tasks


@settings(max_examples=25, deadline=None)
@given(
    bursts=st.lists(st.integers(0, 30), max_size=8),
    starts=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    page=st.integers(1, 10),
)
def test_every_stream_gets_exactly_what_lies_behind_its_start(bursts, starts, page):
    log = Log()
    log.add("a")
    feed = Feed(log.heads, log.read, poll_seconds=0.001, idle_seconds=5)

    async def scene():
        readers = []
        for burst, start in zip(bursts, [*starts, *starts, *starts], strict=False):
            readers.append((start, asyncio.create_task(collect(feed, "a", start))))
            for _ in range(burst):
                log.add("a")
            await asyncio.sleep(0.002)
        readers.append((0, asyncio.create_task(collect(feed, "a"))))
        log.add("a", "job.succeeded")
        return [(start, await reader) for start, reader in readers]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "_PAGE", page)
        for start, got in run(scene()):
            assert got == list(range(start + 1, len(log.events["a"]) + 1))
