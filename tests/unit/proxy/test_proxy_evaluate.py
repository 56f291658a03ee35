"""Held-out loss against counting token by token."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from cuvee.corpus import HeldOut, PreparedCorpus
from cuvee.proxy.config import Shape
from cuvee.proxy.evaluate import evaluate, prepare_sets
from cuvee.proxy.model import build_model, next_token_logits


def uniform_over_bytes(ids: torch.Tensor) -> torch.Tensor:
    """1/256 to every byte, nothing to the end of a document."""
    logits = torch.zeros(*ids.shape, 257)
    logits[..., 256] = float("-inf")
    return logits


@pytest.mark.parametrize("eval_tokens", [500, 1_000_000])
@pytest.mark.parametrize("length", [16, 1000])
def test_a_model_that_gives_every_byte_one_in_256_scores_eight_bits(
    byte_corpus: PreparedCorpus, length, eval_tokens
):
    losses = evaluate(
        uniform_over_bytes, byte_corpus, sequence_length=length, eval_tokens=eval_tokens
    )
    assert set(losses) == {"code", "prose", "tables"}
    for loss in losses.values():
        assert loss.bits_per_byte == pytest.approx(8.0, rel=1e-7)
        assert loss.tokens == loss.bytes
        assert loss.nats_se == pytest.approx(0, abs=1e-3)


def test_every_token_is_scored_once_after_the_token_before_it(bpe_corpus: PreparedCorpus):
    vocab = bpe_corpus.manifest.vocab_size
    table = torch.randn(vocab, vocab, generator=torch.Generator().manual_seed(0))
    losses = evaluate(lambda ids: table[ids], bpe_corpus, sequence_length=50, eval_tokens=10**6)
    log_p = torch.log_softmax(table.double(), dim=-1)
    for name, loss in losses.items():
        held = bpe_corpus.heldout(name)
        expected = 0.0
        for d in range(len(held.doc_bytes)):
            document = held.tokens[held.offsets[d] : held.offsets[d + 1]].astype(int)
            assert document[-1] == bpe_corpus.eos_id
            previous = [bpe_corpus.eos_id, *document[:-2]]
            expected -= float(log_p[previous, document[:-1]].sum())
        assert loss.nats == pytest.approx(expected, rel=1e-6)
        assert loss.tokens == len(held.tokens) - len(held.doc_bytes)
        assert loss.bytes == held.doc_bytes.sum()


def test_windows_and_padding_leave_the_score_of_a_real_model_alone(bpe_corpus: PreparedCorpus):
    vocab = bpe_corpus.manifest.vocab_size
    model = build_model(Shape(16, 2, 2, 2, 24), vocab, context=64, seed=0)
    losses = evaluate(
        lambda ids: next_token_logits(model, ids),
        bpe_corpus,
        sequence_length=64,
        eval_tokens=10**6,
    )
    held = bpe_corpus.heldout("code")
    expected = 0.0
    for d in range(len(held.doc_bytes)):
        tokens = torch.from_numpy(
            held.tokens[held.offsets[d] : held.offsets[d + 1] - 1].astype(np.int64)
        )
        inputs = torch.cat([torch.tensor([bpe_corpus.eos_id]), tokens[:-1]])
        for start in range(0, len(tokens), 64):
            with torch.no_grad():
                logits = next_token_logits(model, inputs[None, start : start + 64])[0]
            expected += F.cross_entropy(logits, tokens[start : start + 64], reduction="sum").item()
    assert losses["code"].nats == pytest.approx(expected, rel=1e-5)


def test_excerpts_of_a_byte_level_vocabulary_have_exact_bytes(bpe_corpus: PreparedCorpus):
    tokenizer = Tokenizer.from_file(str(bpe_corpus.tokenizer_path))
    for scored in prepare_sets(bpe_corpus, 32, 1000).values():
        assert 1000 <= scored.tokens.sum() <= 1100
        for e, size in enumerate(scored.sizes):
            rows = scored.excerpt == e
            ids = [int(t) for row in scored.targets[rows] for t in row if t >= 0]
            text = tokenizer.decode(ids, skip_special_tokens=False)
            if "\ufffd" not in text and len(ids) <= 32:
                assert len(text.encode()) == size


class OneDocument:
    """A corpus whose one set is one document, read through another corpus's tokenizer."""

    def __init__(self, corpus: PreparedCorpus, tokens: np.ndarray, size: int) -> None:
        self.manifest = corpus.manifest.model_copy(
            update={"domains": corpus.manifest.domains[:1]},
        )
        self.eos_id = corpus.eos_id
        self.tokenizer_path = corpus.tokenizer_path
        self._held = HeldOut(tokens, np.array([0, len(tokens)]), np.array([size]))

    def heldout(self, name: str) -> HeldOut:
        return self._held


def test_a_single_document_still_has_a_standard_error(byte_corpus: PreparedCorpus):
    held = byte_corpus.heldout("code")
    tokens = np.append(held.tokens[held.tokens != byte_corpus.eos_id], byte_corpus.eos_id)
    corpus = OneDocument(byte_corpus, tokens, len(tokens) - 1)
    table = torch.randn(257, 257, generator=torch.Generator().manual_seed(0))
    loss = evaluate(lambda ids: table[ids], corpus, sequence_length=64, eval_tokens=2000)["code"]
    assert loss.tokens == loss.bytes == 2000
    assert 0 < loss.nats_se < loss.nats / 5


def test_whole_documents_are_scored_where_token_sizes_do_not_add_up(byte_corpus: PreparedCorpus):
    held = byte_corpus.heldout("code")
    corpus = OneDocument(byte_corpus, held.tokens[: held.offsets[1]], 10**6)
    loss = evaluate(uniform_over_bytes, corpus, sequence_length=64, eval_tokens=256)["code"]
    assert loss.tokens == held.offsets[1] - 1
    assert loss.bytes == 10**6
    assert loss.nats == pytest.approx(loss.tokens * math.log(256))
