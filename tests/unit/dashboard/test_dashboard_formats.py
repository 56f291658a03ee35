"""Numbers as people read them, and what cannot be a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.answer import Interval
from service.dashboard import formats


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.25, "0.25 s"),
        (7.04, "7.0 s"),
        (59.6, "1 min"),
        (203, "3 min 23 s"),
        (3600, "1 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float | None, words: str) -> None:
    assert formats.duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(None, "–"), (950, "950"), (12_345, "12.3 K"), (4_200_000, "4.2 M"), (3e12, "3 T")],
)
def test_counts_have_three_digits(number: float | None, words: str) -> None:
    assert formats.count(number) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0.0 %"),
        (0.1234, "12.3 %"),
        (1.0, "100.0 %"),
        (0.9999, "> 99.9 %"),
        (0.0001, "< 0.1 %"),
        (None, "–"),
    ],
)
def test_certainty_is_not_made_by_rounding(share: float | None, words: str) -> None:
    assert formats.percent(share) == words


@pytest.mark.parametrize(
    ("probability", "words"),
    [(1.0, "over 99.9 %"), (0.9985, "99.9 %"), (0.5, "50.0 %"), (0.0, "under 0.1 %"), (None, "–")],
)
def test_no_chance_is_certain(probability: float | None, words: str) -> None:
    assert formats.chance(probability) == words


def test_a_fall_is_written_as_the_change_that_it_is() -> None:
    assert formats.signed_fall(Interval(mean=0.012, low=-0.001, high=0.02)) == (
        "−0.0120 [−0.0200, +0.0010]"
    )
    assert formats.signed(-0.00001) == "0.0000"


def test_differences_carry_a_true_minus() -> None:
    assert formats.signed(-0.01234) == "−0.0123"
    assert formats.signed(0.01234) == "+0.0123"


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_chart_data_is_json_whatever_was_measured(value: float) -> None:
    kept = formats.finite(value)
    assert kept is None or math.isfinite(kept)
    assert (kept is None) == (not math.isfinite(value))
