"""The report page: complete, self-contained, escaped, and honest when there is no answer."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

from dashboard_samples import HOSTILE, a_refusal, a_report, front
from dashboard_world import DOMAINS, interval, recommended
from pydantic import BaseModel

import cuvee.answer
from cuvee.answer import Report
from service.dashboard import report as report_page
from service.dashboard.recipe import Recipe
from service.dashboard.report import render_report, report_csp


class Outline(HTMLParser):
    """Headings in order, inline scripts and styles, and every address that a page names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.inline: list[tuple[str, str, str]] = []
        self._open: tuple[str, str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        assert "style" not in given, "an inline style would break the policy"
        assert not any(name.startswith("on") for name in given), "an inline handler would, too"
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.addresses += [v for k, v in given.items() if k in ("src", "href", "action") and v]
        if tag in ("script", "style"):
            self._open = (tag, given.get("type") or "")

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.inline.append((*self._open, data))

    def handle_endtag(self, tag: str) -> None:
        self._open = None


def test_the_answer_stands_in_the_text_without_any_script() -> None:
    report = a_report()
    html = render_report(report)
    assert report.verdict in html
    assert "<h1>5.5 % lower loss than the baseline</h1>" in html
    for domain in report.domains:
        assert f"{domain.recommended.mean * 100:.1f} %" in html
    for one in report.verification:
        for seed, *_ in one.pairs:
            assert str(seed) in html
    for note in report.notes:
        assert note in html
    assert report.corpus_digest in html
    assert "at its cap" in html


def test_the_page_names_no_address_outside_itself() -> None:
    outline = Outline(render_report(a_report()))
    assert all(address.startswith("#") for address in outline.addresses)
    assert "link" not in outline.tags
    assert "img" not in outline.tags


def test_the_contents_lead_to_parts_that_are_there_and_to_all_of_them() -> None:
    html = render_report(a_report(front=front().front))
    wanted = {address.removeprefix("#") for address in Outline(html).addresses}
    assert all(html.count(f'id="{anchor}"') == 1 for anchor in wanted)
    cards = set(re.findall(r'<(?:section|div) class="(?:card|pair)[^"]*" id="([a-z]+)"', html))
    assert cards - wanted == {"agreement", "search"}  # beside the rungs


def test_parts_without_anything_to_say_are_left_out() -> None:
    empty = a_report(
        equivalents=None, guardrails=(), shadow_prices=(), calibration=None, plan=(),
        bridges=None, reuse=(), diagnosis=None,
        fits=tuple(f.model_copy(update={"scores": {}}) for f in a_report().fits),
    )  # fmt: skip
    html = render_report(empty).split("</style>")[1].split('id="report"')[0]
    for part in ("equivalents", "guardrails", "models", "doctor", "reuse", "front"):
        assert f'id="{part}"' not in html, part
        assert f'href="#{part}"' not in html, part
    for words in ("rankings together", "The plan of verification", "Intervals of every level"):
        assert words not in html, words


def test_where_no_cap_binds_the_page_says_that_more_text_changes_nothing() -> None:
    loose = tuple(p.model_copy(update={"binding": False}) for p in a_report().shadow_prices)
    said = "more text would not change the recommendation"
    html = render_report(a_report(shadow_prices=loose))
    assert said in html
    assert html.count("not binding: 0") == len(loose)
    assert said not in render_report(a_report())


def test_the_script_is_one_module_that_imports_nothing() -> None:
    script = render_report(a_report()).rsplit('<script type="module">', 1)[1]
    assert "import {" not in script
    assert script.count("export const KINDS") == 1
    assert script.rstrip().split("</script>")[0].rstrip().endswith("drawAll(document);")


def test_without_a_cap_of_supply_the_page_says_why_text_has_no_price() -> None:
    uncapped = a_report(shadow_prices=())
    assert "that the mixture is for, supply caps no share" in render_report(uncapped)
    domains = tuple(d.model_copy(update={"epochs": None}) for d in uncapped.domains)
    html = render_report(uncapped.model_copy(update={"domains": domains}))
    assert "constraints.target_tokens), so supply caps no share" in html
    assert 'id="prices"' not in render_report(a_refusal())


def test_every_part_of_the_defended_answer_is_in_the_text() -> None:
    html = render_report(a_report())
    for said in (
        "scripture is the freest (4.4 to 15.6 %)",
        "195 K more tokens of math: −0.0119 [−0.0181, −0.0065] bits per byte",
        "0.90 [0.80, 0.95]",
        "3 of 3 hold",
        "0.86 [0.71, 0.94]",
        "Another would repair the ranking too little for its cost",
        "1.21 times as wide",
        "The plan of verification",
        "Chance to show the predicted gain",
        "multi_fidelity_gp on 3 sets",
        "scripture cannot tell these mixtures apart",
        "31 earlier runs were used and 13 dropped",
        "no evaluation set is shared with this job",
    ):
        assert said in html, said


def test_the_policy_allows_exactly_the_scripts_and_the_style_that_are_inside() -> None:
    outline = Outline(render_report(a_report()))
    wanted = {"script": set(), "style": set()}  # type: dict[str, set[str]]
    for tag, kind, text in outline.inline:
        if kind != "application/json":
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            wanted[tag].add(f"'sha256-{digest}'")
    policy = dict(part.split(" ", 1) for part in report_csp().split("; "))
    assert set(policy["script-src"].split()) == wanted["script"]
    assert set(policy["style-src"].split()) == wanted["style"]
    assert policy["default-src"] == "'none'"
    assert f'content="{report_csp()}"'.replace("'", "&#39;") in render_report(a_report())


FIELDS = {
    name
    for record in (Report, *vars(cuvee.answer).values())
    if isinstance(record, type) and issubclass(record, BaseModel)
    for name in record.model_fields
}


def test_hostile_names_stay_text() -> None:
    """Every text of the record but the time, in every part of the page."""
    report = a_report(front=front(("one", "two")).front)
    given = report.model_dump(mode="json")
    names = {d: f"{HOSTILE}{n}" for n, d in enumerate(DOMAINS)}

    def replaced(value: Any) -> Any:
        if isinstance(value, str):
            return names.get(value, HOSTILE)
        if isinstance(value, list):
            return [replaced(item) for item in value]
        if isinstance(value, dict):
            fields = isinstance(value.get("mean"), float) or any(k in FIELDS for k in value)
            return {k if fields else names.get(k, HOSTILE): replaced(v) for k, v in value.items()}
        return value

    hostile = Report.model_validate(replaced(given) | {"created_at": given["created_at"]})
    assert hostile.equivalents is not None
    assert all(HOSTILE in name for name in hostile.equivalents.ranges)
    html = render_report(hostile)
    assert "<img src=x" not in html
    outline = Outline(html)
    assert "img" not in outline.tags
    assert outline.tags.count("script") == Outline(render_report(report)).tags.count("script")


def test_the_saved_report_can_be_read_back_from_the_page() -> None:
    report = a_report(name="it's <b> & more")
    saved = [
        text
        for tag, kind, text in Outline(render_report(report)).inline
        if kind == "application/json" and '"job_id"' in text
    ]
    assert Report.model_validate_json(saved[0]) == report


def test_a_refusal_is_the_headline_and_gives_no_recipe() -> None:
    html = render_report(a_refusal())
    assert "No recommendation" in html
    assert "at least 12 more runs" in html
    assert 'id="recipe"' not in html
    assert "Verified" not in html


def test_a_report_without_verification_does_not_claim_one() -> None:
    report = a_report(verification=(), measured_objective=None)
    html = render_report(report)
    assert "Predicted, not verified" in html
    assert 'id="figure-verification"' not in html
    assert "Loss against baseline, predicted" in html


def test_a_difference_that_includes_zero_is_not_called_verified() -> None:
    sure = a_report().verification[0]
    unsure = sure.model_copy(
        update={"difference": sure.difference.model_copy(update={"low": -0.01})}
    )
    html = render_report(a_report(verification=(unsure,)))
    assert "Not settled" in html
    assert "<h1>Not shown to beat the baseline</h1>" in html
    worse = sure.model_copy(
        update={
            "difference": sure.difference.model_copy(
                update={"low": -0.03, "mean": -0.02, "high": -0.01}
            )
        }
    )
    html = render_report(a_report(verification=(worse,)))
    assert "Did not hold" in html
    assert "keep the baseline" in html
    half = render_report(a_report(verification=(sure, unsure)))
    assert "Not settled for every reference" in half


def test_the_bare_minimum_of_a_report_renders() -> None:
    full = a_report()
    bare = Report(
        job_id=full.job_id,
        name=None,
        corpus_digest=full.corpus_digest,
        created_at=full.created_at,
        confidence=0.9,
        verdict="Nothing was measured.",
    )
    assert "Nothing was measured." in render_report(bare)


def test_headings_descend_one_level_at_a_time() -> None:
    headings = Outline(render_report(a_report())).headings
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))


