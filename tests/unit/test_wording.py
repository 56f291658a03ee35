"""Chances in words: never certain, and monotone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.wording import chance_words, decimals


@pytest.mark.parametrize(
    ("chance", "words"),
    [
        (1.0, "over 99.9%"),
        (0.9991, "over 99.9%"),
        (0.999, "99.9%"),
        (0.5, "50.0%"),
        (0.001, "0.1%"),
        (0.0, "under 0.1%"),
    ],
)
def test_a_chance_is_a_percentage_within_what_runs_can_show(chance: float, words: str) -> None:
    assert chance_words(chance) == words


@given(st.floats(0, 1))
def test_no_chance_is_told_as_certain(chance: float) -> None:
    words = chance_words(chance)
    assert not words.startswith(("100", "0.0"))
    said = float(words.removeprefix("over ").removeprefix("under ").removesuffix("%"))
    assert said == pytest.approx(100 * chance, abs=0.1)


@given(st.floats(1e-7, 1e3))
def test_decimals_show_two_digits_of_what_is_small(value: float) -> None:
    assert 4 <= decimals(value) <= 8
    assert float(f"{value:.{decimals(value)}f}") == pytest.approx(value, rel=0.05, abs=5e-5)
    assert value < 1e-6 or float(f"{value:.{decimals(value)}f}") > 0
