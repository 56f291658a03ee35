"""Feeding the streams of events: one poller per process reads the log for all of them.

A stream that waits holds no thread and no database connection; it waits for the poller, which asks
one question a tick: how far is the log of each watched job? Only then are new events read, once,
whatever the number of streams on that job.

A stream asks for what lies behind the last sequence number it sent. What is not in the channel's
short memory (a client that was away, a slow one) is read from the log itself, so nothing can be
missing, memory is bounded, and a slow reader delays nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from cuvee.records import Event

__all__ = ["Feed", "Head", "ReadEvents", "ReadHeads"]

T = TypeVar("T")

POLL_SECONDS = 0.25
"""Delay of an event on its way to a stream: at most this and one query."""

IDLE_SECONDS = 15.0
"""A stream without events is given a sign of life this often; proxies cut silent connections."""

_PAGE = 200
_MEMORY = 1000
_THREADS = 4
_RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """How far the log of a job is."""

    last_seq: int
    ended: bool

    def ended_by(self, seq: int) -> bool:
        """Whether nothing can follow ``seq``."""
        return self.ended and seq >= self.last_seq


ReadHeads = Callable[[Collection[str]], Mapping[str, Head]]
"""Job ids to heads; a job that is not there is left out."""

ReadEvents = Callable[[str, int, int], Sequence[Event]]
"""``(job_id, after, limit)`` to the events behind ``after``, in order."""


@dataclass(slots=True)
class _Channel:
    """What the poller knows of one job, and who waits for more."""

    watchers: int = 0
    head: Head | None = None
    recent: deque[Event] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def behind(self, seq: int) -> Sequence[Event] | None:
        """Events after ``seq``, or None when only the log itself can tell."""
        if self.head is None:
            return None
        if seq >= self.head.last_seq:
            return []
        if self.recent and self.recent[0].seq <= seq + 1:
            return [event for event in self.recent if event.seq > seq]
        return None

    def announce(self, head: Head, events: Sequence[Event]) -> None:
        if self.recent and events and events[0].seq != self.recent[-1].seq + 1:
            self.recent.clear()
        self.recent.extend(events)
        self.head = head
        self.wake()

    def wake(self) -> None:
        waiting, self.news = self.news, asyncio.Event()
        waiting.set()


class Feed:
    """Streams of job events, all fed by one poller, which runs only while there are streams.

    Args:
        read_heads: Blocking; called in a thread once a tick.
        read_events: Blocking; called in a thread when a log has grown.
        poll_seconds: Pause between ticks.
        idle_seconds: After this long without an event ``follow`` yields None.
    """

    def __init__(
        self,
        read_heads: ReadHeads,
        read_events: ReadEvents,
        *,
        poll_seconds: float = POLL_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._read_heads = read_heads
        self._read_events = read_events
        self._poll_seconds = poll_seconds
        self._idle_seconds = idle_seconds
        self._channels: dict[str, _Channel] = {}
        self._poller: asyncio.Task[None] | None = None
        self._threads: CapacityLimiter | None = None
        self._ending = False

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return sum(channel.watchers for channel in self._channels.values())

    async def follow(self, job_id: str, after: int) -> AsyncGenerator[Event | None, None]:
        """Yield the events behind ``after`` and those that come, until the job's log ends.

        Yields None after each ``idle_seconds`` of silence. Events come in order, without a gap.
        Ends early when the feed does; whoever wants more asks again behind the last one.
        """
        with self._watching(job_id) as channel:
            while not self._ending:
                news = channel.news  # taken first: what is announced from here on wakes us
                events = channel.behind(after)
                if events is None:
                    events = await self._read_log(job_id, after)
                for event in events:
                    after = event.seq
                    yield event
                    if event.ends_job:
                        return
                if events:
                    continue
                if channel.head is not None and channel.head.ended_by(after):
                    return
                if not await self._wait(news):
                    yield None

    def end(self) -> None:
        """End every stream, so that a server that is asked to stop need not wait for them."""
        self._ending = True
        for channel in self._channels.values():
            channel.wake()

    async def aclose(self) -> None:
        """End every stream and the poller."""
        self.end()
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.cancel()
            with suppress(asyncio.CancelledError):
                await poller

    @contextmanager
    def _watching(self, job_id: str) -> Iterator[_Channel]:
        channel = self._channels.setdefault(job_id, _Channel())
        channel.watchers += 1
        if not self._ending and (self._poller is None or self._poller.done()):
            self._poller = asyncio.create_task(self._poll(), name="event-feed")
        try:
            yield channel
        finally:
            channel.watchers -= 1
            if channel.watchers == 0:
                del self._channels[job_id]

    async def _wait(self, news: asyncio.Event) -> bool:
        """Whether news came before the stream should give a sign of life."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                await news.wait()
        except TimeoutError:
            return False
        return True

    async def _poll(self) -> None:
        while self._channels:
            try:
                await self._tick()
            except Exception:
                # Whatever it is, streams are better late than dead.
                log.exception("the events of running jobs cannot be read now")
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(self._poll_seconds)

    async def _tick(self) -> None:
        heads = await self._in_thread(partial(self._read_heads, tuple(self._channels)))
        for job_id, head in heads.items():
            channel = self._channels.get(job_id)
            if channel is None or head == channel.head:
                continue
            if channel.head is None or head.last_seq == channel.head.last_seq:
                channel.announce(head, ())
                continue
            events = await self._page(job_id, channel.head.last_seq)
            if events:
                # If it is more than a page, the next tick goes on from here.
                last_seq = events[-1].seq
                channel.announce(Head(last_seq, head.ended_by(last_seq)), events)

    async def _read_log(self, job_id: str, after: int) -> Sequence[Event]:
        """A page of the log, for a stream that is further back than the channel remembers."""
        while True:
            try:
                return await self._page(job_id, after)
            except SQLAlchemyError as error:
                log.warning("events of job %s cannot be read now: %s", job_id, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _page(self, job_id: str, after: int) -> Sequence[Event]:
        return await self._in_thread(partial(self._read_events, job_id, after, _PAGE))

    async def _in_thread(self, read: Callable[[], T]) -> T:
        # Threads of its own: streams must not wait for requests, nor requests for streams.
        if self._threads is None:
            self._threads = CapacityLimiter(_THREADS)
        return await to_thread.run_sync(read, limiter=self._threads)
