"""The report page in Chromium, opened as a file: nothing fetched, charts drawn, readable by all."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_tools import Watched, findings
from dashboard_samples import HOSTILE, a_refusal, a_report, front
from playwright.sync_api import Browser

from cuvee.answer import EquivalentSet, Interval
from cuvee.mixture import Mixture
from service.dashboard.report import render_report

pytestmark = pytest.mark.browser

SCREENS = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]


def saved(folder: Path, html: str) -> str:
    path = folder / "report.html"
    path.write_text(html)
    return path.as_uri()


@pytest.mark.parametrize("watched", SCREENS, indirect=True)
def test_it_draws_without_fetching_anything_or_breaking_its_policy(
    watched: Watched, tmp_path: Path
) -> None:
    address = saved(tmp_path, render_report(a_report()))
    watched.page.goto(address)
    watched.page.wait_for_selector(".plot.drawn svg")
    assert watched.drawn() == 11
    assert watched.requests == [address]
    assert watched.complaints == []
    assert findings(watched.page) == []


@pytest.mark.parametrize("watched", SCREENS, indirect=True)
@pytest.mark.parametrize("parts", [("reasoning", "interface"), ("reasoning", "interface", "prose")])
def test_a_front_is_drawn_whatever_its_parts(
    watched: Watched, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    watched.page.goto(saved(tmp_path, render_report(front(parts))))
    watched.page.wait_for_selector("#figure-front .plot.drawn svg")
    assert watched.drawn() == 12
    assert watched.page.locator("#front .mixtures .stack").count() == 7
    assert watched.complaints == []
    assert findings(watched.page) == []


def test_two_hundred_domains_keep_the_page_within_the_screen(
    watched: Watched, tmp_path: Path
) -> None:
    names = [f"source/{n}/a-domain-with-a-long-name" for n in range(200)]
    found = EquivalentSet(
        tolerance=0.01,
        share_of_region=0.3,
        ranges={n: Interval(mean=1 / 200, low=0, high=0.02) for n in names},
        examples=(Mixture.uniform(names),),
    )
    share = a_report().domains[0]
    domains = tuple(share.model_copy(update={"name": n, "binding": None}) for n in names)
    report = a_report(domains=domains, equivalents=found, recommended=Mixture.uniform(names))
    watched.page.goto(saved(tmp_path, render_report(report)))
    watched.page.wait_for_selector("#figure-equivalents .plot.drawn svg")
    assert watched.complaints == []
    assert findings(watched.page) == []


def test_a_tooltip_breaks_no_policy(watched: Watched, tmp_path: Path) -> None:
    watched.page.goto(saved(tmp_path, render_report(a_report())))
    watched.page.wait_for_selector(".plot.drawn svg")
    plot = watched.page.locator("#figure-search .plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    before = plot.locator("svg text").count()
    for x in range(0, int(box["width"]), 9):
        for y in range(20, int(box["height"]) - 20, 9):
            watched.page.mouse.move(box["x"] + x, box["y"] + y)
            if plot.locator("svg text").count() > before:
                assert watched.complaints == []
                return
    pytest.fail("no point of the curve shows a tooltip")


def test_hostile_names_run_nothing(watched: Watched, tmp_path: Path) -> None:
    fits = tuple(f.model_copy(update={"eval_set": HOSTILE}) for f in a_report().fits)
    report = a_report(name=HOSTILE, verdict=HOSTILE, fits=fits)
    watched.page.goto(saved(tmp_path, render_report(report)))
    watched.page.wait_for_selector(".plot.drawn svg")
    assert watched.page.inner_text(".lead") == HOSTILE
    assert watched.page.locator("img").count() == 0
    assert watched.complaints == []


def test_a_refusal_is_readable(watched: Watched, tmp_path: Path) -> None:
    watched.page.goto(saved(tmp_path, render_report(a_refusal())))
    assert "at least 12 more runs" in watched.page.inner_text("#verdict")
    assert watched.complaints == []
    assert findings(watched.page) == []


def test_it_can_be_read_with_scripts_switched_off(chromium: Browser, tmp_path: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(saved(tmp_path, render_report(a_report())))
    assert page.locator(".recipe .share").count() == 6
    assert page.locator(".plot:visible").count() == 0
    page.locator("#figure-verification summary").click()
    assert "101" in page.inner_text("#figure-verification table")
    context.close()


def test_paper_is_light_and_shows_the_numbers(chromium: Browser, tmp_path: Path) -> None:
    context = chromium.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(saved(tmp_path, render_report(a_report())))
    page.wait_for_selector(".plot.drawn svg")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#figure-verification table").bounding_box() is not None
    context.close()
