"""The pages over a real database, in every stage of a job's life."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_samples import HOSTILE, a_refusal, a_report
from dashboard_scenario import Scenario
from dashboard_world import DOMAINS
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient

from cuvee.records import Problem
from cuvee.spec import Constraints
from service.app import create_app
from service.db.models import DEFAULT_TENANT
from service.edge import unit_of_work
from service.settings import Settings
from service.usecases import advance, corpora, jobs


@pytest.fixture
def scenario(sessions: sessionmaker[Session]) -> Scenario:
    return Scenario(lambda: unit_of_work(sessions))


@pytest.fixture
def pages(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(database_url=database_url, environment="development", data_dir=tmp_path)
    with TestClient(create_app(settings)) as client:
        yield client


def text_of(html: str) -> str:
    """What a person reads, on one line."""
    without = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", without).split())


def test_an_empty_server_says_how_to_begin(pages: TestClient) -> None:
    page = pages.get("/")
    assert page.status_code == 200
    assert "cuvee submit job.yaml" in page.text
    assert "No corpus yet" in pages.get("/corpora").text


def test_a_job_that_waits_says_for_what(pages: TestClient, scenario: Scenario) -> None:
    scenario.corpus(ready=False)
    job = scenario.job()
    page = pages.get(f"/jobs/{job.id}").text
    assert "Waiting for the corpus demo-text to be prepared" in page
    assert f"/v1/jobs/{job.id}/events?after=" in page
    assert "It appears here with the first run" in page


def test_a_job_whose_corpus_failed_shows_the_reason(pages: TestClient, scenario: Scenario) -> None:
    corpus = scenario.corpus(ready=False)
    job = scenario.job()
    with scenario.work() as session:
        lease = corpora.claim_preparation(session, corpus.id, "worker-1")
        assert lease is not None
        problem = Problem(code="corpus_invalid", message="domain math: no file matches /data/math")
        corpora.fail_preparation(session, corpus.id, lease.attempt, problem)
    assert "no file matches /data/math" in pages.get(f"/jobs/{job.id}").text
    assert "no file matches /data/math" in pages.get(f"/corpora/{corpus.id}").text


def test_a_search_in_progress_shows_its_best_its_curve_and_its_runs(
    pages: TestClient, scenario: Scenario
) -> None:
    scenario.corpus()
    job = scenario.job()
    scenario.search(job, 4)
    scenario.propose(job, 2)
    scenario.fail(scenario.claim(), "the loss became NaN at step 40")
    scenario.point(scenario.claim(), 50, 0.2)

    page = pages.get("/jobs/demo").text
    read = text_of(page)
    assert "The best mixture so far" in read
    assert "Searching: 4 of" in read
    assert "1 run failed; the latest: the loss became NaN at step 40" in read
    assert 'data-chart="search"' in page
    assert "running 50 %" in read
    assert read.count("succeeded") == 4
    assert 'data-action="/v1/jobs/' in page
    assert "Full report" not in read

    listed = text_of(pages.get("/").text)
    assert "4 of" in listed
    assert "1 failed" in listed


def test_a_verification_in_progress_shows_the_recommendation(
    pages: TestClient, scenario: Scenario
) -> None:
    scenario.corpus()
    job = scenario.job()
    scenario.search(job, 2)
    scenario.verify(job)
    read = text_of(pages.get(f"/jobs/{job.id}").text)
    assert "Recommended, now being verified" in read
    assert "31.2 %" in read
    assert "What the paired runs can show" in read
    assert "99.8 %" in read


def test_a_finished_job_leads_to_its_report(pages: TestClient, scenario: Scenario) -> None:
    scenario.corpus()
    job = scenario.job()
    scenario.search(job, 3)
    scenario.verify(job)
    scenario.finish(job, a_report(job_id=job.id))

    page = pages.get(f"/jobs/{job.id}").text
    read = text_of(page)
    assert a_report().verdict in read
    assert "What to train on" in read
    assert "data-refresh" not in page
    assert "data-action" not in page
    link = re.search(r'href="(/v1/jobs/[^"]+format=html)"', page)
    assert link is not None
    report = pages.get(link[1])
    assert report.status_code == 200
    assert a_report().verdict in report.text


def test_a_job_that_was_refused_an_answer_shows_why(pages: TestClient, scenario: Scenario) -> None:
    scenario.corpus()
    job = scenario.job()
    scenario.search(job, 2)
    scenario.verify(job)
    refusal = a_refusal()
    scenario.finish(job, refusal.model_copy(update={"job_id": job.id}))
    assert str(refusal.refused) in text_of(pages.get(f"/jobs/{job.id}").text)


def test_a_run_shows_its_curve_its_losses_and_its_mixture(
    pages: TestClient, scenario: Scenario
) -> None:
    scenario.corpus()
    job = scenario.job()
    scenario.propose(job, 1)
    lease = scenario.claim()
    scenario.point(lease, 25, 0.4)
    assert 'data-chart="lines"' in pages.get(f"/runs/{lease.run_id}").text
    scenario.measure(lease)
    read = text_of(pages.get(f"/runs/{lease.run_id}").text)
    for domain in DOMAINS:
        assert domain in read
    assert "Measured losses" in read
    assert "baseline" in read


def test_only_the_newest_runs_are_listed_until_all_are_asked_for(
    pages: TestClient, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dashboard.routes._PAGE_RUNS", 2)
    scenario.corpus()
    job = scenario.job()
    scenario.search(job, 5)
    short = pages.get(f"/jobs/{job.id}").text
    assert "3 older runs are not shown" in short
    assert short.count('href="/runs/') == 2
    assert pages.get(f"/jobs/{job.id}?all=true").text.count('href="/runs/') == 5


def test_runs_can_be_taken_away_as_csv(pages: TestClient, scenario: Scenario) -> None:
    scenario.corpus()
    job = scenario.job()
    scenario.search(job, 2)
    scenario.propose(job, 1)
    scenario.fail(scenario.claim(), "the loss became NaN")
    answer = pages.get(f"/jobs/{job.id}/runs.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["state"] for row in rows] == ["succeeded", "succeeded", "failed"]
    assert rows[2]["bits_per_byte"] == ""
    for row in rows:
        assert sum(float(row[f"share.{d}"]) for d in DOMAINS) == pytest.approx(1)


def test_a_job_that_its_corpus_contradicts_shows_its_error(
    pages: TestClient, scenario: Scenario
) -> None:
    scenario.corpus(ready=False)
    narrow = Constraints(target_tokens=10**12)
    job = scenario.job(constraints=narrow)
    scenario.prepare("demo-text")
    with scenario.work() as session:
        assert advance.begin(session, job.id, "worker-1") is None
    page = pages.get(f"/jobs/{job.id}")
    assert page.status_code == 200
    assert "Failed after 0 of" in text_of(page.text)
    assert "supply" in page.text


def test_buttons_are_those_that_the_state_allows(pages: TestClient, scenario: Scenario) -> None:
    scenario.corpus()
    job = scenario.job()

    def buttons() -> set[str]:
        return set(re.findall(r"/v1/jobs/[^/]+/(\w+)\"", pages.get(f"/jobs/{job.id}").text))

    assert {"pause", "cancel"} <= buttons()
    with scenario.work() as session:
        jobs.pause_job(session, DEFAULT_TENANT, job.id)
    assert "resume" in buttons()
    with scenario.work() as session:
        jobs.cancel_job(session, DEFAULT_TENANT, job.id)
    assert not buttons() & {"pause", "resume"}


def test_the_census_is_a_table(pages: TestClient, scenario: Scenario) -> None:
    scenario.corpus()
    read = text_of(pages.get("/corpora/demo-text").text)
    assert "10.5 M training tokens in 6 domains; code is the largest with 40.1 %" in read
    assert "demo-text" in text_of(pages.get("/corpora").text)


def test_hostile_text_stays_text(pages: TestClient, scenario: Scenario) -> None:
    scenario.corpus()
    job = scenario.job()
    scenario.propose(job, 1)
    scenario.fail(scenario.claim(), HOSTILE)
    page = pages.get(f"/jobs/{job.id}").text
    assert "&lt;img src=x" in page
    assert "<img" not in page


@pytest.mark.parametrize("path", ["/jobs/nope", "/runs/nope", "/corpora/nope"])
def test_what_is_not_there_is_said_on_a_page(pages: TestClient, path: str) -> None:
    page = pages.get(path)
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "nope" in page.text


def test_a_bad_cursor_is_explained(pages: TestClient) -> None:
    page = pages.get("/?cursor=%3Cscript%3E")
    assert page.status_code == 422
    assert "<script>" not in page.text


def test_static_files_are_cached_for_good_under_their_digest(pages: TestClient) -> None:
    page = pages.get("/").text
    address = re.search(r'href="(/static/\w+)/theme.css"', page)
    assert address is not None
    file = pages.get(f"{address[1]}/theme.css")
    assert file.headers["content-type"].startswith("text/css")
    assert "immutable" in file.headers["cache-control"]
    assert pages.get("/static/old/theme.css").headers["cache-control"] == "no-cache"
    assert pages.get(f"{address[1]}/../routes.py").status_code == 404
    assert pages.get(f"{address[1]}/%2e%2e/routes.py").status_code == 404


def test_pages_work_behind_a_proxy_with_a_prefix(
    database_url: str, tmp_path: Path, scenario: Scenario
) -> None:
    scenario.corpus()
    job = scenario.job()
    settings = Settings(database_url=database_url, environment="development", data_dir=tmp_path)
    with TestClient(create_app(settings), root_path="/tools/cuvee") as client:
        page = client.get(f"/jobs/{job.id}").text
    own = re.findall(r'(?:href|src|data-action|data-refresh|data-events)="(/[^"]*)"', page)
    assert own
    assert all(address.startswith("/tools/cuvee/") for address in own)
