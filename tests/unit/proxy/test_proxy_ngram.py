"""The n-gram rung against a reference that counts in dictionaries, one gram at a time."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.corpus import PreparedCorpus
from cuvee.errors import CorpusError, SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.ngram import GROWTH, NgramOracle, ngram_losses
from cuvee.spec import NgramRung


class Reference:
    """``P(b | h)`` straight from the definition, with whole samples and Python floats."""

    def __init__(self, samples: Mapping[str, bytes], mixture: Mixture, order: int, size: int):
        self.order = order
        self.c: Counter[bytes] = Counter()
        self.total: Counter[bytes] = Counter()
        self.distinct: defaultdict[bytes, float] = defaultdict(float)
        for name, sample in samples.items():
            ends = range(order - 1, len(sample))
            w = mixture.root.get(name, 0.0) * size / len(ends)
            if w == 0:
                continue
            for k in range(order):
                grams = Counter(sample[end - k : end + 1] for end in ends)
                for gram, count in grams.items():
                    self.c[gram] += w * count
                    # Keyed with the length: the same bytes are a context and a gram.
                    self.total[b"h" + gram[:-1]] += w * count
                    self.distinct[gram[:-1]] += min(1.0, w) ** GROWTH

    def probability(self, context: bytes, byte: int) -> float:
        p = 1 / 256
        for k in range(self.order):
            h = context[len(context) - k :]
            total, distinct = self.total[b"h" + h], self.distinct[h]
            if total > 0:
                p = (self.c[h + bytes([byte])] + distinct * p) / (total + distinct)
        return p

    def nats(self, document: bytes) -> float:
        padded = b"\n" * (self.order - 1) + document
        return -math.fsum(
            math.log(self.probability(padded[i : i + self.order - 1], document[i]))
            for i in range(len(document))
        )


words = st.lists(
    st.sampled_from([b"ab", b"abc", b"\n", b"xyz ", b"\x00\xff"]), min_size=8, max_size=30
).map(b"".join)


@settings(max_examples=25, deadline=None)
@given(
    train=st.tuples(words, words, words),
    held=st.lists(words, min_size=1, max_size=3),
    weights=st.tuples(*[st.floats(0, 1)] * 3).filter(lambda w: sum(w) > 0.01),
    order=st.integers(1, 8),
)
def test_losses_equal_those_of_counting_gram_by_gram(memory, train, held, weights, order):
    names = ("a", "b", "c")
    corpus = memory(
        train={n: [t] for n, t in zip(names, train, strict=True)}, held=dict.fromkeys(names, held)
    )
    mixture = Mixture.from_weights(dict(zip(names, weights, strict=True)))
    rung = NgramRung(order=order, train_bytes=1000, eval_bytes=1000)
    losses = NgramOracle(rung, corpus).losses(mixture, seed=0)
    reference = Reference(dict(zip(names, train, strict=True)), mixture, order, 1000)
    expected = math.fsum(map(reference.nats, held))
    assert losses["a"].nats == pytest.approx(expected, rel=1e-5)
    assert losses["a"].tokens == losses["a"].bytes == sum(map(len, held))


@pytest.fixture(scope="module")
def memory(memory_corpus):
    return type(memory_corpus)


def test_probabilities_of_the_reference_sum_to_one(memory_corpus):
    samples = {n: memory_corpus.train_text(n)[:3000].tobytes() for n in ("code", "prose")}
    reference = Reference(samples, Mixture({"code": 0.3, "prose": 0.7}), 4, 3000)
    for context in (b"   ", b"the", b"\xf0\x9f\x98"):
        total = math.fsum(reference.probability(context, b) for b in range(256))
        assert total == pytest.approx(1, abs=1e-12)


def test_every_domain_is_predicted_best_by_its_own_text(memory_corpus):
    rung = NgramRung(train_bytes=60_000, eval_bytes=5_000)
    losses = {n: ngram_losses(rung, memory_corpus, Mixture({n: 1.0}), 0) for n in ("code", "prose")}
    assert losses["code"]["code"].bits_per_byte + 0.5 < losses["prose"]["code"].bits_per_byte
    assert losses["prose"]["prose"].bits_per_byte + 0.5 < losses["code"]["prose"].bits_per_byte


def test_a_share_that_fades_out_makes_no_jump(memory_corpus):
    rung = NgramRung(train_bytes=60_000, eval_bytes=5_000)
    without = ngram_losses(rung, memory_corpus, Mixture({"code": 1.0}), 0)
    faint = ngram_losses(rung, memory_corpus, Mixture({"code": 1 - 1e-12, "prose": 1e-12}), 0)
    for name, loss in without.items():
        assert faint[name].bits_per_byte == pytest.approx(loss.bits_per_byte, abs=0.01)


def test_a_seed_gives_one_result_and_other_seeds_other_samples(byte_corpus: PreparedCorpus):
    rung = NgramRung(train_bytes=30_000, eval_bytes=5_000)
    mixture = Mixture.uniform(byte_corpus.manifest.names)
    first = ngram_losses(rung, byte_corpus, mixture, 1)
    assert NgramOracle(rung, byte_corpus).losses(mixture, 1) == first
    others = {ngram_losses(rung, byte_corpus, mixture, s)["code"].nats for s in range(2, 8)}
    assert len(others | {first["code"].nats}) >= 4
    assert all(nats == pytest.approx(first["code"].nats, rel=0.15) for nats in others)


def test_only_the_budget_is_scored_and_the_error_is_positive(byte_corpus: PreparedCorpus):
    rung = NgramRung(train_bytes=50_000, eval_bytes=4_000)
    losses = ngram_losses(rung, byte_corpus, byte_corpus.manifest.natural, 0)
    assert set(losses) == {"code", "prose", "tables"}
    for loss in losses.values():
        assert 4_000 <= loss.bytes <= 4_500
        assert 0 < loss.nats_se < loss.nats / 3


def test_an_unknown_domain_is_refused_by_name(memory_corpus):
    with pytest.raises(SpecError, match="weather"):
        ngram_losses(NgramRung(), memory_corpus, Mixture({"weather": 1.0}), 0)


def test_a_domain_shorter_than_a_gram_is_refused_by_name(memory):
    corpus = memory(train={"a": [b"abc"], "b": [b"long enough"]}, held={"a": [b"x"], "b": [b"x"]})
    with pytest.raises(CorpusError, match="'a' has 3 bytes"):
        ngram_losses(NgramRung(), corpus, Mixture({"a": 1.0}), 0)


def test_importing_the_rung_does_not_load_torch():
    code = "import sys, cuvee.proxy.ngram; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
