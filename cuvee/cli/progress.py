"""Following a job: snapshots from the server, and the two ways to show them.

``follow`` yields what is new; ``show`` draws it, as one live display in a terminal or as a line per
change elsewhere. Neither ends the job when it is interrupted: the job belongs to the server.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cuvee.answer import VerificationPlan
from cuvee.cli.evidence import plan_lines
from cuvee.cli.words import bits, counted, duration, percent
from cuvee.client import Client
from cuvee.errors import UnavailableError
from cuvee.records import Event, Job
from cuvee.states import CorpusState, JobState

__all__ = ["Snapshot", "describe_event", "follow", "show", "status_line"]

_SHOWN_EVENTS = 6
_QUIET_EVENTS = frozenset({"run.leased"})
"""A moment before `run.started`, and nothing that a person would miss."""

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job at one moment.

    Attributes:
        job: The job, its progress in ``job.progress``.
        note: What the preparation of its corpus is doing, while the job waits for it; or that the
            server does not answer.
        events: What happened since the snapshot before.
    """

    job: Job
    note: str = ""
    events: tuple[Event, ...] = ()


def follow(
    client: Client,
    job_id: str,
    *,
    interval: float = 1.0,
    patience: float = 120.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Snapshot]:
    """Ask the server once per ``interval`` until the job has ended; the last snapshot is the end.

    A server that restarts is waited for, up to ``patience`` seconds.

    Raises:
        NotFoundError: When there is no such job.
        UnavailableError: When the server stays away for longer than ``patience``.
    """
    seen = 0
    last: Job | None = None
    answered = clock()
    while True:
        try:
            job = client.get_job(job_id)
            events: list[Event] = []
            while page := client.list_events(job.id, after=seen, limit=_PAGE).items:
                events += page
                seen = page[-1].seq
                if len(page) < _PAGE:
                    break
            snapshot = Snapshot(job, _corpus_note(client, job), tuple(events))
        except UnavailableError:
            if last is None or clock() - answered > patience:
                raise
            yield Snapshot(last, "the server does not answer; trying again")
        else:
            last, answered = job, clock()
            yield snapshot
            if job.state.terminal:
                return
        sleep(interval)


def _corpus_note(client: Client, job: Job) -> str:
    if job.progress.phase not in ("waiting", "preparing"):
        return ""
    corpus = client.get_corpus(job.corpus_id)
    if corpus.state == CorpusState.READY:
        return ""
    return f"corpus {corpus.state}" + (f": {corpus.progress}" if corpus.progress else "")


def status_line(snapshot: Snapshot, *, time_left: bool = True) -> str:
    """One line: state or phase, runs, best against the baseline, time left."""
    counts, best, left, note = _status(snapshot)
    return ", ".join(part for part in (counts, best, left if time_left else "", note) if part)


def _status(snapshot: Snapshot) -> tuple[str, str, str, str]:
    """State with counts of runs, best loss, time left, note; empty where nothing is to be said."""
    job, p = snapshot.job, snapshot.job.progress
    counts = p.phase if job.state == JobState.RUNNING else str(job.state)
    counts += f", {p.runs_done}/{p.runs_planned} runs"
    if p.runs_failed:
        counts += f", {p.runs_failed} failed"
    left = ""
    if p.seconds_left is not None and not job.state.terminal:
        left = f"about {duration(p.seconds_left)} left"
    return counts, _best(job), left, snapshot.note


def _best(job: Job) -> str:
    p = job.progress
    if p.best is None:
        return ""
    if p.baseline is None:
        return f"best {bits(p.best)} bits per byte"
    if p.best == p.baseline:
        return f"best {bits(p.best)} bits per byte (the baseline)"
    difference = f"{abs(p.baseline - p.best):.3f} {'better' if p.best <= p.baseline else 'worse'}"
    return (
        f"best {bits(p.best)} bits per byte ({difference} than the baseline's {bits(p.baseline)})"
    )


