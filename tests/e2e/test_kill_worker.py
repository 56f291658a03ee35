"""Killing workers with SIGKILL in the middle of a job costs time and changes nothing else."""

import os
import signal
import time

import psutil
import pytest

from cuvee.states import JobState, RunState

pytestmark = pytest.mark.e2e


def named(process, part):
    try:
        return part in " ".join(process.cmdline())
    except psutil.Error:
        return False


def whole_worker(worker):
    return worker


def child_of_the_pool(worker):
    return next(c for c in worker.children() if named(c, "billiard.spawn"))


def trainer(worker):
    nursery = next(c for c in worker.children(recursive=True) if named(c, "workers.nursery"))
    return next((c for c in nursery.children()), None)


def wait_for(find, seconds=30.0):
    deadline = time.monotonic() + seconds
    while (found := find()) is None:
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)
    return found


def test_killed_workers_cost_only_time(stack, client, corpus, undisturbed, helpers):
    victims = [trainer, whole_worker, child_of_the_pool]
    job = client.submit(helpers["job_spec"](corpus))
    for event in client.events(job.id):
        # Each victim in a run of its own: a run that loses three attempts has failed.
        fresh = event.type == "run.started" and event.payload["attempt"] == 1
        if fresh and event.payload["rung"] == 1 and victims:
            worker = psutil.Process(stack.pids["train-1"])
            family = worker.children(recursive=True)
            # There is a training to interrupt: wait for its process, not for its start event.
            wait_for(lambda worker=worker: trainer(worker))
            victim = victims.pop(0)
            os.kill(victim(worker).pid, signal.SIGKILL)
            if victim is whole_worker:
                psutil.wait_procs(family, timeout=10)
                assert not any(p.is_running() for p in family), "orphans of a killed worker"

    job = client.get_job(job.id)
    assert job.state == JobState.SUCCEEDED, job.error
    assert not victims
    before, reference = undisturbed
    runs, peace = list(client.runs(job.id)), list(client.runs(before.id))
    assert all(run.state == RunState.SUCCEEDED for run in runs)
    assert sum(run.attempt for run in runs) == len(runs) + 3
    succeeded = [e.payload["run_id"] for e in client.events(job.id) if e.type == "run.succeeded"]
    assert sorted(succeeded) == sorted(run.id for run in runs)

    def measured(all_runs):
        return sorted((r.rung, r.purpose, r.seed, str(r.mixture), r.objective) for r in all_runs)

    assert measured(runs) == measured(peace)
    report = client.report(job.id)
    assert report.recommended == reference.recommended
    assert report.verification == reference.verification


def test_a_worker_that_is_asked_to_stop_hands_its_run_back_and_it_goes_on(
    stack, client, corpus, helpers
):
    spec = helpers["job_spec"](corpus)
    proxy = spec.rungs[1].model_copy(update={"tokens": 50_000_000})
    job = client.submit(spec.model_copy(update={"rungs": (proxy,)}))
    outcome = None
    for event in client.events(job.id):
        if event.type == "run.lost":
            outcome = event.payload["outcome"]
        if event.type == "run.started" and event.payload["attempt"] == 1:
            worker = psutil.Process(stack.pids["train-1"])
            wait_for(lambda worker=worker: trainer(worker))
            worker.terminate()
            # Its goodbye is its own: the stack starts another in its place.
            worker.wait(30)
        if event.type == "run.started" and event.payload["attempt"] == 2:
            client.cancel(job.id)
    assert outcome == "released"
    assert client.get_job(job.id).state == JobState.CANCELLED
