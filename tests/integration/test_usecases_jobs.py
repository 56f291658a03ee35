"""Creating, reading, pausing and cancelling jobs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from builders import a_manifest, a_proxy_rung, a_report, a_spec, an_ngram_rung

from cuvee.errors import (
    ConflictError,
    IdempotencyError,
    InfeasibleError,
    NotFoundError,
    SpecError,
    TransitionError,
)
from cuvee.spec import Bound, Constraints, Objective
from cuvee.states import JobState, RunState
from service.queue import ADVANCE, CPU, EXECUTE, Message
from service.usecases import advance, jobs, runs


def test_an_accepted_job_is_there_with_its_first_event(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept(name="search", seed=7)
    assert job.state is JobState.ACCEPTED
    assert job.spec == a_spec(name="search", seed=7)
    assert desk.job("search") == desk.job(job.id)
    assert [(e.seq, e.type) for e in desk.events(job.id)] == [(1, "job.accepted")]
    assert Message(ADVANCE, job.id, CPU) in desk.sent


def test_a_job_needs_a_corpus_that_exists(desk: Any) -> None:
    with pytest.raises(NotFoundError, match="register it first"):
        desk.accept()


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"baseline": {"code": 0.5, "prose": 0.5}},
        {"objective": Objective(weights={"prose": 1.0})},
        {"constraints": Constraints(bounds={"prose": Bound(max=0.5)})},
    ],
)
def test_an_unknown_name_is_refused_before_anything_starts(
    desk: Any, ready: bool, fields: dict[str, Any]
) -> None:
    desk.ready_corpus() if ready else desk.corpus()
    with pytest.raises(SpecError, match="prose"):
        desk.accept(**fields)
    assert desk.do(jobs.list_jobs, desk.tenant).items == ()


def test_infeasible_bounds_are_refused_before_the_corpus_is_counted(desk: Any) -> None:
    desk.corpus()
    bounds = {name: Bound(max=0.2) for name in ("code", "plays", "verse")}
    with pytest.raises(InfeasibleError):
        desk.accept(constraints=Constraints(bounds=bounds))


def test_too_little_supply_is_refused_at_once_when_the_corpus_is_counted(desk: Any) -> None:
    desk.ready_corpus()
    with pytest.raises(InfeasibleError, match="supply"):
        desk.accept(constraints=Constraints(target_tokens=10_000_000))


def test_too_little_supply_fails_the_job_when_it_is_only_then_known(desk: Any) -> None:
    corpus = desk.corpus()
    job = desk.accept(constraints=Constraints(target_tokens=10_000_000))
    desk.prepare(corpus.id)
    assert desk.begin(job.id) is None
    failed = desk.job(job.id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.code == "spec_infeasible"


def test_a_taken_name_is_refused_until_its_job_has_failed_or_was_cancelled(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept(name="search")
    with pytest.raises(ConflictError, match="same specification") as same:
        desk.accept(name="search")
    assert same.value.details == {"id": job.id, "state": "accepted", "same_spec": True}
    with pytest.raises(ConflictError, match="another specification"):
        desk.accept(name="search", seed=1)
    desk.do(jobs.cancel_job, desk.tenant, job.id)
    second = desk.accept(name="search")
    assert desk.job("search").id == second.id != job.id


def test_one_key_makes_one_job(desk: Any) -> None:
    desk.ready_corpus()

    def create(_: int) -> str:
        return desk.do(jobs.create_job, desk.tenant, a_spec(), idempotency=("key", "hash")).id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(create, range(12)))) == 1
    assert len(desk.do(jobs.list_jobs, desk.tenant).items) == 1
    with pytest.raises(IdempotencyError):
        desk.do(jobs.create_job, desk.tenant, a_spec(), idempotency=("key", "other"))


def test_lists_are_filtered_by_state_and_a_cursor_keeps_its_filter(desk: Any) -> None:
    desk.ready_corpus()
    made = [desk.accept().id for _ in range(4)]
    desk.do(jobs.cancel_job, desk.tenant, made[1])
    page = desk.do(jobs.list_jobs, desk.tenant, state="accepted", limit=2)
    rest = desk.do(jobs.list_jobs, desk.tenant, state="accepted", limit=2, cursor=page.next_cursor)
    assert [j.id for j in (*page.items, *rest.items)] == [made[3], made[2], made[0]]
    assert rest.next_cursor is None
    with pytest.raises(SpecError, match="same filters"):
        desk.do(jobs.list_jobs, desk.tenant, cursor=page.next_cursor)


@pytest.mark.parametrize(
    "reference", ["nothing", "nul\x00", "01a20ca2-e072-76d4-9e39-b6b29eece113"]
)
def test_what_is_not_there_is_not_found(desk: Any, reference: str) -> None:
    for use_case in (
        jobs.get_job,
        jobs.pause_job,
        jobs.resume_job,
        jobs.cancel_job,
        jobs.get_report,
        runs.list_runs,
        runs.get_run,
    ):
        with pytest.raises(NotFoundError):
            desk.do(use_case, desk.tenant, reference)
    assert desk.do(jobs.list_events, reference) == []


# ------------------------------------------------------------------------------------------------
# Pausing


def test_pausing_lets_what_runs_finish_and_starts_nothing_new(desk: Any) -> None:
    job = desk.searching_job(concurrency=2)
    lease = desk.held()
    assert desk.do(jobs.pause_job, desk.tenant, job.id).state is JobState.PAUSING
    assert desk.claim() is None
    assert desk.do(runs.renew_run, lease.run_id, lease.attempt, 0.5) == "continue"
    assert desk.measure(lease)
    assert desk.job(job.id).state is JobState.PAUSED
    assert desk.claim() is None
    assert desk.begin(job.id) is None
    assert desk.do(jobs.pause_job, desk.tenant, job.id).state is JobState.PAUSED


def test_pausing_with_nothing_running_is_immediate(desk: Any) -> None:
    job = desk.searching_job()
    assert desk.do(jobs.pause_job, desk.tenant, job.id).state is JobState.PAUSED
    assert desk.event_types(job.id)[-2:] == ["job.pausing", "job.paused"]


def test_resuming_rings_for_what_waits(desk: Any) -> None:
    job = desk.searching_job()
    desk.do(jobs.pause_job, desk.tenant, job.id)
    desk.sent.clear()
    assert desk.do(jobs.resume_job, desk.tenant, job.id).state is JobState.RUNNING
    assert {message.task for message in desk.sent} == {ADVANCE, EXECUTE}
    assert desk.do(jobs.resume_job, desk.tenant, job.id).state is JobState.RUNNING
    assert desk.event_types(job.id).count("job.resumed") == 1
    assert desk.work_off() == 2


def test_a_job_paused_before_its_corpus_was_ready_searches_after_resuming(desk: Any) -> None:
    corpus = desk.corpus()
    job = desk.accept()
    desk.do(jobs.pause_job, desk.tenant, job.id)
    desk.prepare(corpus.id)
    assert desk.begin(job.id) is None
    desk.do(jobs.resume_job, desk.tenant, job.id)
    assert len(desk.propose(job.id)) == 2


def test_a_decision_that_was_being_computed_when_the_job_paused_is_dropped(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept()
    decision = desk.begin(job.id)
    desk.do(jobs.pause_job, desk.tenant, job.id)
    from builders import a_proposal

    from cuvee.errors import FencedError

    with pytest.raises(FencedError):
        desk.do(advance.complete_proposals, job.id, decision.token, [a_proposal()], decision.digest)
    desk.do(jobs.resume_job, desk.tenant, job.id)
    again = desk.begin(job.id)
    assert again.seed == decision.seed
    assert again.digest == decision.digest


# ------------------------------------------------------------------------------------------------
# Cancelling


def test_cancelling_ends_waiting_runs_at_once_and_tells_workers(desk: Any) -> None:
    job = desk.searching_job(concurrency=2)
    lease = desk.held()
    assert desk.do(jobs.cancel_job, desk.tenant, job.id).state is JobState.CANCELLING
    states = [run.state for run in desk.do(runs.list_runs, desk.tenant, job.id).items]
    assert states == [RunState.LEASED, RunState.CANCELLED]
    assert desk.do(runs.renew_run, lease.run_id, lease.attempt, 0.1) == "stop"
    desk.do(runs.release_run, lease.run_id, lease.attempt)
    assert desk.run(lease.run_id).state is RunState.CANCELLED
    assert desk.job(job.id).state is JobState.CANCELLED
    assert desk.event_types(job.id)[-1] == "job.cancelled"


def test_a_measurement_that_arrives_while_cancelling_is_kept(desk: Any) -> None:
    job = desk.searching_job()
    lease = desk.held()
    desk.do(jobs.cancel_job, desk.tenant, job.id)
    assert desk.measure(lease)
    assert desk.job(job.id).state is JobState.CANCELLED
    assert desk.run(lease.run_id).state is RunState.SUCCEEDED


def test_cancelling_is_possible_from_every_state_that_is_not_over(desk: Any) -> None:
    desk.ready_corpus()
    accepted, paused = desk.accept(), desk.accept()
    desk.do(jobs.pause_job, desk.tenant, paused.id)
    for job in (accepted, paused):
        assert desk.do(jobs.cancel_job, desk.tenant, job.id).state is JobState.CANCELLED
        assert desk.do(jobs.cancel_job, desk.tenant, job.id).state is JobState.CANCELLED


def test_what_has_ended_cannot_be_changed_and_the_refusal_says_so(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept()
    desk.do(jobs.cancel_job, desk.tenant, job.id)
    for use_case in (jobs.pause_job, jobs.resume_job):
        with pytest.raises(TransitionError, match="it has ended"):
            desk.do(use_case, desk.tenant, job.id)


# ------------------------------------------------------------------------------------------------
# Progress and report


def test_progress_counts_runs_and_knows_best_and_baseline(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept(rungs=(an_ngram_rung(runs=4), an_ngram_rung(runs=2)), concurrency=3)
    assert job.progress.runs_planned == 4 + 2 + 2
    desk.propose(job.id, rung=0)
    for bits in (1.0, 1.1, 1.2):
        desk.measure(desk.held(), bits)  # of the cheap rung: says nothing about the target
    desk.propose(job.id, count=2, rung=1, label="baseline")
    desk.propose(job.id, count=1, rung=1)
    for bits in (2.0, 2.2, 1.9):
        desk.measure(desk.held(), bits)
    progress = desk.job(job.id).progress
    best = desk.run(progress.best_run_id)
    assert progress.phase == "searching"
    assert (progress.runs_done, progress.runs_active, progress.runs_failed) == (6, 0, 0)
    assert progress.best == best.objective == pytest.approx(1.9)
    assert progress.baseline == pytest.approx(2.1)
    assert "6 of 8" in progress.message


def test_time_left_follows_the_pace_so_far(desk: Any) -> None:
    job = desk.searching_job(rungs=(an_ngram_rung(runs=10),), concurrency=2)
    assert desk.job(job.id).progress.seconds_left is None
    desk.work_off()
    # Two runs of 10 s each, side by side; 8 more and 2 to verify: five rounds.
    desk.sql("UPDATE run SET started_at = now() - interval '10 s', finished_at = now()")
    assert desk.job(job.id).progress.seconds_left == pytest.approx(50, rel=0.05)


def test_time_left_is_unknown_while_a_rung_was_never_run_but_a_deadline_bounds_it(
    desk: Any,
) -> None:
    rungs = (an_ngram_rung(), a_proxy_rung())
    job = desk.searching_job(rungs=rungs)
    desk.work_off()
    assert desk.job(job.id).progress.seconds_left is None
    desk.sql("UPDATE job SET deadline_at = now() + interval '90 s'")
    assert desk.job(job.id).progress.seconds_left == pytest.approx(90, abs=10)


def test_there_is_no_report_before_the_end_and_it_says_why(desk: Any) -> None:
    job = desk.searching_job()
    with pytest.raises(ConflictError, match="not ready yet"):
        desk.do(jobs.get_report, desk.tenant, job.id)
    desk.do(jobs.cancel_job, desk.tenant, job.id)
    with pytest.raises(ConflictError, match="was cancelled"):
        desk.do(jobs.get_report, desk.tenant, job.id)


def test_the_report_comes_back_as_it_was_written(desk: Any) -> None:
    job = desk.searching_job()
    desk.work_off()
    desk.verify(job.id)
    desk.work_off()
    decision = desk.begin(job.id)
    report = a_report(job_id=job.id)
    desk.do(advance.finish, job.id, decision.token, report)
    assert desk.do(jobs.get_report, desk.tenant, job.id) == report
    done = desk.job(job.id)
    assert done.state is JobState.SUCCEEDED
    assert done.stop_reason == "the engine is certain"
    assert done.progress.phase == "done"
    assert done.finished_at is not None


def test_runs_are_listed_oldest_first_by_cursor_and_state(desk: Any) -> None:
    job = desk.searching_job(concurrency=5)
    desk.measure(desk.held())
    first = desk.do(runs.list_runs, desk.tenant, job.id, limit=3)
    rest = desk.do(runs.list_runs, desk.tenant, job.id, limit=3, cursor=first.next_cursor)
    assert [run.seed for run in (*first.items, *rest.items)] == [0, 1, 2, 3, 4]
    queued = desk.do(runs.list_runs, desk.tenant, job.id, state="queued")
    assert [run.seed for run in queued.items] == [1, 2, 3, 4]
    assert first.items[0].curve is None
    assert first.items[0].losses is not None


def test_names_and_ids_of_the_manifest_reach_the_runs(desk: Any) -> None:
    corpus = desk.corpus(domains=("zz", "a"))
    desk.prepare(corpus.id, a_manifest(("zz", "a")))
    job = desk.accept()
    from builders import a_mixture

    desk.propose(job.id, count=1, mixture=a_mixture(0.7, 0.3, domains=("zz", "a")))
    lease = desk.held()
    assert list(lease.mixture.root.items()) == [("zz", 0.7), ("a", 0.3)]
    assert lease.eval_sets == ("zz", "a")
    assert lease.corpus_digest == a_manifest().digest
