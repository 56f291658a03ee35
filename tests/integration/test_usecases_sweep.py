"""What the reconciler heals: silent workers, lost messages, states that nobody ends."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_proxy_rung
from sqlalchemy import text
from sqlalchemy.orm import Session

from cuvee.records import Problem
from cuvee.states import JobState, RunState
from service.edge import unit_of_work
from service.queue import ADVANCE, CPU, EXECUTE, PREPARE, TRAIN, Message, enqueue
from service.usecases import corpora, jobs, runs, sweep

NAN = Problem(code="loss_not_finite", message="the loss is NaN at step 7")
OOM = Problem(code="worker_lost", message="killed by signal 9")


# ------------------------------------------------------------------------------------------------
# The outbox


def test_what_is_committed_is_published_once_and_what_is_rolled_back_never(desk: Any) -> None:
    def enqueue_and_fail(session: Session) -> None:
        enqueue(session, ADVANCE, "rolled back")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        desk.do(enqueue_and_fail)
    with desk.work() as session:
        enqueue(session, ADVANCE, "committed")
        enqueue(session, ADVANCE, "committed")
        assert desk.sent == []
    assert desk.sent == [Message(ADVANCE, "committed", CPU)]
    assert desk.do(sweep.relay_outbox, older_than=0) == []


def test_a_broker_that_fails_costs_nothing_but_a_relay(desk: Any) -> None:
    published = []

    def flaky(message: Message) -> None:
        if published:
            raise ConnectionError("broker is gone")
        published.append(message)

    with unit_of_work(desk.sessions, flaky) as session:
        for name in ("first", "second", "third"):
            enqueue(session, ADVANCE, name)
    relayed = desk.do(sweep.relay_outbox, older_than=0)
    assert [m.entity_id for m in published + relayed] == ["first", "second", "third"]
    assert desk.do(sweep.relay_outbox, older_than=0) == []


def test_a_relay_that_cannot_publish_keeps_the_messages(desk: Any) -> None:
    with unit_of_work(desk.sessions) as session:
        enqueue(session, EXECUTE, "run", TRAIN)

    def relay_and_fail(session: Session) -> None:
        assert len(sweep.relay_outbox(session, older_than=0)) == 1
        raise ConnectionError

    with pytest.raises(ConnectionError):
        desk.do(relay_and_fail)
    assert desk.do(sweep.relay_outbox, older_than=0) == [Message(EXECUTE, "run", TRAIN)]


def test_a_message_that_its_edge_may_still_be_publishing_is_left_alone(desk: Any) -> None:
    with unit_of_work(desk.sessions) as session:
        enqueue(session, ADVANCE, "fresh")
    assert desk.do(sweep.relay_outbox) == []


def test_published_messages_and_old_keys_are_deleted(desk: Any) -> None:
    desk.do(
        corpora.register_corpus, desk.tenant, desk.corpus().spec.model_copy(update={"name": "b"}),
        idempotency=("key", "hash"),
    )  # fmt: skip
    assert desk.do(sweep.purge) == 0
    desk.sql("UPDATE outbox SET published_at = now() - interval '2 hours'")
    desk.sql("UPDATE idempotency_key SET created_at = now() - interval '49 hours'")
    assert desk.do(sweep.purge) == 3


# ------------------------------------------------------------------------------------------------
# Ringing again


def test_a_wiped_broker_is_healed_from_the_tables(desk: Any) -> None:
    desk.ready_corpus()
    waiting = desk.corpus(name="waiting")
    idle = desk.accept()
    searching = desk.accept()
    queued = desk.propose(searching.id)
    desk.sql("UPDATE outbox SET created_at = now() - interval '1 hour', published_at = now()")
    desk.sent.clear()
    assert desk.do(sweep.ring_again, 30) == 4
    assert set(desk.sent) == {
        Message(PREPARE, waiting.id, CPU),
        Message(ADVANCE, idle.id, CPU),
        *(Message(EXECUTE, run_id, CPU) for run_id in queued),
    }
    assert desk.do(sweep.ring_again, 30) == 0


def test_nothing_is_rung_for_that_cannot_go_on(desk: Any) -> None:
    corpus = desk.corpus()
    waiting = desk.accept()
    desk.prepare(corpus.id)
    paused, full = desk.accept(), desk.accept(concurrency=1)
    desk.propose(full.id)
    desk.held()
    desk.do(jobs.pause_job, desk.tenant, paused.id)
    desk.begin(waiting.id)  # somebody is deciding
    desk.sql("DELETE FROM outbox")
    assert desk.do(sweep.ring_again, 0) == 0


def test_each_kind_of_rung_rings_its_own_pool(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept(rungs=(a_proxy_rung(),))
    desk.sent.clear()
    desk.propose(job.id)
    assert {m.queue for m in desk.sent if m.task == EXECUTE} == {TRAIN}
    assert desk.claim("cpu") is None
    assert desk.claim("train") is not None


# ------------------------------------------------------------------------------------------------
# Silent workers


def test_a_lost_run_goes_back_to_the_queue_and_fails_when_its_attempts_are_used_up(
    desk: Any,
) -> None:
    job = desk.searching_job(concurrency=1)
    for attempt in (1, 2, 3):
        lease = desk.held()
        assert lease.attempt == attempt
        desk.let_lease_end(lease.run_id)
        assert desk.do(sweep.expire_leases, max_attempts=3) == 1
    run = desk.run(lease.run_id)
    assert run.state is RunState.FAILED
    assert run.error.code == "attempts_exhausted"
    assert "worker-1" in run.error.message
    assert desk.event_types(job.id).count("run.lost") == 2
    assert ADVANCE in {message.task for message in desk.sent}


def test_a_lease_that_is_renewed_in_time_is_not_taken(desk: Any) -> None:
    desk.searching_job()
    lease = desk.held()
    desk.let_lease_end(lease.run_id)
    assert desk.do(runs.renew_run, lease.run_id, lease.attempt, 0.1) == "continue"
    assert desk.do(sweep.expire_leases) == 0


def test_a_worker_that_renews_without_getting_anywhere_is_stuck(desk: Any) -> None:
    desk.searching_job()
    lease = desk.held()
    desk.do(runs.renew_run, lease.run_id, lease.attempt, 0.5)
    desk.sql("UPDATE run_lease SET progress_at = now() - interval '31 minutes'")
    desk.do(runs.renew_run, lease.run_id, lease.attempt, 0.5)
    assert desk.do(sweep.expire_leases, stall_seconds=1800) == 1
    assert desk.run(lease.run_id).state is RunState.QUEUED


def test_progress_keeps_a_slow_worker_its_run(desk: Any) -> None:
    desk.searching_job()
    lease = desk.held()
    desk.sql("UPDATE run_lease SET progress_at = now() - interval '31 minutes'")
    desk.do(runs.renew_run, lease.run_id, lease.attempt, 0.001)
    assert desk.do(sweep.expire_leases, stall_seconds=1800) == 0
    assert desk.run(lease.run_id).progress == pytest.approx(0.001)


def test_machine_trouble_is_counted_and_a_release_is_not(desk: Any) -> None:
    desk.searching_job(concurrency=1)
    for _ in range(4):
        lease = desk.held()
        desk.do(runs.release_run, lease.run_id, lease.attempt)
    for _ in range(2):
        lease = desk.held()
        desk.do(runs.fail_run, lease.run_id, lease.attempt, "infrastructure", OOM, max_attempts=3)
        assert desk.run(lease.run_id).state is RunState.QUEUED
    lease = desk.held()
    desk.do(runs.fail_run, lease.run_id, lease.attempt, "infrastructure", OOM, max_attempts=3)
    failed = desk.run(lease.run_id)
    assert failed.state is RunState.FAILED
    assert "killed by signal 9" in failed.error.message
    with desk.work() as session:
        outcomes = session.scalars(text("SELECT outcome FROM run_attempt ORDER BY attempt")).all()
    assert outcomes == ["released"] * 4 + ["lost"] * 2 + ["failed"]


# ------------------------------------------------------------------------------------------------
# Failures beyond sense


def test_a_user_error_fails_its_run_at_once_and_the_search_goes_on(desk: Any) -> None:
    job = desk.searching_job(concurrency=2)
    lease = desk.held()
    desk.do(runs.fail_run, lease.run_id, lease.attempt, "user", NAN)
    assert desk.run(lease.run_id).error == NAN
    assert desk.job(job.id).state is JobState.RUNNING
    assert desk.begin(job.id).count == 1


def test_a_job_fails_when_most_of_its_runs_do(desk: Any) -> None:
    job = desk.searching_job(concurrency=6)
    desk.measure(desk.held())
    desk.measure(desk.held())
    for _ in range(3):
        assert desk.job(job.id).state is JobState.RUNNING
        lease = desk.held()
        desk.do(runs.fail_run, lease.run_id, lease.attempt, "user", NAN)
    failed = desk.job(job.id)
    assert failed.state is JobState.FAILED
    assert failed.error.code == "too_many_failures"
    assert "3 of 5 finished runs failed" in failed.error.message
    assert "NaN at step 7" in failed.error.message
    assert desk.claim() is None


def test_a_job_fails_when_a_mixture_cannot_be_verified(desk: Any) -> None:
    job = desk.searching_job(concurrency=4)
    desk.work_off()
    desk.verify(job.id, ("recommended", "recommended", "baseline"))
    first, second = desk.held(), desk.held()
    desk.do(runs.fail_run, first.run_id, first.attempt, "user", NAN)
    assert desk.job(job.id).state is JobState.RUNNING
    desk.do(runs.fail_run, second.run_id, second.attempt, "user", NAN)
    failed = desk.job(job.id)
    assert failed.state is JobState.FAILED
    assert failed.error.code == "verification_failed"
    assert "recommended" in failed.error.message


# ------------------------------------------------------------------------------------------------
# States that nobody ends


def test_a_worker_that_ignores_a_cancellation_loses_its_run(desk: Any) -> None:
    job = desk.searching_job()
    lease = desk.held()
    desk.do(jobs.cancel_job, desk.tenant, job.id)
    assert desk.do(sweep.settle_jobs, cancel_seconds=120) == 0
    desk.sql("UPDATE job SET state_since = now() - interval '3 minutes'")
    assert desk.do(sweep.settle_jobs, cancel_seconds=120) == 1
    assert desk.job(job.id).state is JobState.CANCELLED
    assert desk.run(lease.run_id).state is RunState.CANCELLED


def test_a_run_lost_while_cancelling_is_not_tried_again(desk: Any) -> None:
    job = desk.searching_job()
    lease = desk.held()
    desk.do(jobs.cancel_job, desk.tenant, job.id)
    desk.let_lease_end(lease.run_id)
    desk.do(sweep.expire_leases)
    assert desk.run(lease.run_id).state is RunState.CANCELLED
    assert desk.job(job.id).state is JobState.CANCELLED


def test_a_run_lost_while_pausing_waits_for_the_resumption(desk: Any) -> None:
    job = desk.searching_job()
    lease = desk.held()
    desk.do(jobs.pause_job, desk.tenant, job.id)
    desk.let_lease_end(lease.run_id)
    desk.do(sweep.expire_leases)
    assert desk.job(job.id).state is JobState.PAUSED
    desk.do(jobs.resume_job, desk.tenant, job.id)
    assert desk.held().run_id == lease.run_id
