"""The report's sections: what each draws, what it says in words, and when it is left out."""

from __future__ import annotations

import json
from typing import Any

from dashboard_samples import a_refusal, a_report, equivalents, front, guardrails, shadow_prices
from dashboard_world import interval, natural

from cuvee.answer import EquivalentSet, Interval
from cuvee.mixture import Mixture
from service.dashboard.report_figures import report_figures
from service.dashboard.rows import MAX_ROWS, Axis, Marks, rows_data
from service.dashboard.sections.gains import gains_figure, plan_rows
from service.dashboard.sections.losses import guardrails_figure
from service.dashboard.sections.mixtures import equivalents_figure, front_figure, named_mixtures
from service.dashboard.sections.supply import prices_figure

ALL = {
    "gains", "verification", "losses", "guardrails", "equivalents", "prices", "left_out",
    "calibration", "agreement", "search", "doctor",
}  # fmt: skip


def marks(figure: Any, name: str) -> list[list[float] | None]:
    return next(s["values"] for s in figure.data["series"] if s["name"] == name)


def test_every_figure_of_a_report_is_json_and_has_its_table() -> None:
    figures = report_figures(a_report())
    assert set(figures) == ALL
    for figure in (*figures.values(), *report_figures(front()).values()):
        json.dumps(figure.data, allow_nan=False)
        assert figure.rows
        assert all(len(row) == len(figure.header) for row in figure.rows)
        assert all(isinstance(cell, str) for row in figure.rows for cell in row)


def test_a_refusal_draws_what_the_runs_tell_and_no_recommendation() -> None:
    assert set(report_figures(a_refusal())) == {
        "left_out", "calibration", "agreement", "search", "doctor",
    }  # fmt: skip


def test_rows_leave_out_what_cannot_be_drawn() -> None:
    data = rows_data(
        Axis("loss", log=True),
        ["a", "b", "c"],
        (
            Marks("kept", "dot", "accent", [0.1, None, interval(0.1, 0.2)]),
            Marks("empty", "dot", "accent", [None, float("nan"), float("inf")]),
        ),
    )
    assert [s["name"] for s in data["series"]] == ["kept"]
    assert data["series"][0]["values"] == [[0.1, 0.1, 0.1], None, None]


def test_a_chart_of_rows_stops_before_it_cannot_be_read() -> None:
    names = [f"domain-{n}" for n in range(200)]
    found = EquivalentSet(
        tolerance=0.01,
        share_of_region=0.2,
        ranges={n: Interval(mean=1 / 200, low=0, high=0.02) for n in names},
    )
    figure = equivalents_figure(found, {})
    assert figure is not None
    assert len(figure.data["names"]) == MAX_ROWS
    assert len(figure.rows) == 200
    assert figure.tall == MAX_ROWS
    assert f"the first {MAX_ROWS} of 200 are drawn" in figure.caption


# -- how much better ---------------------------------------------------------------------------


def test_the_gain_stands_predicted_and_measured_beside_what_pairs_can_show() -> None:
    report = a_report()
    figure = gains_figure(report)
    assert figure is not None
    assert marks(figure, "least gain that the planned pairs show")[0] == [0.0121] * 3
    assert marks(figure, "predicted gain")[0] == [0.086, 0.104, 0.122]
    assert "better with a chance of 99.4 %" in figure.caption
    assert "3 pairs of runs then measured +0.1065" in figure.caption
    assert [row[0] for row in figure.rows] == ["baseline", "uniform"]


def test_an_unmeasured_gain_is_called_that() -> None:
    figure = gains_figure(a_report(verification=()))
    assert figure is not None
    assert figure.caption.endswith("It has not been measured.")
    assert {s["name"] for s in figure.data["series"]} == {
        "predicted gain", "least gain that the planned pairs show",
    }  # fmt: skip
    assert gains_figure(a_report(verification=(), predicted_gain={})) is None


def test_natural_proportions_are_not_told_twice_when_they_are_the_baseline() -> None:
    gains = {"baseline": interval(0.1, 0.02), "natural": interval(0.1, 0.02)}
    figure = gains_figure(a_report(predicted_gain=gains, verification=()))
    assert figure is not None
    assert figure.data["names"] == ["baseline"]
    moved = tuple(d.model_copy(update={"baseline": 1 / 6}) for d in a_report().domains)
    figure = gains_figure(a_report(predicted_gain=gains, verification=(), domains=moved))
    assert figure is not None
    assert figure.data["names"] == ["baseline", "natural"]


def test_a_plan_of_unknown_noise_says_so() -> None:
    (one, _) = a_report().plan
    unknown = one.model_copy(
        update={"noise": None, "detectable": None, "power": None, "pairs_for_power": None}
    )
    assert plan_rows((one, unknown)) == (
        ("baseline", "3", "0.0052", "0.0121", "99.8 %", "2"),
        ("baseline", "3", "–", "–", "–", "–"),
    )
    far = one.model_copy(update={"power": 0.11, "pairs_for_power": None})
    assert plan_rows((far,))[0][-1] == "over 100"


# -- losses and guardrails ---------------------------------------------------------------------


def test_the_losses_say_how_many_predictions_held() -> None:
    report = a_report()
    inside = sum(
        e.predicted.low <= e.measured.mean <= e.predicted.high
        for e in report.evaluations
        if e.measured is not None
    )
    assert f"{inside} of 6 measured losses fell inside" in report_figures(report)["losses"].caption


