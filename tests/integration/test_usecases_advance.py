"""Decisions: one at a time, from exactly the history that is stored with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from builders import a_mixture, a_proposal, a_recommendation, a_report, an_ngram_rung, losses
from sqlalchemy import text

from cuvee.answer import VerificationPlan
from cuvee.errors import ConflictError, FencedError, SpecError
from cuvee.records import Prediction, Problem
from cuvee.spec import Budget
from cuvee.states import JobState, RunState
from service.queue import ADVANCE
from service.usecases import advance, jobs, runs, sweep

PROBLEM = Problem(code="engine_failed", message="the law does not fit")


def test_the_first_decision_starts_the_search(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept(concurrency=3)
    decision = desk.begin(job.id)
    assert (decision.phase, decision.count, decision.stop) == ("searching", 3, None)
    assert decision.problem.names == ("code", "plays", "verse")
    assert decision.history.observations == ()
    assert desk.job(job.id).state is JobState.RUNNING


def test_no_two_decisions_are_ever_made_from_one_state(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept()
    with ThreadPoolExecutor(8) as pool:
        decisions = list(pool.map(lambda _: desk.begin(job.id), range(8)))
    assert len([d for d in decisions if d is not None]) == 1


def test_there_is_nothing_to_decide_while_as_many_runs_are_in_flight_as_may_be(desk: Any) -> None:
    job = desk.searching_job(concurrency=2)
    assert desk.begin(job.id) is None
    desk.measure(desk.held())
    assert desk.begin(job.id).count == 1


def test_the_history_holds_every_run_in_its_role(desk: Any) -> None:
    job = desk.searching_job(concurrency=4)
    measured, failed = desk.held(), desk.held()
    desk.measure(measured, 1.5)
    desk.do(runs.fail_run, failed.run_id, failed.attempt, "user", PROBLEM)
    history = desk.begin(job.id).history
    assert [o.run_id for o in history.observations] == [measured.run_id]
    assert history.observations[0].losses == losses(1.5)
    assert history.observations[0].mixture == a_mixture()
    assert [p.run_id for p in history.failed] == [failed.run_id]
    assert len(history.pending) == 2


def test_a_mixture_comes_back_bit_for_bit(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept(concurrency=20)
    mixtures = [a_mixture(0.1 + n / 7, 0.2 + n / 13, 0.3 + n / 17) for n in range(20)]
    decision = desk.begin(job.id)
    desk.do(
        advance.complete_proposals,
        job.id,
        decision.token,
        [a_proposal(mixture=m) for m in mixtures],
        decision.digest,
    )
    listed = desk.do(runs.list_runs, desk.tenant, job.id).items
    assert [run.mixture.root for run in listed] == [m.root for m in mixtures]


def test_a_proposal_is_stored_with_what_it_takes_to_compute_it_again(desk: Any) -> None:
    job = desk.searching_job()
    desk.measure(desk.held())
    decision = desk.begin(job.id)
    proposal = a_proposal(
        reason="greatest expected improvement",
        predicted={"verse": Prediction(mean=1.9, se=0.1)},
        acquisition=0.25,
    )
    (run_id,) = desk.do(
        advance.complete_proposals,
        job.id,
        decision.token,
        [proposal],
        decision.digest,
        engine_version="0.1.0",
    )
    row = (
        desk.sql(
            "SELECT p.* FROM proposal p JOIN run r ON r.proposal_id = p.id WHERE r.id = :id",
            id=run_id,
        )
        .mappings()
        .one()
    )
    assert row["sequence"] == 3
    assert row["observation_digest"] == decision.digest
    assert row["high_water"] == 7  # accepted, running, 2 x proposed, leased, started, succeeded
    assert [str(p) for p in row["pending"]] == [p.run_id for p in decision.history.pending]
    assert row["seed"] == decision.seed
    assert row["predicted"] == {"verse": {"mean": 1.9, "se": 0.1}}
    assert (row["acquisition"], row["engine_version"]) == (0.25, "0.1.0")
    assert desk.run(run_id).reason == "greatest expected improvement"


def test_the_seeds_of_decisions_follow_from_the_job_and_differ(desk: Any) -> None:
    desk.ready_corpus()
    one, same, other = desk.accept(seed=1), desk.accept(seed=1), desk.accept(seed=2)
    seeds = [desk.begin(job.id).seed for job in (one, same, other)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_proposals_from_another_history_are_refused(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept()
    decision = desk.begin(job.id)
    with pytest.raises(ConflictError, match="history"):
        desk.do(advance.complete_proposals, job.id, decision.token, [a_proposal()], "0" * 64)


@pytest.mark.parametrize(
    "fields", [{"rung": 1}, {"rung": -1}, {"mixture": a_mixture(domains=("prose",))}]
)
def test_a_proposal_that_does_not_fit_the_job_is_refused_whole(
    desk: Any, fields: dict[str, Any]
) -> None:
    desk.ready_corpus()
    job = desk.accept()
    decision = desk.begin(job.id)
    with pytest.raises(SpecError):
        desk.do(
            advance.complete_proposals,
            job.id,
            decision.token,
            [a_proposal(), a_proposal(**fields)],
            decision.digest,
        )
    assert desk.do(runs.list_runs, desk.tenant, job.id).items == ()


def test_an_engine_that_waits_is_not_asked_again_until_something_happens(desk: Any) -> None:
    job = desk.searching_job(concurrency=3)
    desk.measure(desk.held())
    desk.propose(job.id, count=0)
    assert desk.begin(job.id) is None
    desk.measure(desk.held())
    assert desk.begin(job.id).count == 2


def test_an_engine_that_proposes_nothing_with_nothing_in_flight_fails_the_job(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept()
    desk.propose(job.id, count=0)
    failed = desk.job(job.id)
    assert failed.state is JobState.FAILED
    assert "proposed nothing" in failed.error.message


def test_fewer_proposals_than_asked_for_ring_again(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept(concurrency=4)
    desk.sent.clear()
    desk.propose(job.id, count=1)
    assert ADVANCE in {message.task for message in desk.sent}
    assert desk.begin(job.id).count == 3


def test_a_failed_decision_fails_the_job_with_its_cause(desk: Any) -> None:
    job = desk.searching_job()
    lease = desk.held()
    desk.measure(desk.held())
    decision = desk.begin(job.id)
    desk.do(advance.fail_advance, job.id, decision.token, PROBLEM)
    failed = desk.job(job.id)
    assert (failed.state, failed.error) == (JobState.FAILED, PROBLEM)
    assert desk.event_types(job.id)[-1] == "job.failed"
    with pytest.raises(FencedError):
        desk.measure(lease)
    assert desk.run(lease.run_id).state is RunState.CANCELLED


def test_a_lost_claim_is_dropped_and_its_late_result_refused(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept()
    late = desk.begin(job.id)
    desk.sql("UPDATE advance_claim SET expires_at = now() - interval '1 second'")
    assert desk.do(sweep.expire_leases) == 1
    second = desk.begin(job.id)
    assert second.digest == late.digest
    assert not desk.do(advance.renew_claim, job.id, late.token)
    with pytest.raises(FencedError):
        desk.do(advance.complete_proposals, job.id, late.token, [a_proposal()], late.digest)
    desk.do(advance.complete_proposals, job.id, second.token, [a_proposal()], second.digest)
    assert len(desk.do(runs.list_runs, desk.tenant, job.id).items) == 1


def test_a_renewed_claim_is_kept(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept()
    decision = desk.begin(job.id)
    desk.sql("UPDATE advance_claim SET expires_at = now() - interval '1 second'")
    assert desk.do(advance.renew_claim, job.id, decision.token, 60)
    assert desk.do(sweep.expire_leases) == 0


def test_a_history_that_kills_every_worker_fails_the_job_in_the_end(desk: Any) -> None:
    desk.ready_corpus()
    job = desk.accept()
    for _ in range(5):
        assert desk.begin(job.id) is not None
        desk.sql("UPDATE advance_claim SET expires_at = now() - interval '1 second'")
        desk.do(sweep.expire_leases)
    assert desk.job(job.id).state is JobState.FAILED


# ------------------------------------------------------------------------------------------------
# Verification and report


def test_the_search_ends_in_a_verification_and_that_in_a_report(desk: Any) -> None:
    job = desk.searching_job()
    desk.work_off()
    assert desk.verify(job.id)
    assert desk.job(job.id).progress.phase == "verifying"
    assert desk.begin(job.id) is None
    assert desk.work_off() == 2
    decision = desk.begin(job.id)
    assert decision.phase == "reporting"
    assert decision.recommendation == a_recommendation()
    assert decision.stop_reason == "the engine is certain"
    assert [o.label for o in decision.history.observations if o.purpose == "verify"] == [
        "recommended",
        "baseline",
    ]
    desk.do(advance.finish, job.id, decision.token, a_report(job_id=job.id))
    progress = desk.job(job.id).progress
    assert progress.runs_done == progress.runs_planned == 4
    phases = [e.payload for e in desk.events(job.id) if e.type == "job.phase"]
    assert [said["phase"] for said in phases] == ["verifying", "reporting"]
    plan = [VerificationPlan.model_validate(one) for one in phases[0]["plan"]]
    assert tuple(plan) == a_recommendation().plan
    assert "plan" not in phases[1]


def test_a_search_that_ends_early_waits_for_its_runs_and_uses_them(desk: Any) -> None:
    job = desk.searching_job(concurrency=2)
    desk.measure(desk.held())
    assert desk.verify(job.id) is False
    assert desk.begin(job.id) is None
    desk.measure(desk.held(), 1.0)
    decision = desk.begin(job.id)
    assert (decision.phase, decision.count) == ("searching", 0)
    assert decision.stop.reason == "the engine is certain"
    assert len(decision.history.observations) == 2


def test_without_a_verification_the_report_is_next(desk: Any) -> None:
    job = desk.searching_job()
    desk.work_off()
    desk.verify(job.id, labels=())
    assert desk.begin(job.id).phase == "reporting"


def test_a_report_that_is_not_json_is_refused_and_changes_nothing(desk: Any) -> None:
    job = desk.searching_job()
    desk.work_off()
    desk.verify(job.id, labels=())
    decision = desk.begin(job.id)
    nan = a_report(job_id=job.id, confidence=float("nan"))
    with pytest.raises(Exception, match="JSON compliant"):
        desk.do(advance.finish, job.id, decision.token, nan)
    assert desk.job(job.id).state is JobState.RUNNING
    desk.do(advance.finish, job.id, decision.token, a_report(job_id=job.id))


# ------------------------------------------------------------------------------------------------
# The time budget


def test_when_the_time_is_up_waiting_runs_go_and_the_engine_is_told_to_stop(desk: Any) -> None:
    job = desk.searching_job(concurrency=2, budget=Budget(max_seconds=3600))
    lease = desk.held()
    desk.sql("UPDATE job SET deadline_at = now() - interval '1 second'")
    assert desk.begin(job.id) is None
    assert desk.do(runs.renew_run, lease.run_id, lease.attempt, 0.5) == "stop"
    desk.do(runs.release_run, lease.run_id, lease.attempt)
    states = {run.state for run in desk.do(runs.list_runs, desk.tenant, job.id).items}
    assert states == {RunState.CANCELLED}
    decision = desk.begin(job.id)
    assert decision.stop.stop
    assert "3600 s" in decision.stop.reason
    desk.do(
        advance.start_verification,
        job.id,
        decision.token,
        a_recommendation(),
        [a_proposal(purpose="verify", label="recommended")],
        decision.stop.reason,
    )
    assert desk.begin(job.id).phase == "reporting"
    assert desk.job(job.id).stop_reason == decision.stop.reason


def test_time_for_the_verification_is_kept_back(desk: Any) -> None:
    job = desk.searching_job(
        rungs=(an_ngram_rung(runs=50),), concurrency=2, budget=Budget(max_seconds=3600)
    )
    desk.work_off()
    desk.sql("UPDATE run SET started_at = now() - interval '100 s', finished_at = now()")
    desk.sql("UPDATE job SET deadline_at = now() + interval '250 s'")
    assert desk.begin(job.id).stop is None
    desk.sql("DELETE FROM advance_claim")
    desk.sql("UPDATE job SET deadline_at = now() + interval '190 s'")
    assert desk.begin(job.id).stop is not None


def test_a_verification_past_the_deadline_is_cut_and_reported(desk: Any) -> None:
    job = desk.searching_job(concurrency=1, budget=Budget(max_seconds=3600))
    desk.work_off()
    desk.verify(job.id)
    desk.measure(desk.held())
    desk.sql("UPDATE job SET deadline_at = now() - interval '1 second'")
    assert desk.do(sweep.settle_jobs) == 1
    decision = desk.begin(job.id)
    assert decision.phase == "reporting"
    assert len([o for o in decision.history.observations if o.purpose == "verify"]) == 1


# ------------------------------------------------------------------------------------------------
# Events


def test_the_log_tells_the_whole_story_without_a_gap(desk: Any) -> None:
    job = desk.searching_job(concurrency=1)
    lease = desk.held()
    desk.do(runs.start_run, lease.run_id, lease.attempt)
    desk.measure(lease)
    events = desk.events(job.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events] == [
        "job.accepted",
        "job.running",
        "run.proposed",
        "run.leased",
        "run.started",
        "run.succeeded",
    ]
    assert events[2].payload["mixture"] == a_mixture().root
    assert events[-1].payload["objective"] == pytest.approx(2.0)
    assert [e.seq for e in desk.do(jobs.list_events, job.id, 4, 1)] == [5]
    with desk.work() as session:
        head = session.scalar(text("SELECT next_event_seq - 1 FROM job"))
    assert head == len(events)
