"""The report as text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cuvee.cli.render import gain_lines, report_view
from cuvee.cli.words import duration, gain
from tests.unit.cli.fake_server import a_job, a_report, an_interval

GOLDEN = """\
Shares of tokens; losses in bits per byte; 90% intervals
Domain     Natural           Recommended     Predicted      Measured  Baseline
──────────────────────────────────────────────────────────────────────────────
plays        25.0%  70.0% (62.0 to 78.0)  2.100 ±0.010  2.110 ±0.010     2.400
code         75.0%  30.0% (22.0 to 38.0)  1.900 ±0.010
poems                                     2.900 ±0.010

objective                                 2.100 ±0.010  2.110 ±0.010     2.410

Gain     Better than the baseline by 0.2900 bits per byte (90% interval +0.2800
         to +0.3000; chance of being better over 99.9%; 2 paired runs).
         Predicted, not measured: 0.1200 bits per byte better than the uniform
         mixture (90% interval +0.1100 to +0.1300; chance of being better
         95.0%).
Limits   plays is held at 70.0% by supply of plays
         Epochs at the target length: plays 2.8, code 0.4
Rungs    ngram: 48 runs, 12s of computing, 1 failed; ranks mixtures like proxy
         does: 0.90 (0.80 to 0.95, 6 mixtures)
         proxy: 20 runs, 2m 10s of computing
Stopped  every run that the rungs allow is done
Notes    code hurts plays
"""


def rendered(report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(report_view(report))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def test_the_report_fits_eighty_columns_without_colours():
    text = rendered(a_report())
    assert text == GOLDEN


def test_a_limit_of_several_shares_is_told_once():
    whole = a_report()
    bound = "the bound on web/*, at most 0.5 together"
    domains = tuple(
        whole.domains[0].model_copy(update={"name": f"web/{n}", "binding": bound}) for n in "abcdef"
    )
    lines = rendered(whole.model_copy(update={"domains": domains}), width=160).splitlines()
    assert [" ".join(line.split()) for line in lines if bound in line] == [
        f"Limits web/a, web/b, web/c, web/d and 2 more are held by {bound}"
    ]


def test_the_command_prints_the_same_as_the_demo(cuvee, server):
    server.add_job(a_job())
    server.reports["job-1"] = a_report()
    output = cuvee("report", "job-1").stdout
    assert [line.rstrip() for line in output.splitlines()] == rendered(
        a_report(), width=160
    ).splitlines()


def test_a_refusal_has_no_table():
    refused = a_report(verdict="No recommendation: the laws do not predict.", refused="laws",
                       recommended=None, verification=(), predicted_gain={})  # fmt: skip
    text = rendered(refused)
    assert text.startswith("No recommendation: the laws do not predict.")
    assert "Natural" not in text


@pytest.mark.parametrize(
    ("mean", "half", "chance", "said", "sure"),
    [
        (0.05, 0.01, 0.98, "Better than the baseline by 0.0500 bits per byte", "98.0%"),
        (-0.05, 0.01, 0.0004, "Worse than the baseline by 0.0500 bits per byte", "under 0.1%"),
        (0.01, 0.02, 0.7, "Not shown to beat the baseline: 0.0100 bits per byte better", "70.0%"),
    ],
)
def test_the_gain_is_told_as_it_was_measured(mean, half, chance, said, sure):
    measured = (
        a_report()
        .verification[0]
        .model_copy(update={"difference": an_interval(mean, half), "chance": chance})
    )
    line = next(gain_lines(a_report(verification=(measured,))))
    assert line.startswith(f"{said} (90% interval ")
    assert f"chance of being better {sure};" in line


def test_natural_proportions_are_not_told_twice_when_they_are_the_baseline():
    gains = {"baseline": an_interval(0.3), "natural": an_interval(0.3)}
    assert not [g for g in gain_lines(a_report(predicted_gain=gains)) if "natural" in g]
    domains = tuple(d.model_copy(update={"baseline": 0.5}) for d in a_report().domains)
    told = gain_lines(a_report(predicted_gain=gains, domains=domains))
    assert [g for g in told if "natural" in g]


def test_without_verification_the_gain_is_called_predicted():
    lines = list(gain_lines(a_report(verification=())))
    assert len(lines) == 2
    assert all(line.startswith("Predicted, not measured") for line in lines)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (3599.6, "1h 00m"), (11_400, "3h 10m")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_a_difference_of_nothing_is_not_worse():
    assert gain(0.0) == "0.0000 bits per byte better"
