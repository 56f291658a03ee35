"""The supervisor against real children: results, stops, deaths, fences, orphans."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy.exc import OperationalError

from cuvee.errors import FencedError
from workers.nursery import Nursery
from workers.supervisor import Failed, Finished, Lost, Stopped, Timing, supervise

QUICK = Timing(lease=4.0, renew=0.2, stuck=30.0, grace=1.0)
ROOT = Path(__file__).resolve().parents[3]


class FakeLease:
    """A lease that says what it is told to say, and remembers what it was told."""

    def __init__(self, renew=lambda count: "continue", fenced_points=False):
        self._renew = renew
        self._fenced_points = fenced_points
        self.renewals = 0
        self.shares = []
        self.points = []

    def renew(self, share, message):
        self.renewals += 1
        self.shares.append(share)
        return self._renew(self.renewals)

    def point(self, point):
        if self._fenced_points:
            raise FencedError("superseded")
        self.points.append(point)


@pytest.fixture(scope="module")
def nursery():
    nursery = Nursery(
        ["supervised_entries"],
        env={"PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{ROOT}"},
    )
    yield nursery
    nursery.close()


@pytest.fixture
def assignment(tmp_path):
    def make(entry, **fields):
        return {
            "entry": f"supervised_entries:{entry}",
            "log": str(tmp_path / "attempt.log"),
            "trace": str(tmp_path / "trace"),
            **fields,
        }

    return make


def run(nursery, assignment, lease=None, timing=QUICK, **options):
    return supervise(
        nursery, assignment, lease or FakeLease(), timing, leased_at=time.monotonic(), **options
    )


def traced_pids(assignment):
    return [int(word) for word in Path(assignment["trace"]).read_text().split()]


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_every_assignment_runs_in_a_process_and_group_of_its_own(nursery, assignment):
    first = run(nursery, assignment("quick", answer=1))
    second = run(nursery, assignment("quick", answer=2))
    assert isinstance(first, Finished)
    assert isinstance(second, Finished)
    assert (first.result["answer"], second.result["answer"]) == (1, 2)
    assert first.result["pid"] == first.result["group"]
    assert len({first.result["pid"], second.result["pid"], os.getpid()}) == 3


def test_points_are_relayed_in_order_and_progress_with_the_renewals(nursery, assignment):
    lease = FakeLease()
    outcome = run(nursery, assignment("steps", steps=16), lease)
    assert outcome == Finished({"steps": 16})
    assert [p.step for p in lease.points] == list(range(16))
    assert lease.renewals >= 2
    assert any(share is not None for share in lease.shares)


def test_a_stop_directive_lets_the_child_stop_by_itself(nursery, assignment):
    lease = FakeLease(renew=lambda count: "stop")
    work = assignment("steps", steps=10_000)
    assert run(nursery, work, lease) == Stopped()


def test_a_draining_worker_stops_its_child(nursery, assignment):
    draining = threading.Event()
    threading.Timer(0.3, draining.set).start()
    assert run(nursery, assignment("steps", steps=10_000), draining=draining) == Stopped()


def test_a_child_that_does_not_stop_is_killed_with_its_descendants(nursery, assignment):
    work = assignment("deaf", talks=True)
    lease = FakeLease(renew=lambda count: "stop" if Path(work["trace"]).exists() else "continue")
    assert run(nursery, work, lease) == Stopped()
    for pid in traced_pids(work):
        wait_until(lambda pid=pid: gone(pid))


def test_a_superseded_renewal_kills_the_child_and_loses_the_attempt(nursery, assignment):
    work = assignment("deaf", talks=True)

    def fenced(count):
        if Path(work["trace"]).exists():
            raise FencedError("superseded")
        return "continue"

    assert run(nursery, work, FakeLease(renew=fenced)) == Lost()
    for pid in traced_pids(work):
        wait_until(lambda pid=pid: gone(pid))


def test_a_superseded_point_loses_the_attempt(nursery, assignment):
    work = assignment("steps", steps=10_000)
    assert run(nursery, work, FakeLease(fenced_points=True)) == Lost()


def test_renewal_is_retried_while_the_database_is_away(nursery, assignment):
    def away_at_first(count):
        if count < 3:
            raise OperationalError("select 1", {}, Exception("server closed the connection"))
        return "continue"

    lease = FakeLease(renew=away_at_first)
    assert isinstance(run(nursery, assignment("steps", steps=40), lease), Finished)
    assert lease.renewals > 3


def test_a_child_is_dead_before_the_lease_that_could_not_be_renewed_ends(nursery, assignment):
    timing = Timing(lease=2.0, renew=0.2, stuck=30.0, grace=1.0)
    work = assignment("steps", steps=10_000)

    def hangs(count):
        time.sleep(2.5)  # a database that answers nothing
        return "continue"

    began = time.time()
    assert run(nursery, work, FakeLease(renew=hangs), timing) == Lost()
    assert Path(work["trace"]).stat().st_mtime - began < timing.lease


def test_a_silent_child_is_stuck(nursery, assignment):
    timing = Timing(lease=4.0, renew=0.2, stuck=0.6, grace=1.0)
    outcome = run(nursery, assignment("silent"), timing=timing)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.problem.code) == ("infrastructure", "stuck")


def test_the_users_errors_are_told_apart_from_the_machines(nursery, assignment):
    user = run(nursery, assignment("bad_input"))
    machine = run(nursery, assignment("broken"))
    assert isinstance(user, Failed)
    assert isinstance(machine, Failed)
    assert (user.kind, user.problem.code) == ("user", "epoch_cap_exceeded")
    assert user.problem.details == {"domain": "web"}
    assert (machine.kind, machine.problem.message) == ("infrastructure", "OSError: no space left")
    assert "Traceback" in machine.problem.details["log"]


def test_a_killed_child_is_explained_by_signal_and_log(nursery, assignment):
    outcome = run(nursery, assignment("shot"))
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.problem.code) == ("infrastructure", "killed")
    assert outcome.problem.details["signal"] == "SIGKILL"
    assert "about to go" in outcome.problem.details["log"]


def test_a_nursery_that_dies_takes_its_child_and_is_replaced(nursery, assignment):
    work = assignment("deaf")

    def kill_nursery(count):
        if Path(work["trace"]).exists():
            os.kill(psutil.Process(traced_pids(work)[0]).ppid(), signal.SIGKILL)
        return "continue"

    outcome = run(nursery, work, FakeLease(renew=kill_nursery))
    assert isinstance(outcome, Failed)
    assert outcome.kind == "infrastructure"
    wait_until(lambda: gone(traced_pids(work)[0]))
    psutil.Process(traced_pids(work)[1]).kill()
    assert isinstance(run(nursery, assignment("quick", answer=3)), Finished)


SUPERVISOR = """
import json, sys, time
from workers.nursery import Nursery
from workers.supervisor import Timing, supervise

class Lease:
    def renew(self, share, message): return "continue"
    def point(self, point): pass

supervise(Nursery(["supervised_entries"]), json.loads(sys.argv[1]), Lease(),
          Timing(lease=60, renew=1), leased_at=time.monotonic())
"""


def test_a_killed_supervisor_leaves_no_orphan(assignment):
    import json

    work = assignment("steps", steps=10_000)
    env = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{ROOT}"}
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, json.dumps(work)], env=env, cwd=ROOT
    ) as supervisor:
        wait_until(lambda: Path(work["trace"]).exists() and Path(work["trace"]).stat().st_size > 0)
        family = psutil.Process(supervisor.pid).children(recursive=True)
        assert len(family) == 2  # the nursery and the child
        supervisor.kill()
    for process in family:
        wait_until(lambda process=process: gone(process.pid))
