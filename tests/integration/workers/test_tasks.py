"""What tasks do, called directly: whole jobs without a broker, repeated messages, failures."""

import shutil
import threading

import pytest
from builders import a_proposal, a_spec, an_ngram_rung
from sqlalchemy import text

from cuvee.spec import ProxyRung, Verification, WarmStart
from cuvee.states import CorpusState, JobState, RunState
from service.db.models import DEFAULT_TENANT
from service.queue import ADVANCE, CPU, EXECUTE, PREPARE, TRAIN
from service.usecases import advance, runs
from workers import execution
from workers.advancing import advance_job
from workers.poll import look
from workers.trainer import inherit_checkpoints

NGRAM = an_ngram_rung(runs=4, train_bytes=5000, eval_bytes=1000)
PROXY = ProxyRung(
    runs=1, parameters=20_000, tokens=16_384, sequence_length=32, batch_sequences=4,
    eval_tokens=500, evaluations=2,
)  # fmt: skip


def look_until_quiet(worker):
    while look(worker.runtime, [CPU]):
        pass


@pytest.fixture
def lonely(worker):
    """A worker without a broker: the outbox is its queue."""
    worker.runtime.publish = None
    return worker


def prepared(worker, corpus_spec):
    corpus = worker.register(corpus_spec)
    assert execution.prepare(worker.runtime, corpus.id)
    return worker.corpus(corpus.id)


def list_runs(worker, job):
    return worker.do(runs.list_runs, DEFAULT_TENANT, job.id).items


def test_a_whole_job_needs_no_broker(lonely, corpus_spec):
    worker = lonely
    corpus = worker.register(corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,)))
    look_until_quiet(worker)
    job = worker.job(job.id)
    assert job.state == JobState.SUCCEEDED, job.error
    assert all(run.state == RunState.SUCCEEDED for run in list_runs(worker, job))
    assert job.progress.runs_done == len(list_runs(worker, job)) >= NGRAM.runs


def test_the_objective_is_examined_before_the_search(lonely, corpus_spec):
    worker = lonely
    corpus = worker.register(corpus_spec)
    rung = NGRAM.model_copy(update={"runs": 12})
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(rung,), concurrency=1))
    look_until_quiet(worker)
    found = worker.job(job.id).diagnosis
    assert (found.anchors, found.repeats) == (3, 1)
    assert {s.eval_set for s in found.sets} == {"fruit", "tools"}
    told = [e for e in worker.events(job.id) if e in ("job.diagnosed", "run.succeeded")]
    assert told.index("job.diagnosed") == 4  # all of them, and no more
    assert told.count("job.diagnosed") == 1


def test_a_search_starts_warm_from_an_earlier_one(lonely, corpus_spec):
    worker = lonely
    corpus = worker.register(corpus_spec)
    first = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,)))
    look_until_quiet(worker)
    warm = worker.submit(
        a_spec(corpus=corpus.id, rungs=(NGRAM,), warm_start=WarmStart(jobs=(first.id,)))
    )
    look_until_quiet(worker)
    assert worker.job(warm.id).state == JobState.SUCCEEDED, worker.job(warm.id).error


def test_preparation_rings_for_the_jobs_that_wait(worker, corpus_spec):
    corpus = worker.register(corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,)))
    worker.sent.clear()
    assert execution.prepare(worker.runtime, corpus.id)
    assert [(m.task, m.entity_id) for m in worker.sent] == [(ADVANCE, job.id)]


def test_a_repeated_message_changes_nothing(worker, corpus_spec):
    corpus = prepared(worker, corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,), concurrency=1))
    assert not execution.prepare(worker.runtime, corpus.id)
    assert advance_job(worker.runtime, job.id)
    assert not any(advance_job(worker.runtime, job.id) for _ in range(5))
    assert len(list_runs(worker, job)) == 1
    assert execution.execute_runs(worker.runtime, CPU) == 1
    assert [execution.execute_runs(worker.runtime, CPU) for _ in range(5)] == [0] * 5
    assert worker.events(job.id).count("run.succeeded") == 1


def test_one_message_is_enough_for_all_waiting_runs(worker, corpus_spec):
    corpus = prepared(worker, corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,), concurrency=3))
    advance_job(worker.runtime, job.id)
    assert {m.task for m in worker.sent} >= {EXECUTE}
    assert execution.execute_runs(worker.runtime, CPU) == 3


def test_runs_of_another_pool_are_left_alone(worker, corpus_spec):
    corpus = prepared(worker, corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(PROXY,)))
    advance_job(worker.runtime, job.id)
    assert execution.execute_runs(worker.runtime, CPU) == 0
    assert TRAIN in {m.queue for m in worker.sent}


def test_a_draining_worker_claims_nothing(worker, corpus_spec):
    corpus = prepared(worker, corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,)))
    advance_job(worker.runtime, job.id)
    worker.runtime.draining.set()
    assert execution.execute_runs(worker.runtime, CPU) == 0


