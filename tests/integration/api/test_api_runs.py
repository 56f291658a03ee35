from __future__ import annotations

import pytest
from builders import a_point, a_proposal, a_recommendation, a_report, losses

from cuvee.errors import SpecError
from cuvee.mixture import Mixture
from cuvee.spec import JobSpec, NgramRung, Verification
from cuvee.states import JobState, RunState
from service.usecases import advance, runs

DOMAINS = ("a", "b")
HALVES = Mixture.uniform(DOMAINS)
SPEC = JobSpec(
    corpus="text", rungs=(NgramRung(runs=3),), concurrency=3, verification=Verification(seeds=0)
)


@pytest.fixture
def proposed(client, ready_corpus, begin, work):
    """A job with three runs waiting."""
    job = client.submit(SPEC)
    decision = begin(job.id)
    proposals = [a_proposal(mixture=HALVES, seed=seed) for seed in range(3)]
    with work() as session:
        advance.complete_proposals(session, job.id, decision.token, proposals, decision.digest)
    return job


@pytest.fixture
def measure(work):
    """Do the next waiting run, with one point on its curve."""

    def one() -> str:
        with work() as session:
            lease = runs.claim_run(session, "cpu", "test")
        measured = losses(2.0, DOMAINS)
        with work() as session:
            runs.start_run(session, lease.run_id, lease.attempt)
            point = a_point(losses=measured)
            runs.append_point(session, lease.run_id, lease.attempt, point)
            runs.observe(session, lease.run_id, lease.attempt, measured, 1000, 0.5)
        return lease.run_id

    return one


@pytest.fixture
def finished(client, proposed, measure, begin, work):
    """A job with a report."""
    for _ in range(3):
        measure()
    decision = begin(proposed.id)
    with work() as session:
        advance.start_verification(
            session,
            proposed.id,
            decision.token,
            a_recommendation(mixture=HALVES),
            [],
            "all runs are done",
        )
    decision = begin(proposed.id)
    assert decision.phase == "reporting"
    with work() as session:
        report = a_report(job_id=proposed.id, recommended=HALVES)
        advance.finish(session, proposed.id, decision.token, report)
    return proposed


def test_runs_are_listed_page_by_page_and_by_state(client, proposed, measure):
    done = measure()
    listed = [run.id for run in client.runs(proposed.id)]
    assert len(listed) == 3
    first = client.list_runs(proposed.id, limit=2)
    second = client.list_runs(proposed.id, limit=2, cursor=first.next_cursor)
    assert [run.id for run in (*first.items, *second.items)] == listed
    assert [run.id for run in client.runs(proposed.id, state=RunState.SUCCEEDED)] == [done]
    with pytest.raises(SpecError, match="cursor"):
        client.list_runs(proposed.id, state="queued", cursor=first.next_cursor)


def test_one_run_comes_with_its_curve(client, proposed, measure):
    run = client.get_run(measure())
    assert run.state is RunState.SUCCEEDED
    assert run.objective == pytest.approx(2.0)
    assert run.losses == losses(2.0, DOMAINS)
    assert run.curve is not None
    assert [point.step for point in run.curve] == [1]
    assert client.list_runs(proposed.id).items[0].curve is None


def test_the_report_is_data_or_a_page(http, client, finished):
    assert client.get_job(finished.id).state is JobState.SUCCEEDED
    report = client.report(finished.id)
    assert report.recommended == HALVES
    assert report.job_id == finished.id
    page = http.get(f"/v1/jobs/{finished.id}/report", params={"format": "html"})
    assert page.headers["content-type"].startswith("text/html")
    assert report.verdict in page.text
    assert client.report_html(finished.id) == page.text


def test_the_page_is_sent_with_the_policy_that_it_states(http, finished):
    page = http.get(f"/v1/jobs/{finished.id}/report", params={"format": "html"})
    policy = page.headers["content-security-policy"]
    assert "sha256-" in policy
    assert "unsafe" not in policy


def test_an_unknown_format_is_refused(http, finished):
    answer = http.get(f"/v1/jobs/{finished.id}/report", params={"format": "pdf"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "?format"


def test_the_log_of_a_whole_job_ends_its_stream(client, finished):
    kinds = [event.type for event in client.events(finished.id)]
    assert kinds[0] == "job.accepted"
    assert kinds[-1] == "job.succeeded"
    assert kinds.count("run.succeeded") == 3