def test_the_card_shows_the_baseline_only_where_it_differs() -> None:
    report = a_report()
    assert Recipe.from_report(report).same_baseline
    moved = tuple(d.model_copy(update={"baseline": 1 / len(DOMAINS)}) for d in report.domains)
    recipe = Recipe.from_report(a_report(domains=moved))
    assert not recipe.same_baseline
    assert "key-baseline" in render_report(a_report(domains=moved)).split("</style>")[1]


def test_what_holds_a_share_is_named_for_what_it_is() -> None:
    first, *rest = a_report().domains
    floor = first.model_copy(update={"binding": "bounds.code.min = 0.186"})
    held = {r.name: r.held for r in Recipe.from_report(a_report(domains=(floor, *rest))).rows}
    assert held["math"] == "at its cap"
    assert held["code"] == "held by a bound"
    assert held["plays"] is None


def test_a_bound_on_several_shares_is_told_once() -> None:
    bound = "the bound on web/*, at most 0.5 together"
    first, second, *rest = a_report().domains
    both = [d.model_copy(update={"binding": bound}) for d in (first, second)]
    page = render_report(a_report(domains=(*both, *rest)))
    larger, smaller = sorted((first, second), key=lambda d: -recommended()[d.name])
    told = f"<li><strong>{larger.name} and {smaller.name}</strong>: {bound}</li>"
    assert page.count(told) == page.count(f"</strong>: {bound}") == 1


