"""The report's sections: what each draws, what it says in words, and when it is left out."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from dashboard_samples import (
    DOMAINS,
    a_refusal,
    a_report,
    calibration,
    coefficient,
    diagnosis,
    equivalents,
    fit,
    front,
    guardrails,
    interval,
    natural,
    shadow_prices,
)
from scipy import stats

from cuvee.answer import BridgePlan, Diagnosis, EquivalentSet, Interval, RungSummary, SetFit
from cuvee.mixture import Mixture
from service.dashboard.report_figures import report_figures
from service.dashboard.rows import MAX_ROWS, Axis, Marks, rows_data
from service.dashboard.sections.doctor import doctor_figure
from service.dashboard.sections.gains import gains_figure, plan_rows
from service.dashboard.sections.ladder import agreement_figure, bridge_sentence
from service.dashboard.sections.losses import guardrails_figure
from service.dashboard.sections.mixtures import equivalents_figure, front_figure, named_mixtures
from service.dashboard.sections.models import LawMatrix, ModelTable
from service.dashboard.sections.supply import prices_figure
from service.dashboard.sections.trust import coverage_rows, left_out_figure

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


# -- trust -------------------------------------------------------------------------------------


def test_the_calibration_counts_the_same_runs_as_its_coverage() -> None:
    found = calibration(random.Random(3))
    figure = left_out_figure(found, 0.9)
    assert figure is not None
    inside = round(found.coverage[found.levels.index(0.9)] * 30)
    assert figure.caption.startswith(f"{inside} of 30 measured objectives lie inside the 90 %")
    assert sum(row[-1] == "yes" for row in figure.rows) == inside
    assert "1.21 times as wide" in figure.caption
    assert coverage_rows(found)[2][2].startswith(f"{inside} of 30")


def test_coverage_stands_beside_what_chance_alone_would_do() -> None:
    found = calibration(random.Random(4))
    for level, row in zip(found.levels, coverage_rows(found), strict=True):
        low, high = stats.binom.ppf([0.05, 0.95], 30, level)
        assert row[3] == f"{low:.0f} to {high:.0f}"
    assert coverage_rows(None) == ()


def test_without_points_the_coverage_is_still_told() -> None:
    bare = calibration(random.Random(5)).model_copy(
        update={"measured": (), "predicted": (), "se": ()}
    )
    assert left_out_figure(bare, 0.9) is None
    assert coverage_rows(bare)[0][1:2] == ("50 %",)


def test_calibration_is_centred_so_that_differences_between_sets_flatter_nothing() -> None:
    data = report_figures(a_report())["calibration"].data
    for series in data["series"]:
        observed = [point[1] for point in series["points"]]
        assert abs(sum(observed) / len(observed)) < 1e-5


def test_numbers_that_are_not_finite_stay_out_of_charts() -> None:
    noise = random.Random(2)
    broken = fit(0, noise).model_copy(update={"loo_r2": float("nan"), "loo_rmse": float("inf")})
    bad = (float("nan"), *broken.loo_predicted[1:])
    broken = broken.model_copy(update={"loo_predicted": bad})
    figure = report_figures(a_report(fits=(broken, fit(1, noise))))["calibration"]
    json.dumps(figure.data, allow_nan=False)
    assert len(figure.data["series"][0]["points"]) == 29


# -- models ------------------------------------------------------------------------------------


def test_the_models_stand_with_their_scores_and_weights() -> None:
    table = ModelTable.build(a_report().fits)
    assert table is not None
    assert set(table.models) == {"multi_fidelity_gp", "log_linear", "power", "trees"}
    assert table.models[-1] == "trees"
    name, cells, error = table.rows[0]
    assert (name, error) == ("code", "0.0110")
    by_model = dict(zip(table.models, cells, strict=True))
    assert by_model["log_linear"] == ("2.84", "63 %", True)
    assert by_model["trees"] == ("1.12", "< 1 %", False)
    assert "multi_fidelity_gp on 3 sets" in table.caption


def test_without_a_choice_there_is_no_table_of_models() -> None:
    fixed = tuple(f.model_copy(update={"scores": {}, "weights": {}}) for f in a_report().fits)
    assert ModelTable.build(fixed) is None


def test_the_matrix_shades_by_sign_and_names_the_strongest_help_across_domains() -> None:
    matrix = LawMatrix.build(a_report().fits)
    assert matrix is not None
    for i, (name, cells) in enumerate(matrix.rows):
        assert name == DOMAINS[i]
        for j, (value, shade) in enumerate(cells):
            assert value == coefficient(i, j)
            assert shade * value > 0
    assert "helps" in matrix.caption
    assert "−0.90" in matrix.caption


def test_a_huge_matrix_is_cut_to_its_strongest_coefficients() -> None:
    names = [f"d{n}" for n in range(60)]
    fits = tuple(
        SetFit(
            eval_set=name,
            runs=100,
            r2=0.9,
            loo_rmse=0.01,
            loo_r2=0.8,
            coefficients={other: -float(j) for j, other in enumerate(names)},
            floor=1.0,
        )
        for name in names
    )
    matrix = LawMatrix.build(fits)
    assert matrix is not None
    assert matrix.domains == tuple(names[-24:])
    assert len(matrix.rows) == 24
    assert matrix.hidden == 60 * 60 - 24 * 24


# -- rungs, doctor -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "said"),
    [(0.75, "much as the target does"), (0.3, "in part"), (-0.2, "cannot be relied on")],
)
def test_agreement_is_told_by_its_lower_end(low: float, said: str) -> None:
    rung = RungSummary(
        kind="ngram", runs=9, failed=0, seconds=1.0, shared=9,
        agreement=Interval(mean=0.8, low=low, high=0.9),
    )  # fmt: skip
    figure = agreement_figure((rung, a_report().rungs[-1]), None)
    assert figure is not None
    assert said in figure.caption


def test_agreement_by_the_model_alone_is_called_that() -> None:
    cheap, target = a_report().rungs
    figure = agreement_figure((cheap.model_copy(update={"agreement": None}), target), None)
    assert figure is not None
    assert "much as the target does by the model: 0.90 [0.80, 0.95]" in figure.caption
    assert [s["name"] for s in figure.data["series"]] == ["by the model, without noise"]


def test_a_calibration_of_a_cheaper_rung_says_so() -> None:
    found = calibration(random.Random(3)).model_copy(update={"rung": 0})
    assert (
        "runs of ngram (rung 0)" in report_figures(a_report(calibration=found))["left_out"].caption
    )
    target = found.model_copy(update={"rung": 1})
    assert (
        "These are runs of" not in report_figures(a_report(calibration=target))["left_out"].caption
    )


def test_two_rungs_of_one_kind_are_told_apart() -> None:
    cheap, target = a_report().rungs
    small = cheap.model_copy(update={"kind": "proxy"})
    figure = agreement_figure((small, small, target), None)
    assert figure is not None
    assert figure.data["names"] == ["proxy (rung 0)", "proxy (rung 1)"]
    assert agreement_figure((target,), None) is None


def test_bridges_say_whether_another_is_worth_it() -> None:
    said = bridge_sentence(a_report().bridges)
    assert said.startswith(
        "2 target runs were made to tie the rungs' rankings together; they took the agreement "
        "from 0.64 [0.28, 0.87] to 0.86 [0.71, 0.94]. "
    )
    assert "not worth its cost: a third bridge would narrow" in said
    more = bridge_sentence(BridgePlan(runs=1, worth_another=True, reason="it is cheap."))
    assert more.startswith("1 target run was made")
    assert more.endswith("Another is worth its cost: it is cheap.")
    assert bridge_sentence(None) == ""


def test_the_doctor_names_the_sets_that_noise_drowns() -> None:
    figure = doctor_figure(diagnosis())
    assert figure is not None
    assert figure.caption.endswith("on scripture seeds differ more than mixtures do.")
    assert figure.rows[-1][0] == "objective"
    assert marks(figure, "between seeds")[DOMAINS.index("ui_i18n")] is None


def test_the_doctor_says_when_all_is_well_and_when_nothing_is_known() -> None:
    found = diagnosis()
    healthy = found.model_copy(update={"sets": found.sets[:3]})
    figure = doctor_figure(healthy)
    assert figure is not None
    assert "on every set mixtures differ more than seeds do, least on plays" in figure.caption
    silent = tuple(
        s.model_copy(update={"noise": None, "signal_to_noise": None}) for s in found.sets
    )
    figure = doctor_figure(Diagnosis(anchors=4, repeats=0, sets=silent))
    assert figure is not None
    assert "the noise between seeds is not known" in figure.caption
    assert doctor_figure(None) is None
