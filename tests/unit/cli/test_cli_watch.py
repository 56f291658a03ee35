"""Following a job: plain lines, the live display, interruptions and exit codes."""

from __future__ import annotations

import io

import httpx
import pytest
from rich.console import Console

from cuvee.answer import Diagnosis, VerificationPlan
from cuvee.cli.progress import Snapshot, describe_event, follow, show
from cuvee.client import Client
from cuvee.errors import NotFoundError, UnavailableError
from cuvee.states import CorpusState, JobState
from tests.unit.cli.fake_server import a_corpus, a_job, a_problem, an_event


@pytest.fixture
def client(server):
    return Client("http://test", transport=httpx.MockTransport(server), retry_delays=())


def a_console(*, terminal: bool = False) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=100, highlight=False, markup=False,
        _environ={"TERM": "xterm"},
    )  # fmt: skip


def test_without_a_terminal_there_is_a_line_for_every_change(server, client):
    done = {"runs_done": 14, "best": 2.1, "baseline": 2.3, "phase": "done"}
    server.add_job(
        a_job(state=JobState.ACCEPTED, progress={"phase": "waiting"}),
        a_job(state=JobState.ACCEPTED, progress={"phase": "preparing"}),
        a_job(progress={"seconds_left": 130}),
        a_job(progress={"seconds_left": 120}),
        a_job(progress={"runs_done": 3, "best": 2.345, "seconds_left": 100}),
        a_job(progress={"runs_done": 9, "runs_failed": 1, "best": 2.1, "baseline": 2.3}),
        a_job(state=JobState.SUCCEEDED, progress=done),
    )
    server.add_corpus(a_corpus(state=CorpusState.PREPARING, progress="tokens of plays"))
    console = a_console()
    ticks = iter(range(0, 1000, 10))
    job = show(follow(client, "job-1", sleep=lambda _: None), console, clock=lambda: next(ticks))
    assert job.state == JobState.SUCCEEDED
    assert console.file.getvalue() == (
        "    10s  accepted, 0/14 runs, corpus preparing: tokens of plays\n"
        "    20s  searching, 0/14 runs, about 2m 10s left\n"
        "    30s  searching, 3/14 runs, best 2.345 bits per byte, about 1m 40s left\n"
        "    40s  searching, 9/14 runs, 1 failed, best 2.100 bits per byte "
        "(0.200 better than the baseline's 2.300)\n"
        "    50s  succeeded, 14/14 runs, best 2.100 bits per byte "
        "(0.200 better than the baseline's 2.300)\n"
    )


def test_in_a_terminal_progress_and_last_events_are_redrawn():
    events = tuple(an_event(n, "run.succeeded", objective=2.0 + n) for n in range(1, 10))
    console = a_console(terminal=True)
    show(
        [
            Snapshot(a_job(), events=events[:2]),
            Snapshot(a_job(state=JobState.SUCCEEDED), events=events[2:]),
        ],
        console,
    )
    last = console.file.getvalue().rpartition("watched")[2]
    assert "succeeded, 0/14 runs" in last
    assert "run.succeeded 11.000 bits per byte" in last
    assert "run.succeeded 5.000" not in last  # only the latest are kept


@pytest.mark.parametrize("terminal", [False, True])
def test_the_doctors_warnings_are_shown_once_when_they_have_come(terminal):
    ill = a_job(diagnosis=Diagnosis(anchors=6, repeats=3, sets=(), warnings=("code is drowned",)))
    console = a_console(terminal=terminal)
    found = an_event(2, "job.diagnosed", warnings=["code is drowned"])
    show([Snapshot(a_job()), Snapshot(ill, events=(found,)), Snapshot(ill), Snapshot(ill)], console)
    assert console.file.getvalue().count("Warning: code is drowned") == 1
    assert ("job.diagnosed 1 warning" in console.file.getvalue()) == terminal


@pytest.mark.parametrize("terminal", [False, True])
def test_what_the_pairs_can_show_is_told_when_they_are_about_to_be_made(terminal):
    plan = VerificationPlan(
        reference="baseline", pairs=3, noise=0.02, detectable=0.05, power=0.4, pairs_for_power=9
    )
    known = plan.model_dump(mode="json") | {"of_a_newer_server": 1}
    begun = an_event(2, "job.phase", phase="verifying", plan=[known])
    over = an_event(3, "job.phase", phase="reporting")
    console = a_console(terminal=terminal)
    show([Snapshot(a_job(), events=(begun,)), Snapshot(a_job(), events=(over,))], console)
    said = " ".join(console.file.getvalue().split())
    assert said.count("Plan: Against the baseline: 3 pairs") == 1
    assert "9 pairs would do for 80%" in said


def test_a_doctor_without_warnings_says_nothing():
    well = a_job(diagnosis=Diagnosis(anchors=6, repeats=3, sets=()))
    console = a_console()
    show([Snapshot(a_job()), Snapshot(well)], console)
    assert "Warning" not in console.file.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    show([Snapshot(a_job(state=JobState.SUCCEEDED))], console)
    assert "\x1b" not in console.file.getvalue()


def test_every_event_is_seen_once_whatever_the_page(server, client, monkeypatch):
    monkeypatch.setattr("cuvee.cli.progress._PAGE", 2)
    monkeypatch.setattr(
        client, "list_events", lambda job, after, limit: _page(server, job, after, limit)
    )
    server.add_job(a_job(), a_job(), a_job(state=JobState.SUCCEEDED))
    server.events["job-1"] = [an_event(n, "run.started") for n in range(1, 6)]
    seen = [e.seq for s in follow(client, "job-1", sleep=lambda _: None) for e in s.events]
    assert seen == [1, 2, 3, 4, 5]


def _page(server, job, after, limit):
    from cuvee.records import Event, Page

    behind = [e for e in server.events[job] if e.seq > after][:limit]
    return Page[Event](items=tuple(behind))


def test_a_server_that_restarts_is_waited_for(server, client):
    server.add_job(a_job(), a_job(progress={"runs_done": 1}), a_job(state=JobState.SUCCEEDED))

    def sleep(_: float) -> None:
        server.down = 1 if len(server.urls) == 2 else 0

    notes = [s.note for s in follow(client, "job-1", sleep=sleep)]
    assert notes == ["", "the server does not answer; trying again", "", ""]


def test_a_server_that_stays_away_ends_the_watching(server, client):
    server.add_job(a_job(), a_job(), a_job())
    ticks = iter(range(0, 10_000, 50))

    def sleep(_: float) -> None:
        server.down = 1

    with pytest.raises(UnavailableError):
        list(follow(client, "job-1", sleep=sleep, clock=lambda: next(ticks)))


def test_following_a_job_that_is_not_there_is_an_error(client):
    with pytest.raises(NotFoundError):
        next(follow(client, "nowhere"))


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        (JobState.SUCCEEDED, 0, "cuvee report job-1"),
        (JobState.FAILED, 1, "Job failed: no law fits"),
        (JobState.CANCELLED, 3, "Job cancelled: asked for"),
    ],
)
def test_the_exit_code_says_how_the_job_ended(cuvee, server, state, code, said):
    error = a_problem("no law fits") if state == JobState.FAILED else None
    server.add_job(a_job(state=state, error=error, stop_reason="asked for"))
    result = cuvee("watch", "job-1")
    assert result.exit_code == code
    assert said in result.output


def test_an_event_is_told_in_a_line():
    event = an_event(
        3, "run.proposed", label="natural", reason="first runs", run_id="0199-12345678"
    )
    assert describe_event(event) == "run.proposed natural first runs run 12345678"
