"""The sampler is a pure function of (corpus, mixture, seed, position), exact in shares."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.corpus import MixtureSampler, PreparedCorpus, matched_pools
from cuvee.corpus.apportion import GRID, Apportionment
from cuvee.corpus.permute import Permutation
from cuvee.errors import CorpusError, EpochCapError, SpecError
from cuvee.mixture import Mixture, largest_remainder

MIXTURE = Mixture({"web": 0.5, "code/py": 0.2, "math": 0.3})
LENGTH = 32

weights = st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any)


def sampler(
    corpus: PreparedCorpus, mixture: Mixture = MIXTURE, seed: int = 0, **options: object
) -> MixtureSampler:
    arguments = {"sequence_length": LENGTH, "total_tokens": 10_000} | options
    return MixtureSampler(corpus, mixture, seed=seed, **arguments)  # type: ignore[arg-type]


@given(raw=weights, length=st.integers(1, 400))
@settings(max_examples=150, deadline=None)
def test_counts_are_within_one_of_the_quota_at_every_position(raw: list[int], length: int) -> None:
    exact = largest_remainder(raw, GRID)
    labels = Apportionment(exact).labels(0, length)
    counts = np.cumsum(labels[:, None] == np.arange(len(raw)), axis=0, dtype=np.int64)
    positions = np.arange(1, length + 1)[:, None]
    # In whole numbers, so that "less than one" means it.
    assert (np.abs(counts * GRID - positions * np.array(exact)) < GRID).all()


@given(raw=weights, positions=st.lists(st.integers(0, 9000), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_counts_at_any_position_are_those_of_the_stream(
    raw: list[int], positions: list[int]
) -> None:
    order = Apportionment(largest_remainder(raw, GRID))
    for position in positions:
        counted = np.bincount(order.labels(0, position), minlength=len(raw))
        assert order.counts(position).tolist() == counted.tolist()


@given(size=st.integers(1, 5000), key=st.integers())
@settings(max_examples=100, deadline=None)
def test_a_permutation_hits_every_place_once(size: int, key: int) -> None:
    image = Permutation(size, key)(np.arange(size))
    assert sorted(image.tolist()) == list(range(size))


def test_permutations_are_fixed_for_all_time() -> None:
    """Stored runs refer to these orders: a change here is a change of FORMAT_VERSION."""
    assert Permutation(10, 7, "web", 0)(np.arange(10)).tolist() == [5, 2, 6, 9, 4, 8, 0, 7, 1, 3]
    big = Permutation(10**12, "x")(np.arange(3))
    assert big.min() >= 0
    assert big.max() < 10**12


def test_permutations_scatter_neighbours() -> None:
    image = Permutation(100_000, "key")(np.arange(100_000))
    steps = np.abs(np.diff(image))
    assert abs(steps.mean() / 33_333 - 1) < 0.02
    assert abs(np.corrcoef(np.arange(100_000), image)[0, 1]) < 0.02


@given(cut=st.integers(0, 200), sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_resuming_anywhere_gives_the_same_suffix(
    small_corpus: PreparedCorpus, cut: int, sizes: list[int]
) -> None:
    whole = sampler(small_corpus).batch(0, cut + sum(sizes))
    fresh = sampler(small_corpus)
    position = cut
    for size in sizes:
        assert (fresh.batch(position, size) == whole[position : position + size]).all()
        position += size


@given(ranks=st.integers(1, 5), batch=st.integers(1, 6), steps=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_ranks_divide_the_stream_without_overlap(
    small_corpus: PreparedCorpus, ranks: int, batch: int, steps: int
) -> None:
    whole = sampler(small_corpus).batch(0, ranks * batch * steps)
    parts = [
        [sampler(small_corpus).batch((step * ranks + rank) * batch, batch) for step in range(steps)]
        for rank in range(ranks)
    ]
    joined = np.concatenate([parts[rank][step] for step in range(steps) for rank in range(ranks)])
    assert (joined == whole).all()


def test_an_epoch_visits_every_window_of_a_domain_once(small_corpus: PreparedCorpus) -> None:
    one = sampler(small_corpus, Mixture({"math": 1.0}))
    tokens = small_corpus.train_tokens("math")
    size = (len(tokens) - 1) // LENGTH
    expected = sorted(
        tuple(tokens[i * LENGTH : (i + 1) * LENGTH + 1].tolist()) for i in range(size)
    )
    epochs = [one.batch(epoch * size, size) for epoch in range(2)]
    for epoch in epochs:
        assert sorted(map(tuple, epoch.tolist())) == expected
    assert (epochs[0] != epochs[1]).any()
    assert one.epochs(2 * size) == {"math": 2.0}


def rows_of(stream: MixtureSampler, name: str, length: int) -> list[bytes]:
    """The rows of a stream that come from one domain."""
    index = sorted(stream.counts(0)).index(name)
    labels = stream._order.labels(0, length)
    return [row.tobytes() for row in stream.batch(0, length)[labels == index]]


def test_adding_a_domain_or_changing_shares_keeps_the_order_within_the_others(
    small_corpus: PreparedCorpus,
) -> None:
    two = sampler(small_corpus, Mixture({"web": 0.6, "math": 0.4}))
    three = sampler(small_corpus, Mixture({"web": 0.2, "code/py": 0.5, "math": 0.3}))
    for name in ("web", "math"):
        a = rows_of(two, name, 200)
        b = rows_of(three, name, 200)
        common = min(len(a), len(b))
        assert common > 30
        assert a[:common] == b[:common]


def test_the_order_in_which_a_mixture_is_written_does_not_matter(
    small_corpus: PreparedCorpus,
) -> None:
    turned = Mixture(dict(reversed(list(MIXTURE.root.items()))))
    assert (
        sampler(small_corpus).batch(0, 100) == sampler(small_corpus, turned).batch(0, 100)
    ).all()


def test_seeds_change_which_windows_come_but_not_the_counts(small_corpus: PreparedCorpus) -> None:
    a, b = sampler(small_corpus, seed=1), sampler(small_corpus, seed=2)
    assert (a.batch(0, 50) != b.batch(0, 50)).any()
    assert a.counts(50) == b.counts(50)
    assert a.counts(50) == {"web": 25, "code/py": 10, "math": 15}


def test_another_process_draws_the_same_batches(small_corpus: PreparedCorpus) -> None:
    root = small_corpus.tokenizer_path.parent.parent
    program = (
        "import sys, hashlib; from pathlib import Path; from cuvee.corpus import *\n"
        "from cuvee.mixture import Mixture\n"
        "corpus = open_corpus(Path(sys.argv[1]), sys.argv[2])\n"
        f"mixture = Mixture({MIXTURE.root})\n"
        f"s = MixtureSampler(corpus, mixture, sequence_length={LENGTH}, seed=3, total_tokens=9)\n"
        "print(hashlib.sha256(s.batch(117, 64).tobytes()).hexdigest(), 'torch' in sys.modules)\n"
    )
    here = hashlib.sha256(sampler(small_corpus, seed=3).batch(117, 64).tobytes()).hexdigest()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(root), small_corpus.manifest.digest],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path.cwd())},
        )
        assert done.stdout.split() == [here, "False"]


def test_too_many_epochs_are_refused_before_the_first_batch(small_corpus: PreparedCorpus) -> None:
    supply = len(small_corpus.train_tokens("math"))
    share = MIXTURE["math"]
    most = int(4 * supply / share)
    sampler(small_corpus, total_tokens=most, max_epochs={"math": 4.0})
    with pytest.raises(EpochCapError, match=r"repeats 'math' 4\.\d\d times .* cap of 4") as caught:
        sampler(small_corpus, total_tokens=most + most // 100, max_epochs={"math": 4.0})
    assert caught.value.details["domain"] == "math"
    sampler(small_corpus, total_tokens=100 * most)  # without a cap, without limit


def test_a_pool_is_a_fixed_part_of_a_larger_one(small_corpus: PreparedCorpus) -> None:
    def windows(pool: int) -> set[bytes]:
        one = sampler(small_corpus, Mixture({"web": 1.0}), pool_tokens={"web": pool})
        size = (min(pool, len(small_corpus.train_tokens("web"))) - 1) // LENGTH
        assert one.epochs(size) == {"web": 1.0}
        return {row.tobytes() for row in one.batch(0, 2 * size)}

    assert windows(1000) < windows(4000) < windows(10**9)


def test_a_domain_without_one_sequence_is_refused(small_corpus: PreparedCorpus) -> None:
    with pytest.raises(CorpusError, match=r"'math' has .* less than one sequence of 90000"):
        sampler(small_corpus, Mixture({"math": 1.0}), sequence_length=90_000)
    with pytest.raises(CorpusError, match="'math' has 32 tokens"):
        sampler(small_corpus, pool_tokens={"math": LENGTH})


def test_unknown_domains_are_refused(small_corpus: PreparedCorpus) -> None:
    with pytest.raises(SpecError, match="unknown domains"):
        sampler(small_corpus, Mixture({"wbe": 1.0}))


def test_matched_pools_repeat_every_domain_as_the_target_run_will(
    small_corpus: PreparedCorpus,
) -> None:
    manifest = small_corpus.manifest
    pools = matched_pools(manifest, 1_000, 4_000, floor_tokens=1)
    for domain in manifest.domains:
        target_epochs = MIXTURE[domain.name] * 4_000 / domain.tokens
        run_epochs = MIXTURE[domain.name] * 1_000 / pools[domain.name]
        assert run_epochs <= target_epochs
        assert run_epochs == pytest.approx(target_epochs, rel=1e-3)
    floored = matched_pools(manifest, 1_000, 10**9, floor_tokens=3_000)
    assert set(floored.values()) == {3_000}
    whole = {d.name: d.tokens for d in manifest.domains}
    assert matched_pools(manifest, 1_000, 10**9, floor_tokens=10**9) == whole
    assert matched_pools(manifest, 9_000, 4_000, floor_tokens=1) == whole
