"""From candidates to weights, and the names of measurements."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.errors import SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.merge_keys import canonical_hash, merge_eval_key
from cuvee.proxy.merge_weights import (
    MILLION,
    domain_weights,
    macro_weights,
    micro_weights,
    quantise,
)

raw = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=12).filter(
    lambda ws: sum(ws) > 1e-3
)


@given(raw)
def test_quantised_weights_sum_to_a_million_and_stay_within_a_millionth(weights):
    shares = [w / math.fsum(weights) for w in weights]
    counts = quantise(shares)
    assert sum(counts) == MILLION
    assert all(
        abs(c / MILLION - w) <= (1 + 1e-6) / MILLION for c, w in zip(counts, shares, strict=True)
    )
    assert quantise([c / MILLION for c in counts]) == counts


@pytest.mark.parametrize(
    "weights",
    [
        [0.5, 0.4],
        [0.1, 1.0],
        [0.5, 0.5 + 1e-8],
        [1.5, -0.5],
        [math.nan, 1.0],
        [math.inf],
        [],
        [0.0],
    ],
    ids=str,
)
def test_weights_that_are_no_average_are_refused(weights):
    with pytest.raises(SpecError, match=r"sum to one|finite and at least 0"):
        quantise(weights)


def test_a_domain_shares_its_weight_among_its_units():
    domains = ("a", "b", "b", "c", "b")
    weights = domain_weights(domains, Mixture({"a": 0.1, "b": 0.6, "c": 0.3}))
    assert weights == pytest.approx([0.1, 0.2, 0.2, 0.3, 0.2])
    assert domain_weights(domains, Mixture({"b": 1.0})).tolist() == [0, 1 / 3, 1 / 3, 0, 1 / 3]


def test_a_domain_without_a_branch_is_refused_by_name():
    with pytest.raises(SpecError, match="'d'"):
        domain_weights(("a", "b"), Mixture({"a": 0.5, "d": 0.5}))


@given(st.floats(0.05, 0.9), st.integers(0, 2**32))
def test_an_anchored_merge_stands_for_the_mixture_that_was_asked_for(rho, seed):
    generator = np.random.default_rng(seed)
    q, w = generator.dirichlet(np.ones(3)), generator.dirichlet(np.ones(3))
    names = ("a", "b", "c")
    wanted = Mixture.from_shares(names, ((1 - rho) * w + rho * q).tolist())
    natural = Mixture.from_shares(names, q.tolist())
    found = domain_weights(names, wanted, anchor_share=rho, natural=natural)
    assert found == pytest.approx(w, abs=1e-9)
    assert math.fsum(found) == pytest.approx(1, abs=1e-12)


def test_what_no_anchored_merge_reaches_is_refused():
    natural = Mixture({"a": 0.5, "b": 0.5})
    with pytest.raises(SpecError, match="anchor_share"):
        domain_weights(("a", "b"), Mixture({"a": 0.9, "b": 0.1}), anchor_share=0.5, natural=natural)


@given(st.integers(1, 5), st.integers(1, 4))
def test_macro_equals_micro_where_groups_are_equally_large(groups, size):
    labels = [g for g in range(groups) for _ in range(size)]
    chosen = [True] * len(labels)
    assert macro_weights(chosen, labels) == pytest.approx(micro_weights(chosen))


def test_macro_weighs_groups_and_micro_weighs_units():
    chosen, groups = [True, True, True, False], ["a", "a", "b", "c"]
    assert micro_weights(chosen) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert macro_weights(chosen, groups) == pytest.approx([1 / 4, 1 / 4, 1 / 2, 0])
    for weigh in (micro_weights, lambda none: macro_weights(none, groups)):
        with pytest.raises(SpecError, match="at least one"):
            weigh([False] * 4)


ITEMS = [("k1", 10, 250_000), ("k2", 10, 750_000), ("k3", 10, 0)]


def test_a_measurement_is_named_by_its_content_alone():
    key = merge_eval_key(ITEMS, "set")
    assert merge_eval_key(ITEMS[::-1], "set") == key
    assert merge_eval_key(ITEMS[:2], "set") == key  # what has no weight does not count
    others = [
        merge_eval_key([("k1", 10, 250_001), ("k2", 10, 749_999)], "set"),
        merge_eval_key([("k1", 20, 250_000), ("k2", 10, 750_000)], "set"),
        merge_eval_key([("k4", 10, 250_000), ("k2", 10, 750_000)], "set"),
        merge_eval_key(ITEMS, "other set"),
        merge_eval_key(ITEMS, "set", scale=1.5),
        merge_eval_key(ITEMS, "set", compute_dtype="bfloat16"),
        merge_eval_key(ITEMS, "set", kind="logprob"),
    ]
    assert len({key, *others}) == len(others) + 1


def test_the_hash_of_json_does_not_depend_on_the_order_of_keys():
    assert canonical_hash({"a": 1, "b": [2.5]}) == canonical_hash({"b": [2.5], "a": 1})
    assert canonical_hash({"a": 1}) != canonical_hash({"a": 2})
    with pytest.raises(ValueError, match="JSON"):
        canonical_hash(math.nan)
