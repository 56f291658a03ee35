"""Mixtures and largest-remainder rounding."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cuvee.errors import SpecError
from cuvee.mixture import Mixture, largest_remainder

weights = st.lists(
    st.floats(0, 1e6, allow_nan=False).map(lambda x: 0.0 if x < 1e-6 else x),
    min_size=1,
    max_size=40,
).filter(lambda w: sum(w) > 0)


@given(weights)
def test_from_weights_keeps_proportions_and_sums_to_one(w: list[float]) -> None:
    mixture = Mixture.from_weights({f"d{i}": x for i, x in enumerate(w)})
    assert math.isclose(math.fsum(mixture.root.values()), 1.0, abs_tol=1e-12)
    total = math.fsum(w)
    for i, x in enumerate(w):
        assert math.isclose(mixture[f"d{i}"], x / total, rel_tol=1e-9, abs_tol=1e-15)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "at least one domain"),
        ({"a": 0.5, "b": 0.6}, "sum to 1.1, not 1"),
        ({"a": 1e308, "b": 1e308}, "share of 'a' is 1e"),
        ({"a": 1.5, "b": -0.5}, "share of 'a' is 1.5"),
        ({"b": -0.5, "a": 1.0}, "share of 'b' is -0.5"),
        ({"a": math.nan, "b": 1.0}, "share of 'a' is nan"),
        ({"a": math.inf}, "share of 'a' is inf"),
    ],
)
def test_bad_shares_are_refused_by_name(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Mixture(shares)


def test_six_decimals_are_close_enough_to_one_and_are_renormalised() -> None:
    mixture = Mixture({"a": 0.333333, "b": 0.333333, "c": 0.333333})
    assert math.fsum(mixture.root.values()) == pytest.approx(1.0, abs=1e-15)


def test_all_zero_weights_are_refused() -> None:
    with pytest.raises(SpecError, match="sum to 0"):
        Mixture.from_weights({"a": 0.0})


def test_shares_follow_the_order_asked_for_and_refuse_unknown_domains() -> None:
    mixture = Mixture({"b": 0.25, "a": 0.75})
    assert mixture.shares(["a", "c", "b"]) == [0.75, 0.0, 0.25]
    with pytest.raises(SpecError, match=r"unknown domains \['b'\]"):
        mixture.shares(["a"])


def test_from_shares_needs_one_share_per_name() -> None:
    with pytest.raises(SpecError, match="2 domain names but 1 shares"):
        Mixture.from_shares(["a", "b"], [1.0])


def test_digest_ignores_order_zeros_and_noise_below_nine_decimals() -> None:
    one = Mixture({"a": 0.25, "b": 0.75})
    assert one.digest() == Mixture({"b": 0.75 + 1e-12, "a": 0.25 - 1e-12, "c": 0.0}).digest()
    assert one.digest() != Mixture({"a": 0.26, "b": 0.74}).digest()


def test_distance_is_total_variation() -> None:
    assert Mixture({"a": 1.0}).distance(Mixture({"b": 1.0})) == 1.0
    assert Mixture({"a": 0.5, "b": 0.5}).distance(Mixture({"a": 1.0})) == pytest.approx(0.5)


def test_mixture_survives_json() -> None:
    mixture = Mixture.from_weights({"a": 1, "b": 2, "c": 4})
    assert Mixture.model_validate_json(mixture.model_dump_json()) == mixture


@given(weights, st.integers(0, 10_000))
def test_largest_remainder_is_exact_and_within_one_of_each_quota(w: list[float], n: int) -> None:
    counts = largest_remainder(w, n)
    assert sum(counts) == n
    for count, x in zip(counts, w, strict=True):
        assert abs(count - x / math.fsum(w) * n) < 1 + 1e-6


def test_largest_remainder_gives_ties_to_the_earlier_index() -> None:
    assert largest_remainder([1, 1, 1], 2) == [1, 1, 0]


def test_largest_remainder_refuses_what_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="positive sum"):
        largest_remainder([0.0, 0.0], 3)


def test_weights_whose_sum_overflows_still_scale() -> None:
    assert Mixture.from_weights({"a": 1e308, "b": 1e308}).root == {"a": 0.5, "b": 0.5}
