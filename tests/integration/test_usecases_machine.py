"""A job's life as a game of random moves, with everything that must hold checked after each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builders import (
    a_point,
    a_proposal,
    a_recommendation,
    a_report,
    an_ngram_rung,
    losses,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.orm import Session

from cuvee.errors import FencedError, TransitionError
from cuvee.records import Job, Problem
from cuvee.states import JobState, RunState
from service.usecases import advance, jobs, runs, sweep
from service.usecases.runs import RunLease

PROBLEM = Problem(code="broken", message="it broke")
ATTEMPTS = 2


class Life(RuleBasedStateMachine):
    """One job; ``leases`` are what workers believe to hold, rightly or not."""

    desk: Any

    @initialize(concurrency=st.integers(1, 3))
    def accept(self, concurrency: int) -> None:
        self.desk.sql("TRUNCATE corpus, outbox, idempotency_key CASCADE")
        self.desk.ready_corpus()
        rungs = (an_ngram_rung(runs=20),)
        self.job_id = self.desk.accept(concurrency=concurrency, rungs=rungs).id
        self.leases: list[RunLease] = []
        self.decision: advance.Decision | None = None

    def _try(self, use_case: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A move that the present state may refuse; a refusal must change nothing."""
        before = self.desk.event_types(self.job_id)
        try:
            return self.desk.do(use_case, *args, **kwargs)
        except (FencedError, TransitionError):
            assert self.desk.event_types(self.job_id) == before
            return None

    # -- decisions

    @rule()
    def begin(self) -> None:
        decision = self.desk.begin(self.job_id)
        if decision is not None:
            self.decision = decision

    @precondition(lambda self: self.decision is not None)
    @rule(fewer=st.booleans(), stop=st.sampled_from([False, False, True]))
    def decide(self, fewer: bool, stop: bool) -> None:
        decision, self.decision = self.decision, None
        assert decision is not None
        job, token = decision.job_id, decision.token
        if decision.phase == "reporting":
            self._try(advance.finish, job, token, a_report(job_id=job))
        elif decision.stop is not None or (stop and decision.history.observations):
            proposals = [a_proposal(purpose="verify", label=x) for x in ("recommended", "baseline")]
            self._try(
                advance.start_verification, job, token, a_recommendation(), proposals, "certain"
            )
        else:
            proposals = [a_proposal()] * (1 if fewer else decision.count)
            self._try(advance.complete_proposals, job, token, proposals, decision.digest)

    @rule()
    def lose_decision(self) -> None:
        self.desk.sql("UPDATE advance_claim SET expires_at = now() - interval '1 second'")
        self.desk.do(sweep.expire_leases, max_attempts=ATTEMPTS)

    # -- workers

    @rule()
    def claim(self) -> None:
        lease = self.desk.claim()
        if lease is not None:
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), move=st.sampled_from(["start", "renew", "point", "observe", "observe"]))
    def work(self, data: st.DataObject, move: str) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        run, attempt = lease.run_id, lease.attempt
        match move:
            case "start":
                self._try(runs.start_run, run, attempt)
            case "renew":
                self._try(runs.renew_run, run, attempt, 0.5)
            case "point":
                self._try(runs.append_point, run, attempt, a_point())
            case "observe":
                self._try(runs.observe, run, attempt, losses(), 1, 1.0)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), move=st.sampled_from(["user", "infrastructure", "release", "lose"]))
    def give_up(self, data: st.DataObject, move: str) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        run, attempt = lease.run_id, lease.attempt
        match move:
            case "user" | "infrastructure":
                self._try(runs.fail_run, run, attempt, move, PROBLEM, max_attempts=ATTEMPTS)
            case "release":
                self._try(runs.release_run, run, attempt)
            case "lose":
                self.desk.sql(
                    "UPDATE run_lease SET lease_until = now() - interval '1 second'"
                    " WHERE run_id = :run AND lease_until IS NOT NULL",
                    run=run,
                )
                self.desk.do(sweep.expire_leases, max_attempts=ATTEMPTS)

    # -- users and the reconciler

    @rule(verb=st.sampled_from([jobs.pause_job, jobs.resume_job, jobs.resume_job]))
    def ask(self, verb: Callable[..., Any]) -> None:
        self._try(verb, self.desk.tenant, self.job_id)

    @precondition(lambda self: len(self.leases) > 3)
    @rule()
    def cancel(self) -> None:
        self._try(jobs.cancel_job, self.desk.tenant, self.job_id)

    @rule()
    def reconcile(self) -> None:
        self.desk.do(sweep.settle_jobs)
        self.desk.do(sweep.ring_again, 0)
        self.desk.do(sweep.relay_outbox, older_than=0)

    # -- what must hold

    @invariant()
    def promises_are_kept(self) -> None:
        with self.desk.work() as session:
            job = jobs.get_job(session, self.desk.tenant, self.job_id)
            the_log_has_no_gap_and_tells_the_state(session, job)
            each_run_is_measured_once_if_it_succeeded_and_found_if_it_is_not_over(session)
            attempts_are_complete_and_only_held_ones_are_open(session)
            no_more_runs_are_held_than_may_be(session, job)
            if job.state.terminal:
                assert _rows(session, "SELECT 1 FROM run_lease") == []
                assert _rows(session, "SELECT 1 FROM advance_claim") == []
            if job.state in (JobState.ACCEPTED, JobState.RUNNING):
                somebody_will_move_it(session)