def test_text_that_cannot_be_used_fails_the_corpus_and_its_jobs_with_the_cause(
    lonely, corpus_spec, tmp_path
):
    worker = lonely
    (tmp_path / "fruit" / "7.txt").write_bytes(b"\xff\xfe not text")
    corpus = worker.register(corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,)))
    look_until_quiet(worker)
    corpus, job = worker.corpus(corpus.id), worker.job(job.id)
    assert corpus.state == CorpusState.FAILED
    assert corpus.error.code == "corpus_invalid"
    assert corpus.error.details["domain"] == "fruit"
    assert job.state == JobState.FAILED
    assert job.error.code == "corpus_invalid"


def test_a_run_that_cannot_be_computed_fails_at_once_and_says_why(worker, corpus_spec):
    corpus = prepared(worker, corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,), concurrency=1))
    advance_job(worker.runtime, job.id)
    shutil.rmtree(worker.runtime.settings.corpora_dir)
    assert execution.execute_runs(worker.runtime, CPU) >= 1
    run = list_runs(worker, job)[0]
    assert run.state == RunState.FAILED
    assert corpus.manifest.digest[:8] in run.error.message


def test_a_superseded_run_is_dropped_without_a_word(worker, corpus_spec, monkeypatch):
    corpus = prepared(worker, corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,), concurrency=1))
    advance_job(worker.runtime, job.id)
    real = runs.claim_run

    def claim_and_lose(session, *arguments):
        lease = real(session, *arguments)
        # Somebody else took it over meanwhile, as after a pause longer than the lease.
        session.execute(text("UPDATE run_lease SET lease_until = NULL, worker = NULL"))
        return lease

    monkeypatch.setattr(execution.runs, "claim_run", claim_and_lose)
    monkeypatch.setattr(worker.runtime.draining, "is_set", iter([False, True]).__next__)
    assert execution.execute_runs(worker.runtime, CPU) == 1
    assert "run.succeeded" not in worker.events(job.id)


def test_an_engine_that_cannot_answer_fails_the_job(worker, corpus_spec, monkeypatch):
    from cuvee import engine

    corpus = prepared(worker, corpus_spec)
    job = worker.submit(a_spec(corpus=corpus.id, rungs=(NGRAM,)))

    def broken(*_):
        raise ZeroDivisionError("a determinant of zero")

    monkeypatch.setattr(engine, "propose", broken)
    assert advance_job(worker.runtime, job.id)
    job = worker.job(job.id)
    assert job.state == JobState.FAILED
    assert job.error.code == "engine_failed"
    assert "determinant" in job.error.message


def test_a_stopped_training_goes_on_from_its_checkpoint_to_the_same_result(worker, corpus_spec):
    corpus = prepared(worker, corpus_spec)
    longer = PROXY.model_copy(update={"tokens": 4 * PROXY.tokens})  # to be caught in the middle
    spec = a_spec(
        corpus=corpus.id, rungs=(longer,), concurrency=1, verification=Verification(seeds=0)
    )
    interrupted, undisturbed = worker.submit(spec), worker.submit(spec)
    # One decision each: exactly the first run, whatever a whole search would do.
    rt = worker.runtime
    for job in (interrupted, undisturbed):
        decision = worker.do(advance.begin, job.id, "test")
        proposal = a_proposal(mixture=decision.problem.natural, seed=5)
        worker.do(advance.complete_proposals, job.id, decision.token, [proposal], decision.digest)

    # The first claim is the older job's run: drain as soon as it has made some progress.
    folder = rt.settings.runs_dir / list_runs(worker, interrupted)[0].id

    def drain_when_under_way():
        while not (list_runs(worker, interrupted)[0].progress or 0) > 0:
            rt.draining.wait(0.05)
        rt.draining.set()

    watcher = threading.Thread(target=drain_when_under_way)
    watcher.start()
    assert execution.execute_runs(rt, TRAIN) == 1
    watcher.join()
    stopped = list_runs(worker, interrupted)[0]
    assert stopped.state == RunState.QUEUED
    assert list((folder / "attempt-0001").glob("step-*.safetensors"))

    rt.draining.clear()
    assert execution.execute_runs(rt, TRAIN) == 2
    first, second = list_runs(worker, interrupted)[0], list_runs(worker, undisturbed)[0]
    assert (first.state, first.attempt) == (RunState.SUCCEEDED, 2)
    assert (second.state, second.attempt) == (RunState.SUCCEEDED, 1)
    assert first.losses == second.losses
    assert not folder.exists()  # what nothing will resume from is gone


def test_an_attempt_inherits_the_furthest_checkpoint_and_leaves_the_others_alone(tmp_path):
    for attempt, steps in ((1, (10, 30)), (2, (20,))):
        folder = tmp_path / f"attempt-{attempt:04d}"
        folder.mkdir()
        for step in steps:
            (folder / f"step-{step:09d}.safetensors").write_text(f"{attempt}:{step}")
    own = inherit_checkpoints(tmp_path, 3)
    assert {p.name: p.read_text() for p in own.iterdir()} == {"step-000000030.safetensors": "1:30"}
    assert len(list((tmp_path / "attempt-0001").iterdir())) == 2


@pytest.mark.parametrize("task", [PREPARE, ADVANCE])
def test_messages_about_things_that_are_not_there_are_ignored(worker, task):
    missing = "01a20ca2-e072-76d4-9e39-b6b29eece113"
    does = {PREPARE: execution.prepare, ADVANCE: advance_job}[task]
    assert not does(worker.runtime, missing)
