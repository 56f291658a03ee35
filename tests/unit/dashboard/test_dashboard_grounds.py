"""The report's sections on what the answer rests on: calibration, models, rungs, the doctor."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from dashboard_samples import a_report, calibration, diagnosis, fit
from dashboard_world import DOMAINS, coefficient
from scipy import stats

from cuvee.answer import BridgePlan, Diagnosis, Interval, RungSummary, SetFit
from service.dashboard.report_figures import report_figures
from service.dashboard.sections.doctor import doctor_figure
from service.dashboard.sections.ladder import agreement_figure, bridge_sentence
from service.dashboard.sections.models import LawMatrix, ModelTable
from service.dashboard.sections.trust import coverage_rows, left_out_figure


def marks(figure: Any, name: str) -> list[list[float] | None]:
    return next(s["values"] for s in figure.data["series"] if s["name"] == name)


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
        "2 mixtures were measured at both ends of the ladder. Among the best candidates, rank "
        "correlation with the target is 0.64 [0.28, 0.87] by the cheapest rung's prediction "
        "alone, 0.86 [0.71, 0.94] by all runs. "
    )
    assert "too little for its cost: a third bridge would narrow" in said
    more = bridge_sentence(BridgePlan(runs=1, worth_another=True, reason="it is cheap."))
    assert more.startswith("1 mixture was measured")
    assert more.endswith("Another would repair the ranking further: it is cheap.")
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
