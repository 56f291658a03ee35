"""The lease: one holder, an exact limit, a fence, and measurements counted once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

import pytest
from builders import a_loss, a_mixture, a_point, losses
from sqlalchemy import text

from cuvee.errors import FencedError, SpecError
from cuvee.records import EvalLoss, Problem
from cuvee.states import RunState
from service.usecases import runs, sweep

PROBLEM = Problem(code="worker_lost", message="killed")


def test_a_lease_says_everything_that_a_worker_needs(desk: Any) -> None:
    job = desk.searching_job()
    lease = desk.held()
    assert lease.rung == job.spec.rungs[0]
    assert (lease.job_id, lease.attempt, lease.rung_index) == (job.id, 1, 0)
    assert lease.mixture == a_mixture()
    assert lease.eval_sets == ("code", "plays", "verse")
    assert lease.purpose == "search"
    assert runs.RunLease.model_validate_json(lease.model_dump_json()) == lease


def test_the_oldest_run_goes_first(desk: Any) -> None:
    desk.ready_corpus()
    older, newer = desk.accept(concurrency=2), desk.accept(concurrency=2)
    second = desk.propose(newer.id)
    first = desk.propose(older.id)
    claimed = [desk.held().run_id for _ in range(4)]
    assert claimed == [*second, *first]


def test_eight_claimers_take_every_run_once_and_never_exceed_the_limit(desk: Any) -> None:
    desk.ready_corpus()
    jobs_ = [desk.accept(concurrency=limit) for limit in (1, 3)]
    for job in jobs_:
        desk.propose(job.id)
    for job in jobs_:  # more queued than may go on at once, as in a verification
        desk.sql("UPDATE job SET concurrency = 12 WHERE id = :id", id=job.id)
        desk.propose(job.id)
        desk.sql(
            "UPDATE job SET concurrency = :limit WHERE id = :id",
            id=job.id,
            limit=job.spec.concurrency,
        )
    taken: list[str] = []
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            deadline = time.monotonic() + 60
            while len(taken) < 24 and time.monotonic() < deadline:
                lease = desk.claim(worker=f"w{number}")
                if lease is None:
                    time.sleep(0.02)
                    continue
                taken.append(lease.run_id)
                time.sleep(0.05)
                desk.measure(lease)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(Counter(taken).values()) == [1] * 24
    # The log is written under the job's lock, so its order is the order in which things happened.
    steps = {"run.leased": 1, "run.succeeded": -1}
    for job in jobs_:
        held = accumulate(steps.get(event.type, 0) for event in desk.events(job.id))
        assert max(held) == job.spec.concurrency


def test_a_full_job_does_not_hold_up_the_next(desk: Any) -> None:
    desk.ready_corpus()
    full, other = desk.accept(concurrency=1), desk.accept(concurrency=1)
    desk.propose(full.id)
    desk.held()
    (run_id,) = desk.propose(other.id)
    assert desk.held().run_id == run_id
    assert desk.claim() is None


def test_starting_twice_is_starting_once(desk: Any) -> None:
    job = desk.searching_job()
    lease = desk.held()
    for _ in range(3):
        desk.do(runs.start_run, lease.run_id, lease.attempt)
    assert desk.run(lease.run_id).state is RunState.RUNNING
    assert desk.event_types(job.id).count("run.started") == 1


def test_renewing_extends_the_lease_by_what_was_claimed(desk: Any) -> None:
    desk.searching_job()
    lease = desk.held()
    desk.let_lease_end(lease.run_id)
    desk.do(runs.renew_run, lease.run_id, lease.attempt, 0.25)
    with desk.work() as session:
        left = session.scalar(
            text(
                "SELECT extract(epoch FROM lease_until - now()) FROM run_lease"
                " WHERE worker IS NOT NULL"
            )
        )
    assert left == pytest.approx(60, abs=5)
    assert desk.run(lease.run_id).progress == 0.25


# ------------------------------------------------------------------------------------------------
# Fences

LateWrite = Callable[[Any, str, int], object]
LATE_WRITES: dict[str, LateWrite] = {
    "start": runs.start_run,
    "renew": lambda s, run, attempt: runs.renew_run(s, run, attempt, 0.9),
    "point": lambda s, run, attempt: runs.append_point(s, run, attempt, a_point()),
    "observe": lambda s, run, attempt: runs.observe(s, run, attempt, losses(), 1, 1.0),
    "fail": lambda s, run, attempt: runs.fail_run(s, run, attempt, "user", PROBLEM),
    "release": runs.release_run,
    "artifact": lambda s, run, attempt: runs.record_artifact(
        s, run, attempt, kind="checkpoint", uri="x", size=1, sha256="0" * 64
    ),
}


@pytest.mark.parametrize("write", LATE_WRITES.values(), ids=LATE_WRITES.keys())
def test_a_superseded_attempt_can_write_nothing(desk: Any, write: LateWrite) -> None:
    job = desk.searching_job(concurrency=1)
    zombie = desk.held()
    desk.let_lease_end(zombie.run_id)
    desk.do(sweep.expire_leases)

    def refused() -> None:
        before = desk.events(job.id)
        with pytest.raises(FencedError, match="attempt 1 no longer holds"):
            desk.do(write, zombie.run_id, zombie.attempt)
        assert desk.events(job.id) == before

    refused()  # nobody holds the run
    heir = desk.held()
    assert heir.run_id == zombie.run_id
    refused()  # somebody else does
    desk.measure(heir)
    refused()  # it is over
    assert desk.run(heir.run_id).curve == ()


@pytest.mark.parametrize("write", LATE_WRITES.values(), ids=LATE_WRITES.keys())
@pytest.mark.parametrize("run_id", ["nothing", "01a20ca2-e072-76d4-9e39-b6b29eece113"])
def test_a_run_that_does_not_exist_is_held_by_nobody(
    desk: Any, write: LateWrite, run_id: str
) -> None:
    with pytest.raises(FencedError):
        desk.do(write, run_id, 1)


def test_a_point_being_written_holds_off_the_next_attempt(desk: Any) -> None:
    """No row of attempt n may be written after attempt n + 1 was granted."""
    desk.searching_job(concurrency=1)
    lease = desk.held()
    with ThreadPoolExecutor(1) as pool:
        with desk.work() as session:
            runs.append_point(session, lease.run_id, lease.attempt, a_point())
            taking = pool.submit(desk.let_lease_end, lease.run_id)
            time.sleep(0.3)
            assert not taking.done()
        taking.result(10)


# ------------------------------------------------------------------------------------------------
# Measurements


def test_a_measurement_delivered_five_times_is_counted_once(desk: Any) -> None:
    job = desk.searching_job()
    lease = desk.held()
    assert [desk.measure(lease) for _ in range(5)] == [True, False, False, False, False]
    with desk.work() as session:
        assert session.scalar(text("SELECT count(*) FROM observation")) == 1
    assert desk.event_types(job.id).count("run.succeeded") == 1


def test_a_measurement_delivered_five_times_at_once_is_counted_once(desk: Any) -> None:
    job = desk.searching_job()
    lease = desk.held()
    with ThreadPoolExecutor(5) as pool:
        counted = list(pool.map(lambda _: desk.measure(lease), range(5)))
    assert sorted(counted) == [False] * 4 + [True]
    assert desk.event_types(job.id).count("run.succeeded") == 1


def test_a_measurement_is_read_back_as_it_was_made(desk: Any) -> None:
    desk.searching_job()
    lease = desk.held()
    made = {
        "verse": a_loss(1.23456789012345),
        "code": a_loss(2.1, nats_se=0.0),
        "plays": a_loss(3.3, tokens=1),
    }
    desk.do(runs.observe, lease.run_id, lease.attempt, made, 12_345, 6.5)
    run = desk.run(lease.run_id)
    assert run.losses == made
    assert (run.train_tokens, run.seconds, run.progress) == (12_345, 6.5, 1.0)
    assert run.objective == pytest.approx((1.23456789012345 + 2.1 + 3.3) / 3)


BAD_LOSSES = {
    "missing": {"code": a_loss(), "plays": a_loss()},
    "unknown": losses() | {"prose": a_loss()},
    "none": {},
    "nan": losses() | {"code": EvalLoss.model_construct(nats=float("nan"), nats_se=0.0,
                                                        tokens=1, bytes=1)},
    "infinite": losses() | {"code": EvalLoss.model_construct(nats=1.0, nats_se=float("inf"),
                                                             tokens=1, bytes=1)},
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_LOSSES.values(), ids=BAD_LOSSES.keys())
def test_losses_that_are_not_finite_and_complete_are_refused(
    desk: Any, bad: dict[str, EvalLoss]
) -> None:
    desk.searching_job()
    lease = desk.held()
    for write in (
        lambda s: runs.observe(s, lease.run_id, lease.attempt, bad, 1, 1.0),
        lambda s: runs.append_point(
            s, lease.run_id, lease.attempt, a_point().model_copy(update={"losses": bad})
        ),
    ):
        with pytest.raises(SpecError, match="losses"):
            desk.do(write)
    assert desk.run(lease.run_id).state is RunState.LEASED


@pytest.mark.parametrize(
    ("tokens", "seconds"), [(-1, 1.0), (1, -1.0), (1, float("nan")), (1, float("inf"))]
)
def test_a_cost_that_makes_no_sense_is_refused(desk: Any, tokens: int, seconds: float) -> None:
    desk.searching_job()
    lease = desk.held()
    with pytest.raises(SpecError, match="at least 0"):
        desk.do(runs.observe, lease.run_id, lease.attempt, losses(), tokens, seconds)


def test_a_curve_is_read_in_steps_and_a_resumed_attempt_goes_on_with_it(desk: Any) -> None:
    desk.searching_job(concurrency=1)
    first = desk.held()
    for step in (1, 2, 2, 3):
        desk.do(runs.append_point, first.run_id, first.attempt, a_point(step))
    desk.let_lease_end(first.run_id)
    desk.do(sweep.expire_leases)
    second = desk.held()
    for step in (3, 4):
        point = a_point(step, train_loss=None if step == 4 else 9.0)
        desk.do(runs.append_point, second.run_id, second.attempt, point)
    curve = desk.run(second.run_id).curve
    assert [point.step for point in curve] == [1, 2, 3, 4]
    assert [point.train_loss for point in curve] == [3.0, 3.0, 9.0, None]
    assert curve[0] == a_point(1)


def test_an_artifact_is_recorded_once_for_its_attempt(desk: Any) -> None:
    desk.searching_job()
    lease = desk.held()
    for _ in range(2):
        desk.do(
            runs.record_artifact,
            lease.run_id,
            lease.attempt,
            kind="checkpoint",
            uri=f"runs/{lease.run_id}/1/model.safetensors",
            size=1_000,
            sha256="a" * 64,
        )
    with desk.work() as session:
        assert session.scalar(text("SELECT count(*) FROM artifact")) == 1