def _rows(session: Session, query: str) -> list[Any]:
    return list(session.execute(text(query)))


def the_log_has_no_gap_and_tells_the_state(session: Session, job: Job) -> None:
    events = jobs.list_events(session, job.id, 0, 10_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    states = [e.type.removeprefix("job.") for e in events if e.type.startswith("job.")]
    told = [state for state in states if state != "phase"][-1].replace("resumed", "running")
    assert job.state == told
    assert [e.seq for e in events if e.ends_job] == [len(events)] * job.state.terminal


def each_run_is_measured_once_if_it_succeeded_and_found_if_it_is_not_over(
    session: Session,
) -> None:
    rows = _rows(
        session,
        "SELECT r.state, count(o.run_seq), count(l.run_id), bool_or(l.lease_until IS NOT NULL),"
        " r.attempt, max(l.attempt) FROM run r LEFT JOIN observation o USING (run_seq)"
        " LEFT JOIN run_lease l ON l.run_id = r.id GROUP BY r.id",
    )
    for state, measured, leases, held, attempt, of_lease in rows:
        assert measured == (state == RunState.SUCCEEDED)
        assert leases == (not RunState(state).terminal)
        assert bool(held) == (state in (RunState.LEASED, RunState.RUNNING))
        assert of_lease in (None, attempt)


def attempts_are_complete_and_only_held_ones_are_open(session: Session) -> None:
    rows = _rows(
        session,
        "SELECT r.attempt, count(a.attempt), count(*) FILTER (WHERE a.outcome IS NULL"
        " AND a.attempt IS NOT NULL), bool_or(l.lease_until IS NOT NULL)"
        " FROM run r LEFT JOIN run_attempt a USING (run_seq)"
        " LEFT JOIN run_lease l ON l.run_id = r.id GROUP BY r.id",
    )
    for attempt, recorded, open_, held in rows:
        assert recorded == attempt
        assert open_ == bool(held)


def no_more_runs_are_held_than_may_be(session: Session, job: Job) -> None:
    query = "SELECT count(*) FROM run_lease WHERE lease_until IS NOT NULL"
    ((held,),) = _rows(session, query)
    assert held <= (0 if job.state is JobState.PAUSED else job.spec.concurrency)


def somebody_will_move_it(session: Session) -> None:
    """A run in flight, a decision being made, or a bell that the reconciler would ring."""
    owners = "SELECT job_id FROM run_lease UNION ALL SELECT job_id FROM advance_claim"
    if not _rows(session, owners):
        session.execute(text("DELETE FROM outbox"))
        assert sweep.ring_again(session, 0) >= 1


def test_a_job_keeps_its_promises_whatever_happens(desk: Any) -> None:
    machine = type("LifeOnDesk", (Life,), {"desk": desk})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=10,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