def test_the_card_shows_the_mixture_itself_and_not_the_middle_of_its_interval() -> None:
    first, *rest = a_report().domains
    moved = first.model_copy(update={"recommended": interval(0.25, 0.05)})
    recipe = Recipe.from_report(a_report(domains=(moved, *rest)))
    row = next(r for r in recipe.rows if r.name == first.name)
    assert row.share == recommended()[first.name]
    assert row.low == 0.2


def test_with_more_domains_than_colours_the_largest_are_coloured() -> None:
    share = a_report().domains[0]
    domains = tuple(
        share.model_copy(update={"name": f"d{n}", "recommended": interval(n / 66, 0.01)})
        for n in range(12)
    )
    html = render_report(a_report(domains=domains))
    legend = html.split('aria-label="Domains">')[1].split("</ul>")[0]
    assert re.findall(r"</span>(\w+)</li>", legend) == [f"d{n}" for n in range(11, 3, -1)]
    assert "4 others" in legend


def test_no_mark_of_the_card_falls_off_its_scale() -> None:
    recipe = Recipe.from_report(a_report())
    marks = [x for r in recipe.rows for x in (r.share, r.high or 0, r.natural, r.baseline)]
    assert max(marks) <= recipe.scale <= 1


def test_the_command_renders_a_saved_report(tmp_path: Path) -> None:
    saved = tmp_path / "report.json"
    saved.write_text(a_report().model_dump_json())
    report_page.main([str(saved)])
    assert a_report().verdict in (tmp_path / "report.html").read_text()
    assert json.loads(saved.read_text())["seed"] == 1
