"""The dashboard in Chromium: strict policy, own origin only, live, usable by keyboard."""

from __future__ import annotations

import pytest
from browser_tools import Watched, findings
from dashboard_samples import a_report, diagnosis
from dashboard_scenario import Scenario
from playwright.sync_api import expect
from sqlalchemy.orm import Session, sessionmaker

from service.edge import unit_of_work

pytestmark = pytest.mark.browser


@pytest.fixture
def scenario(sessions: sessionmaker[Session]) -> Scenario:
    return Scenario(lambda: unit_of_work(sessions))


@pytest.mark.parametrize("watched", [(1280, "light"), (400, "dark")], indirect=True)
def test_pages_keep_to_their_origin_and_policy(
    server: str, watched: Watched, scenario: Scenario
) -> None:
    scenario.corpus()
    finished = scenario.job("finished")
    scenario.search(finished, 4)
    scenario.verify(finished)
    scenario.finish(finished, a_report(job_id=finished.id))
    job = scenario.job("searching")
    scenario.search(job, 3)
    scenario.propose(job, 2, found=diagnosis())
    scenario.fail(scenario.claim(), "the loss became NaN")
    lease = scenario.claim()
    scenario.point(lease, 25, 0.4)
    scenario.point(lease, 50, 0.2)

    charts = {
        "/": 0,
        "/jobs/finished": 1,
        "/jobs/searching": 2,
        f"/runs/{lease.run_id}": 1,
        "/corpora": 0,
        "/corpora/demo-text": 0,
        "/jobs/nope": 0,
        f"/v1/jobs/{finished.id}/report?format=html": 11,
    }
    for path, count in charts.items():
        watched.page.goto(server + path)
        if count:
            watched.page.wait_for_selector(".plot.drawn svg")
        assert watched.drawn() == count, path
        assert findings(watched.page) == [], path
    expected = (
        "error: Failed to load resource: the server responded with a status of 404 (Not Found)"
    )
    assert [c for c in watched.complaints if c != expected] == []
    assert watched.complaints.count(expected) == 1, "only the page that is not there"
    assert all(url.startswith(server) for url in watched.requests)


def test_news_appears_without_reloading(server: str, watched: Watched, scenario: Scenario) -> None:
    scenario.corpus()
    job = scenario.job()
    page = watched.page
    page.goto(f"{server}/jobs/{job.id}")
    expect(page.locator("#runs")).to_contain_text("None yet")
    page.evaluate("window.sameDocument = true")

    scenario.search(job, 1)
    expect(page.locator("#runs tbody tr")).to_have_count(1, timeout=10_000)
    expect(page.locator(".plot.drawn svg")).to_be_visible()
    first = page.locator("#caption-search").inner_text()

    page.locator("#runs a").first.focus()
    focused = page.evaluate("document.activeElement.id")
    page.locator("#figure-search summary").click()
    page.evaluate("document.querySelector('#runs a').focus()")
    scenario.search(job, 3)
    expect(page.locator("#runs tbody tr")).to_have_count(4, timeout=10_000)
    assert page.locator("#caption-search").inner_text() != first
    assert page.locator("#figure-search details").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.id") == focused
    assert page.evaluate("window.sameDocument")
    assert "runs done" in page.locator("#announcer").inner_text()

    scenario.propose(job, 1, found=diagnosis())
    expect(page.locator("#warnings li")).to_have_count(3, timeout=10_000)
    expect(page.locator("#figure-doctor .plot svg")).to_be_visible()
    expect(page.locator("#health")).to_contain_text("The objective doctor warns: scripture")
    scenario.measure(scenario.claim())

    scenario.verify(job)
    expect(page.locator("#recipe h2")).to_have_text(
        "Recommended, now being verified", timeout=10_000
    )
    scenario.finish(job, a_report(job_id=job.id))
    expect(page.locator("#report-link")).to_be_visible(timeout=10_000)
    expect(page.locator("#recipe h2")).to_have_text("What to train on")
    assert page.evaluate("window.sameDocument")
    assert watched.complaints == []


def test_a_run_is_explained_in_the_table_and_on_its_page(
    server: str, watched: Watched, scenario: Scenario
) -> None:
    scenario.corpus()
    job = scenario.job()
    scenario.search(job, 2)
    page = watched.page
    page.goto(f"{server}/jobs/{job.id}")
    row = page.locator("#runs tbody tr", has_text="improvement: gain +0.0124 ± 0.0098")
    expect(row).to_have_count(1)
    row.locator("a").click()
    expect(page.locator("#why h2")).to_have_text("Why this run?")
    expect(page.locator("#why")).to_contain_text(
        "proxy (rung 1) promised 5.08 times as much as ngram (rung 0)"
    )
    expect(page.locator("#why .alternatives tbody tr").first).to_contain_text("this run")
    assert findings(page) == []
    assert watched.complaints == []


def test_without_streams_the_page_asks_by_the_clock(
    server: str, watched: Watched, scenario: Scenario
) -> None:
    watched.page.add_init_script("delete window.EventSource")
    scenario.corpus()
    job = scenario.job()
    watched.page.goto(f"{server}/jobs/{job.id}")
    scenario.search(job, 1)
    expect(watched.page.locator("#runs tbody tr")).to_have_count(1, timeout=15_000)
    assert not any("/events" in url for url in watched.requests)


def test_buttons_act_and_say_what_was_refused(
    server: str, watched: Watched, scenario: Scenario
) -> None:
    scenario.corpus()
    job = scenario.job()
    scenario.search(job, 1)
    page = watched.page
    page.goto(f"{server}/jobs/{job.id}")

    page.locator("#pause").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#resume")).to_be_visible(timeout=10_000)
    expect(page.locator("#health")).to_contain_text("Paused")
    page.locator("#resume").click()
    expect(page.locator("#pause")).to_be_visible(timeout=10_000)

    page.once("dialog", lambda dialog: dialog.dismiss())
    page.locator("#cancel").click()
    expect(page.locator("#cancel")).to_be_enabled()
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#cancel").click()
    expect(page.locator("h1")).to_contain_text("cancelled", timeout=10_000)
    expect(page.locator("[data-action]")).to_have_count(0)


def test_the_first_stop_of_the_keyboard_skips_to_the_content(server: str, watched: Watched) -> None:
    page = watched.page
    page.goto(server)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
