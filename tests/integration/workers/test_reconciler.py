"""The reconciler: what was lost is sent again, what was left is taken back, and one leads."""

import threading
import time

import pytest
from builders import a_corpus_spec, a_manifest, a_proposal, a_spec
from sqlalchemy import text

from cuvee.errors import UnavailableError
from cuvee.states import JobState, RunState
from service.db.models import DEFAULT_TENANT
from service.db.session import make_engine
from service.queue import ADVANCE, CPU, EXECUTE, PREPARE
from service.usecases import advance, corpora, jobs, runs
from workers import reconciler


def sweep(worker, settings, publish=None):
    reconciler.sweep_once(worker.runtime.sessions, publish or worker.sent.append, settings)


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def age_messages(worker):
    """Let what is in the outbox be a minute old."""
    past = "now() - interval '1 minute'"
    worker.do(lambda s: s.execute(text(f"UPDATE outbox SET created_at = {past}")))


@pytest.fixture
def job(worker):
    """A running job with one queued run."""
    corpus = worker.register(a_corpus_spec())
    lease = worker.do(corpora.claim_preparation, corpus.id, "test")
    worker.do(corpora.complete_preparation, corpus.id, lease.attempt, a_manifest())
    job = worker.submit(a_spec(corpus=corpus.id, concurrency=1))
    decision = worker.do(advance.begin, job.id, "test")
    worker.do(advance.complete_proposals, job.id, decision.token, [a_proposal()], decision.digest)
    worker.sent.clear()
    return worker.job(job.id)


def test_a_message_that_the_broker_refused_is_sent_later(worker, settings):
    def refuse(_message):
        raise UnavailableError("down")

    worker.runtime.publish = refuse
    corpus = worker.register(a_corpus_spec())
    age_messages(worker)
    sweep(worker, settings, refuse)
    assert worker.sent == []
    sweep(worker, settings)
    assert (PREPARE, corpus.id) in {(m.task, m.entity_id) for m in worker.sent}
    worker.sent.clear()
    sweep(worker, settings)
    assert worker.sent == []


def test_a_run_whose_message_was_lost_is_rung_for_again(worker, settings, job):
    age_messages(worker)
    sweep(worker, settings)
    assert (EXECUTE, CPU) in {(m.task, m.queue) for m in worker.sent}


def test_a_job_whose_decision_was_never_taken_is_rung_for_again(worker, settings, job):
    lease = worker.do(runs.claim_run, CPU, "test", 60)
    worker.do(runs.release_run, lease.run_id, lease.attempt)
    lease = worker.do(runs.claim_run, CPU, "test", 60)
    from builders import losses

    worker.do(runs.observe, lease.run_id, lease.attempt, losses(), 100, 1.0)
    worker.sent.clear()
    age_messages(worker)
    sweep(worker, settings)
    assert (ADVANCE, job.id) in {(m.task, m.entity_id) for m in worker.sent}


def test_the_run_of_a_silent_worker_goes_back_to_the_queue_and_is_rung_for(worker, settings, job):
    lease = worker.do(runs.claim_run, CPU, "test", 0.05)
    time.sleep(0.1)
    sweep(worker, settings)
    run = worker.do(runs.get_run, DEFAULT_TENANT, lease.run_id)
    assert (run.state, run.attempt) == (RunState.QUEUED, 1)
    assert EXECUTE in {m.task for m in worker.sent}


def test_a_cancelled_job_with_nothing_in_flight_is_settled(worker, settings, job):
    worker.do(jobs.cancel_job, DEFAULT_TENANT, job.id)
    sweep(worker, settings)
    assert worker.job(job.id).state == JobState.CANCELLED


def test_a_step_that_fails_does_not_keep_the_others_from_running(
    worker, settings, job, monkeypatch
):
    def broken(*_, **__):
        from sqlalchemy.exc import OperationalError

        raise OperationalError("select", {}, Exception("canceling statement"))

    monkeypatch.setattr(reconciler.sweep, "expire_leases", broken)
    age_messages(worker)
    sweep(worker, settings)
    assert EXECUTE in {m.task for m in worker.sent}


class Running:
    """A reconciler in a thread; ``sweeps`` counts the rounds that it led."""

    def __init__(self, settings):
        self.engine = make_engine(settings.database_url, role="reconciler", pool_size=2)
        self.stop = threading.Event()
        self.thread = threading.Thread(
            target=reconciler.run, args=(self.engine, None, settings, self.stop)
        )
        self.thread.start()

    def end(self):
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.engine.dispose()


def holders(worker):
    """Backends that hold the reconcilers' lock."""
    query = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
    return worker.do(lambda s: list(s.scalars(query)))


def test_one_leads_and_another_takes_over(worker, settings):
    first = Running(settings)
    wait_until(lambda: holders(worker))
    second = Running(settings)
    (leader,) = holders(worker)
    time.sleep(0.3)
    assert holders(worker) == [leader]
    first.end()
    wait_until(lambda: holders(worker) not in ([], [leader]))
    second.end()
    wait_until(lambda: not holders(worker))


def test_a_leader_that_lost_its_connection_leads_again(worker, settings):
    running = Running(settings)
    wait_until(lambda: holders(worker))
    (leader,) = holders(worker)
    worker.do(lambda s: s.execute(text(f"SELECT pg_terminate_backend({leader})")))
    wait_until(lambda: holders(worker) not in ([], [leader]))
    running.end()
