"""What a report's answer rests on, as text, from the same records as the page."""

from __future__ import annotations

import io

import pytest
from dashboard_samples import a_refusal, a_report, front
from rich.console import Console

from cuvee.answer import BridgePlan, Interval
from cuvee.cli import evidence
from cuvee.cli.render import report_view


def text_of(renderable, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def said(lines) -> str:
    return " ".join(lines)


def test_every_subject_of_the_defended_answer_is_there_and_fits_eighty_columns():
    lines = text_of(report_view(front()))
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    subjects = {line[:14].rstrip() for line in lines} - {""}
    assert {
        "Gain", "Plan", "As good", "Limits", "Supply", "Rungs", "Bridges", "Calibration", "Doctor",
        "Earlier jobs", "Stopped", "Notes",
    } <= subjects  # fmt: skip
    for title in ("Guardrail", "Mixtures that no other beats", "Models by left-out log density"):
        assert any(line.startswith(title) for line in lines)


def test_a_refusal_says_what_is_missing_and_recommends_nothing():
    text = "\n".join(text_of(report_view(a_refusal()), 160))
    assert "Missing       The law explains only 12 % of the variance" in text
    assert "Gain" not in text
    assert "Guardrail" not in text
    repeated = a_refusal().model_copy(update={"verdict": f"No: {a_refusal().refused}"})
    assert "Missing" not in "\n".join(text_of(report_view(repeated), 160))


def test_a_broken_guardrail_cannot_be_overlooked():
    code, plays, _ = a_report().guardrails
    broken = a_report(guardrails=(code.model_copy(update={"holds": False}), plays))
    rows = text_of(evidence.guardrail_table(broken))
    assert rows[2].split() == [
        "code", "+0.2500", "+0.2122", "±0.0310", "97.8%", "+0.2162", "±0.0090", "BROKEN",
    ]  # fmt: skip
    assert rows[3].endswith("holds")
    assert evidence.guardrail_table(a_report(guardrails=())) is None


def test_the_plan_says_what_the_pairs_can_show():
    assert next(evidence.plan_lines(a_report().plan)) == (
        "Against the baseline: 3 pairs, which show a gain of 0.0121 with 80% chance; chance to "
        "show the predicted gain 99.8%; 2 pairs would do for 80%."
    )
    (one, _) = a_report().plan
    weak = one.model_copy(update={"power": 0.2, "pairs_for_power": None, "pairs": 1})
    assert said(evidence.plan_lines([weak])).endswith("80% would take over 100 pairs.")
    blind = one.model_copy(
        update={"noise": None, "detectable": None, "power": None, "pairs_for_power": None}
    )
    assert said(evidence.plan_lines([blind])) == "Against the baseline: 3 pairs."


def test_the_equivalent_set_has_its_ranges_and_examples():
    first, *examples = evidence.equivalent_lines(a_report())
    assert first.startswith("1.4% of the allowed mixtures")
    assert "within 0.0050 bits per byte" in first
    assert "math 28.5 to 31.2%" in first
    assert len(examples) == 3
    assert examples[0].startswith("Example 1: math 31%, ui_i18n 22%, code 14%")
    assert list(evidence.equivalent_lines(a_report(equivalents=None))) == []


def test_every_cap_of_supply_has_a_price_and_those_that_bind_come_first():
    held, free = evidence.price_lines(a_report())
    assert held == (
        "195,000 more tokens of math, whose share is at its cap of 31.2%: -0.0119 bits per byte "
        "(90% interval -0.0181 to -0.0065); a billion is farther than the runs can tell."
    )
    assert free.startswith("Worth nothing, for their shares are below the caps of supply: more of ")
    assert "math" not in free
    assert list(evidence.price_lines(a_report(shadow_prices=()))) == []


@pytest.mark.parametrize(
    ("tokens", "times", "many", "beyond"),
    [
        (10**9, 1, "A billion", ""),
        (2 * 10**8, 5, "200 million", "; -0.0595 (-0.0904 to -0.0327) at most for a billion"),
        (5 * 10**10, 0.02, "50 billion", "; -0.00024 (-0.00036 to -0.00013) for each billion"),
        (62_500_000, 1, "62.5 million", "; more would not be used"),
    ],
)
def test_a_price_says_how_many_tokens_it_is_for(tokens, times, many, beyond):
    math = next(p for p in a_report().shadow_prices if p.binding)
    each = Interval(**{k: times * v for k, v in math.gain.model_dump().items()})
    price = math.model_copy(update={"tokens": tokens, "gain_per_billion": each})
    assert list(evidence.price_lines(a_report(shadow_prices=(price,)))) == [
        f"{many} more tokens of math, whose share is at its cap of 31.2%: -0.0119 bits per byte "
        f"(90% interval -0.0181 to -0.0065){beyond}."
    ]


def test_the_front_marks_the_recommendation():
    rows = text_of(evidence.front_table(front()))
    assert [row for row in rows if " * " in row] == [
        "4 *  1.700 ±0.012  1.800 ±0.012  math 31%, ui_i18n 22%, code 19%, 3 more"
    ]
    assert evidence.front_table(a_report()) is None


def test_bridges_and_their_worth():
    assert said(evidence.bridge_lines(a_report())).startswith(
        "2 mixtures were measured at both ends of the ladder; among the best candidates, rank "
        "correlation with the target 0.64 (0.28 to 0.87) by the cheapest rung's prediction alone, "
        "0.86 (0.71 to 0.94) by all runs; another would repair the ranking too little for its "
        "cost: a third bridge"
    )
    none = BridgePlan(runs=0, worth_another=True, reason="")
    assert said(evidence.bridge_lines(a_report(bridges=none))) == (
        "0 mixtures were measured at both ends of the ladder; another would repair the ranking "
        "further."
    )


def test_calibration_is_counted_or_told_by_level():
    whole = a_report()
    assert whole.calibration is not None
    assert said(evidence.calibration_lines(whole)) == (
        "29 of 30 target runs lie inside the 90% interval predicted without them; intervals were "
        "widened 1.21 times for it."
    )
    bare = whole.calibration.model_copy(
        update={"measured": (), "predicted": (), "se": (), "inflation": 1.0}
    )
    assert said(evidence.calibration_lines(a_report(calibration=bare))) == (
        "Left-out intervals held 53% in 50%, 87% in 80%, 97% in 90%, 97% in 95%."
    )


def test_calibration_by_a_cheaper_rung_says_so():
    found = a_report().calibration
    assert found is not None
    cheap = found.model_copy(update={"rung": 0})
    assert "29 of 30 ngram runs" in said(evidence.calibration_lines(a_report(calibration=cheap)))
    target = found.model_copy(update={"rung": 1})
    assert "29 of 30 target runs" in said(evidence.calibration_lines(a_report(calibration=target)))


def test_models_stand_beside_the_best_other():
    rows = text_of(evidence.model_table(a_report()))
    assert rows[3].split() == [
        "code", "log_linear", "(63%)", "2.84", "multi_fidelity_gp", "2.71", "0.011",
    ]  # fmt: skip
    alone = (
        a_report()
        .fits[0]
        .model_copy(update={"scores": {"power": 2.0}, "weights": {}, "chosen": ""})
    )
    rows = text_of(evidence.model_table(a_report(fits=(alone,))))
    assert rows[-1].split() == ["code", "power", "2.00", "0.011"]
    assert evidence.model_table(a_report(fits=())) is None


@pytest.mark.parametrize("used", [0, 1, 31])
def test_earlier_jobs_tell_what_was_used_and_why_not_more(used):
    first, second = a_report().reuse
    changed = first.model_copy(update={"used": used})
    lines = list(evidence.reuse_lines(a_report(reuse=(changed, second))))
    assert lines[0].startswith(f"demo-last-week: {used} run{'' if used == 1 else 's'} used, 12 of")
    assert "trust 0.84; 5 dropped (3 runs have a share above 5 % of forum" in lines[0]
    assert lines[1] == (
        "imported/spring.csv: 0 runs used; 8 dropped (no evaluation set is shared with this job)."
    )


def test_the_doctors_warnings_are_told_whole():
    assert list(evidence.doctor_lines(a_report())) == list(a_report().diagnosis.warnings)
    assert list(evidence.doctor_lines(a_report(diagnosis=None))) == []