def test_guardrails_name_the_broken_and_the_least_sure() -> None:
    code, plays, strings = guardrails()
    held = guardrails_figure((code, plays, strings))
    assert held is not None
    assert held.caption.startswith("Every guardrail holds. The least sure was plays")
    broken = guardrails_figure((code.model_copy(update={"holds": False}), plays))
    assert broken is not None
    assert broken.caption.startswith("Broken: code. The others hold.")
    assert [row[-1] for row in broken.rows] == ["broken", "holds"]
    assert guardrails_figure(()) is None


# -- mixtures ----------------------------------------------------------------------------------


def test_the_equivalent_set_names_the_freest_and_the_most_fixed_share() -> None:
    figure = equivalents_figure(equivalents(), natural().root)
    assert figure is not None
    assert "1.4 % of the allowed mixtures" in figure.caption
    assert "scripture is the freest (4.4 to 15.6 %)" in figure.caption
    assert "math the most fixed (28.5 to 31.2 %)" in figure.caption
    assert figure.rows[0][:4] == ("math", "31.2 %", "28.5 %", "31.2 %")
    assert figure.header[4:] == ("Example 1", "Example 2", "Example 3")
    assert equivalents_figure(None, {}) is None


def test_two_parts_make_a_plane_and_three_make_lines() -> None:
    two, three = front(), front(("reasoning", "interface", "prose"))
    plane = front_figure(two.front, two.recommended)
    lines = front_figure(three.front, three.recommended)
    assert plane is not None
    assert lines is not None
    assert (plane.kind, lines.kind) == ("front", "parallel")
    chosen = plane.data["recommended"]
    assert "Number 4 is recommended" in plane.caption
    assert plane.rows[chosen][0] == "4, recommended"
    firsts = [point[0][1] for point in plane.data["points"]]
    assert firsts == sorted(firsts)
    named = named_mixtures(None, two.front, two.recommended)["front"]
    assert named[chosen][1] == two.recommended


def test_a_recommendation_beside_the_front_has_its_nearest_pointed_out() -> None:
    report = front()
    assert report.recommended is not None
    away = {**report.recommended.root}
    away["plays"], away["code"] = away["plays"] - 0.01, away["code"] + 0.01
    figure = front_figure(report.front, Mixture(away))
    assert figure is not None
    assert figure.caption.endswith("Number 4 is nearest to the recommended.")
    assert figure.rows[3][0] == "4, nearest to the recommended"


def test_a_front_without_the_recommendation_marks_none() -> None:
    figure = front_figure(front().front, None)
    assert figure is not None
    assert figure.data["recommended"] is None
    assert "recommended" not in figure.caption
    assert front_figure((), None) is None


# -- supply ------------------------------------------------------------------------------------


def test_a_price_is_for_as_many_tokens_as_the_runs_can_speak_for() -> None:
    figure = prices_figure(shadow_prices())
    assert figure is not None
    assert figure.caption.startswith(
        "195 K more tokens of math: −0.0119 [−0.0181, −0.0065] bits per byte (a billion is "
        "farther than the runs can tell)."
    )
    assert figure.rows[0] == (
        "math", "31.2 %", "yes", "195 K", "−0.0119 [−0.0181, −0.0065]",
        "a billion is farther than the runs can tell",
    )  # fmt: skip
    assert {row[2:] for row in figure.rows[1:]} == {("no", "1 B", "not binding: 0", "")}
    assert figure.data["names"][0] == "math, +195 K"


def test_a_price_for_a_billion_is_told_as_the_change_that_it_is() -> None:
    whole = tuple(p.model_copy(update={"tokens": None, "gain": None}) for p in shadow_prices())
    math, *others = sorted(whole, key=lambda p: not p.binding)
    cheap = math.model_copy(update={"gain_per_billion": Interval(mean=0.012, low=0.006, high=0.02)})
    figure = prices_figure((cheap, *others))
    assert figure is not None
    assert figure.caption.startswith(
        "A billion more tokens of math: −0.0120 [−0.0200, −0.0060] bits per byte."
    )
    assert figure.data["names"][0] == "math, +1 B"
    half = cheap.model_copy(
        update={"tokens": 500_000_000, "gain": Interval(mean=0.006, low=0.003, high=0.01)}
    )
    figure = prices_figure((half, *others))
    assert figure is not None
    assert figure.caption.startswith(
        "500 M more tokens of math: −0.0060 [−0.0100, −0.0030] bits per byte (−0.0120 [−0.0200, "
        "−0.0060] at most for a billion)."
    )
    many = cheap.model_copy(
        update={
            "tokens": 50 * 10**9,
            "gain": Interval(mean=0.0012, low=0.0006, high=0.002),
            "gain_per_billion": Interval(mean=0.000024, low=0.000012, high=0.00004),
        }
    )
    figure = prices_figure((many, *others))
    assert figure is not None
    assert figure.caption.startswith(
        "50 B more tokens of math: −0.0012 [−0.0020, −0.0006] bits per byte (−0.000024 "
        "[−0.000040, −0.000012] for each billion)."
    )


def test_a_cap_that_costs_nothing_is_not_given_a_price() -> None:
    nothing = Interval(mean=0, low=0, high=0.00001)
    free = tuple(p.model_copy(update={"gain": nothing}) for p in shadow_prices())
    figure = prices_figure(free)
    assert figure is not None
    assert figure.caption == "195 K more tokens of math would change nothing that can be seen."


def test_without_a_binding_cap_there_is_nothing_to_draw() -> None:
    loose = tuple(p.model_copy(update={"binding": False}) for p in shadow_prices())
    assert prices_figure(loose) is None
    assert prices_figure(()) is None
