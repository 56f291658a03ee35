"""What is scored, and the standard error of the total."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.errors import CorpusError
from cuvee.proxy.heldout import choose_excerpts, ratio_loss

lengths = st.lists(st.integers(0, 3000), min_size=1, max_size=40).filter(any)


@given(lengths, st.integers(1, 20_000), st.integers(1, 300), st.booleans())
def test_excerpts_lie_in_their_documents_and_fill_the_budget(sizes, budget, least, divisible):
    sizes = np.array(sizes, dtype=np.int64)
    chosen = choose_excerpts(sizes, budget, "set", least=least, divisible=divisible)
    assert (chosen.start >= 0).all()
    assert (chosen.stop > chosen.start).all()
    assert (chosen.stop <= sizes[chosen.document]).all()
    total = int(chosen.lengths.sum())
    assert total >= min(budget, int(sizes.sum()))
    assert divisible or (chosen.lengths == sizes[chosen.document]).all()
    if divisible:
        assert total <= budget + max(least, int(chosen.lengths.max()))


@given(lengths, st.integers(1, 20_000))
def test_the_choice_depends_on_the_name_alone(sizes, budget):
    sizes = np.array(sizes, dtype=np.int64)
    first, second = (choose_excerpts(sizes, budget, "set", least=10) for _ in range(2))
    assert np.array_equal(first.document, second.document)
    assert np.array_equal(first.start, second.start)


def test_the_budget_is_spread_over_all_documents():
    sizes = np.array([100_000] * 10 + [50] * 10, dtype=np.int64)
    chosen = choose_excerpts(sizes, 10_000, "set", least=100)
    assert sorted(chosen.document) == list(range(20))
    assert set(chosen.lengths[:10]) == {950}
    assert chosen.lengths.sum() == 10_000


def test_other_sets_are_cut_in_other_places():
    sizes = np.full(20, 10_000, dtype=np.int64)
    starts = [choose_excerpts(sizes, 5_000, name, least=10).start for name in ("a", "b")]
    assert not np.array_equal(*starts)


def test_a_single_document_is_cut_in_pieces_so_that_it_has_a_spread():
    chosen = choose_excerpts(np.array([80_000]), 8_000, "set", least=100)
    assert len(chosen.document) == 8
    assert (chosen.start[1:] == chosen.stop[:-1]).all()
    assert chosen.lengths.sum() == 8_000


def test_whole_documents_are_at_least_two_for_the_sake_of_the_error():
    sizes = np.full(5, 10_000, dtype=np.int64)
    assert len(choose_excerpts(sizes, 500, "set", least=10, divisible=False).document) == 2


def test_a_set_without_text_is_refused_by_name():
    with pytest.raises(CorpusError, match="'empty'"):
        choose_excerpts(np.zeros(3, dtype=np.int64), 100, "empty", least=10)


@pytest.mark.parametrize("seed", range(3))
def test_the_standard_error_agrees_with_a_bootstrap_over_documents(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(7, 1, 150).astype(np.int64) + 1
    nats = sizes * rng.gamma(20, 0.08, 150)
    loss = ratio_loss(nats, sizes // 3 + 1, sizes)
    picks = rng.integers(0, 150, (4000, 150))
    ratios = nats[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    assert loss.nats_se / loss.bytes == pytest.approx(ratios.std(), rel=0.1)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.floats(0.1, 8))
def test_documents_of_one_rate_have_no_error(sizes, rate):
    sizes = np.array(sizes, dtype=np.int64)
    loss = ratio_loss(rate * sizes, sizes, sizes)
    assert loss.nats == pytest.approx(rate * sizes.sum())
    assert loss.nats_se <= 1e-9 * loss.nats