def show(
    snapshots: Iterable[Snapshot],
    console: Console,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Job:
    """Show a job's progress until the snapshots end, and return the job as it was then.

    In a terminal one display is redrawn; elsewhere a line is written for every change.
    """
    if console.is_terminal and not console.is_dumb_terminal:
        return _show_live(snapshots, console, clock)
    return _show_lines(snapshots, console, clock)


def _show_lines(snapshots: Iterable[Snapshot], console: Console, clock: Callable[[], float]) -> Job:
    start = clock()
    shown = ""
    job: Job | None = None
    for snapshot in snapshots:
        _warn(console, job, snapshot.job)
        _plan(console, snapshot.events)
        job = snapshot.job
        # The time left changes with every look; it alone is no news.
        news = status_line(snapshot, time_left=False)
        if news != shown:
            shown = news
            line = f"{duration(clock() - start):>7}  {status_line(snapshot)}"
            console.print(line, soft_wrap=True)
    assert job is not None, "a job has at least one snapshot"
    return job


def _show_live(snapshots: Iterable[Snapshot], console: Console, clock: Callable[[], float]) -> Job:
    start = clock()
    recent: deque[Event] = deque(maxlen=_SHOWN_EVENTS)
    job: Job | None = None
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for snapshot in snapshots:
            _warn(live.console, job, snapshot.job)
            _plan(live.console, snapshot.events)
            job = snapshot.job
            recent += (e for e in snapshot.events if e.type not in _QUIET_EVENTS)
            live.update(_panel(snapshot, recent, clock() - start), refresh=True)
    assert job is not None, "a job has at least one snapshot"
    return job


def _warn(console: Console, before: Job | None, now: Job) -> None:
    """Show the objective doctor's warnings once, when they have come; above a live display."""
    if now.diagnosis is None or (before is not None and before.diagnosis is not None):
        return
    for warning in now.diagnosis.warnings:
        console.print(Text(f"Warning: {warning}", style="yellow"), soft_wrap=True)


def _plan(console: Console, events: Iterable[Event]) -> None:
    """Show what the paired runs can show when they are about to be made."""
    for event in events:
        plan = [
            VerificationPlan.model_validate(one, extra="ignore")
            for one in event.payload.get("plan", ())
        ]
        for line in plan_lines(plan):
            console.print(Text(f"Plan: {line}"), soft_wrap=True)


def _panel(snapshot: Snapshot, recent: Iterable[Event], elapsed: float) -> Group:
    job, p = snapshot.job, snapshot.job.progress
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(job.name or job.id, style="bold"),
        ProgressBar(total=max(p.runs_planned, 1), completed=p.runs_done, width=30),
        Text(f"{duration(elapsed)} watched"),
    )
    counts, best, left, note = _status(snapshot)
    lines = [_line(", ".join(part for part in (counts, left, note) if part))]
    if best:
        lines.append(_line(best))
    lines += [_line(f"{_at(event)}  {describe_event(event)}", style="dim") for event in recent]
    return Group(bar, *lines)


def _line(text: str, style: str = "") -> Text:
    """A line that is cut rather than wrapped: a display that changes its height flickers."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _at(event: Event) -> str:
    return event.created_at.astimezone().strftime("%H:%M:%S")


def describe_event(event: Event) -> str:
    """An event in a line: its type and the few facts of its payload that people look for."""
    payload = event.payload
    facts = []
    if payload.get("label"):
        facts.append(str(payload["label"]))
    if isinstance(payload.get("objective"), float):
        facts.append(f"{bits(payload['objective'])} bits per byte")
    if isinstance(payload.get("progress"), float):
        facts.append(percent(payload["progress"]))
    facts += [str(payload[key]) for key in ("phase", "reason", "message") if payload.get(key)]
    if payload.get("warnings"):
        facts.append(counted(len(payload["warnings"]), "warning"))
    if isinstance(payload.get("run_id"), str):
        facts.append(f"run {payload['run_id'][-8:]}")
    return " ".join([event.type, *facts])
