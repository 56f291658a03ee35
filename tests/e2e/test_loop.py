"""A whole job through everything: client, API, queue, workers, engine, report."""

import pytest

from cuvee.states import JobState, RunState

pytestmark = pytest.mark.e2e


def test_a_job_ends_in_a_report_that_stands_on_its_runs(client, corpus, undisturbed):
    job, report = undisturbed
    runs = list(client.runs(job.id))
    by_rung = [sum(run.rung == rung and run.purpose == "search" for run in runs) for rung in (0, 1)]
    assert by_rung == [rung.runs for rung in job.spec.rungs]
    assert all(run.state == RunState.SUCCEEDED for run in runs)
    assert all(set(run.losses) == set(corpus.manifest.eval_sets) for run in runs)
    assert report.recommended is not None
    assert abs(sum(report.recommended.root.values()) - 1) < 1e-9
    assert [v.reference for v in report.verification] == ["baseline"]
    assert report.corpus_digest == corpus.manifest.digest


def test_a_proxy_run_leaves_its_loss_curve(client, undisturbed):
    job, _ = undisturbed
    run = next(run for run in client.runs(job.id) if run.kind == "proxy")
    curve = client.get_run(run.id).curve
    assert len(curve) == job.spec.rungs[1].evaluations
    assert [p.step for p in curve] == sorted(p.step for p in curve)


def test_the_events_of_a_job_are_a_gapless_log_from_acceptance_to_its_end(client, undisturbed):
    job, _ = undisturbed
    events = list(client.events(job.id))
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert (events[0].type, events[-1].type) == ("job.accepted", "job.succeeded")


def test_a_job_can_be_cancelled_in_the_middle_of_a_training(client, corpus, helpers):
    spec = helpers["job_spec"](corpus)
    proxy = spec.rungs[1].model_copy(update={"tokens": 50_000_000})
    job = client.submit(spec.model_copy(update={"rungs": (proxy,), "name": None}))
    for event in client.events(job.id):
        if event.type == "run.started":
            client.cancel(job.id)
    job = client.get_job(job.id)
    assert job.state == JobState.CANCELLED
    assert {run.state for run in client.runs(job.id)} == {RunState.CANCELLED}
