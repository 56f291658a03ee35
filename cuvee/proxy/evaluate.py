"""Held-out loss: nats, tokens and bytes, so that bits per byte compare across tokenizers.

::

    bits per byte = sum(nats) / (ln 2 * sum(UTF-8 bytes))

Sums over the set, then one division: a mean of per-document values would weigh short documents too
much. Bytes are those of the text, as written. What is scored and what is masked:

- **Start.** Every document follows an end-of-document token, as it does in training, so its first
  token is scored too.
- **End.** The end-of-document token after a document is not scored: it spells no bytes, and its
  cost would be charged to the text. A model that gives each byte 1/256 so scores exactly 8.
- **Windows.** Documents longer than the sequence length are cut into windows that do not overlap.
  The first input of a window is the last token of the one before, so every token is scored once,
  with between 1 and ``sequence_length`` tokens of context. Sliding windows would read a little
  lower, for all mixtures alike, and cost a multiple.
- **Padding.** Windows are padded on the right, where a causal model cannot see it, and the padding
  is not scored.

Which documents are scored and the standard error: ``cuvee.proxy.heldout``. Excerpts need the bytes
of single tokens, which byte-level vocabularies tell. They are trusted only if they add up to the
size of every document of the set; otherwise whole documents are scored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from cuvee.proxy.heldout import Excerpts, choose_excerpts, ratio_loss
from cuvee.records import EvalLoss

if TYPE_CHECKING:
    from cuvee.corpus import HeldOut, PreparedCorpus

__all__ = [
    "Logits",
    "ScoredSet",
    "evaluate",
    "excerpt_nats",
    "prepare_sets",
    "score",
    "token_nats",
]

Logits: TypeAlias = Callable[[Tensor], Tensor]
"""Token ids (B, T) to logits of the next token (B, T, V)."""

Ints = npt.NDArray[np.int64]

_MASKED = -100
"""Target of positions that are not scored: what ``cross_entropy`` ignores by default."""

_LOGITS_PER_BATCH = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Logits computed at once: 16 MB stay near a CPU's caches, half a gigabyte fills a GPU."""


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """One evaluation set, cut into windows, longest first to keep padding small.

    Attributes:
        inputs: Token ids, shape (W, S); 0 where masked.
        targets: The token after each input, shape (W, S); ``_MASKED`` where there is none.
        lengths: Tokens scored in each window, shape (W,).
        excerpt: Which excerpt each window belongs to, shape (W,).
        tokens: Tokens scored in each excerpt, shape (E,).
        sizes: UTF-8 bytes of each excerpt, shape (E,).
    """

    inputs: Ints
    targets: Ints
    lengths: Ints
    excerpt: Ints
    tokens: Ints
    sizes: Ints


def evaluate(
    model: Logits,
    corpus: PreparedCorpus,
    *,
    sequence_length: int,
    eval_tokens: int,
    device: str = "cpu",
) -> dict[str, EvalLoss]:
    """The loss of ``model`` on every evaluation set of a corpus.

    Args:
        model: Anything that turns token ids into logits of the next token.
        corpus: A prepared corpus.
        sequence_length: Longest context.
        eval_tokens: Tokens to score per set, at least; a smaller set is scored whole.
        device: Where the token ids are put.
    """
    sets = prepare_sets(corpus, sequence_length, eval_tokens)
    return {name: score(model, scored, torch.device(device)) for name, scored in sets.items()}


def prepare_sets(
    corpus: PreparedCorpus, sequence_length: int, eval_tokens: int
) -> Mapping[str, ScoredSet]:
    """Choose and cut what is scored; one preparation serves any number of evaluations."""
    token_bytes = _token_bytes(corpus.tokenizer_path)
    return {
        name: _cut(
            corpus.heldout(name), name, corpus.eos_id, sequence_length, eval_tokens, token_bytes
        )
        for name in corpus.manifest.eval_sets
    }


@torch.no_grad()
def score(
    model: Logits,
    scored: ScoredSet,
    device: torch.device,
    on_batch: Callable[[], None] | None = None,
) -> EvalLoss:
    """The loss of a model on one set. Nats are computed in fp32 and added up in fp64.

    Args:
        model: Token ids (B, T) to logits (B, T, V).
        scored: The set.
        device: Where the token ids are put.
        on_batch: Called after each batch; what it raises ends the evaluation.
    """
    nats = excerpt_nats(model, scored, device, on_batch)
    return ratio_loss(nats, scored.tokens, scored.sizes)


@torch.no_grad()
def excerpt_nats(
    model: Logits,
    scored: ScoredSet,
    device: torch.device,
    on_batch: Callable[[], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Nats of each excerpt of a set, shape (E,): what two models are compared on pairwise.

    Arguments as of ``score``.
    """
    nats = np.zeros(scored.tokens.size)
    for batch, losses in token_nats(model, scored, device):
        np.add.at(nats, scored.excerpt[batch], losses.double().sum(dim=1).cpu().numpy())
        if on_batch is not None:
            on_batch()
    return nats


def token_nats(
    model: Logits, scored: ScoredSet, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """Batches of a set: which windows, and the nats of their tokens, shape (B, T), 0 where masked.

    Nats are in fp32, or fp64 if the logits are, and carry a gradient where the caller enables it.
    """
    rows, row = 1, 0
    while row < scored.lengths.size:
        longest = int(scored.lengths[row])
        batch = slice(row, min(row + rows, scored.lengths.size))
        inputs = torch.from_numpy(scored.inputs[batch, :longest]).to(device)
        targets = torch.from_numpy(scored.targets[batch, :longest]).to(device)
        logits = model(inputs)
        losses = F.cross_entropy(
            logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32)),
            targets.flatten(),
            reduction="none",
        ).view(targets.shape)  # (B, T)
        row += len(inputs)
        # The first batch, a single window, tells the size of the vocabulary.
        room = _LOGITS_PER_BATCH.get(device.type, _LOGITS_PER_BATCH["cpu"])
        rows = max(1, room // (longest * logits.shape[-1]))
        yield batch, losses


def _cut(
    held: HeldOut,
    name: str,
    eos_id: int,
    sequence_length: int,
    eval_tokens: int,
    token_bytes: Ints | None,
) -> ScoredSet:
    offsets = np.asarray(held.offsets, dtype=np.int64)
    lengths = np.diff(offsets) - 1  # without the end-of-document token
    least = min(sequence_length, eval_tokens)
    chosen = choose_excerpts(lengths, eval_tokens, name, least=least)
    sizes = _excerpt_bytes(held, offsets, chosen, token_bytes)
    if sizes is None:
        chosen = choose_excerpts(lengths, eval_tokens, name, least=least, divisible=False)
        sizes = np.asarray(held.doc_bytes, dtype=np.int64)[chosen.document]
    begins = offsets[chosen.document] + chosen.start
    windows = -(-chosen.lengths // sequence_length)
    total = int(windows.sum())
    inputs = np.zeros((total, sequence_length), dtype=np.int64)
    targets = np.full((total, sequence_length), _MASKED, dtype=np.int64)
    filled = np.zeros(total, dtype=np.int64)
    row = 0
    for begin, length, start in zip(begins, chosen.lengths, chosen.start, strict=True):
        tokens = np.asarray(held.tokens[begin : begin + length], dtype=np.int64)
        before = int(held.tokens[begin - 1]) if start > 0 else eos_id
        shifted = np.concatenate(([before], tokens[:-1]))
        for at in range(0, int(length), sequence_length):
            end = min(at + sequence_length, int(length))
            inputs[row, : end - at] = shifted[at:end]
            targets[row, : end - at] = tokens[at:end]
            filled[row] = end - at
            row += 1
    excerpt = np.repeat(np.arange(windows.size), windows)
    order = np.argsort(-filled, kind="stable")
    return ScoredSet(
        inputs[order], targets[order], filled[order], excerpt[order], chosen.lengths, sizes
    )


def _excerpt_bytes(
    held: HeldOut, offsets: Ints, chosen: Excerpts, token_bytes: Ints | None
) -> Ints | None:
    """Bytes of each excerpt, or None where token sizes do not add up to those of its document."""
    if token_bytes is None:
        return None
    sizes = np.zeros(chosen.document.size, dtype=np.int64)
    for i, (document, start, stop) in enumerate(
        zip(chosen.document, chosen.start, chosen.stop, strict=True)
    ):
        begin, end = int(offsets[document]), int(offsets[document + 1]) - 1
        spelled = token_bytes[np.asarray(held.tokens[begin:end], dtype=np.int64)]
        if int(spelled.sum()) != int(held.doc_bytes[document]):
            return None
        sizes[i] = spelled[start:stop].sum()
    return sizes


def _token_bytes(tokenizer: Path) -> Ints | None:
    """UTF-8 bytes of each token of a byte-level vocabulary, shape (V,).

    Such a vocabulary writes each byte as one character, so a token's size is its length as text.
    None if the tokenizer has no vocabulary of that kind; whether it is byte-level is left to the
    comparison with the documents.
    """
    described: dict[str, Any] = json.loads(tokenizer.read_text(encoding="utf-8"))
    vocabulary = described["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        return None
    added = {token["id"]: token["content"] for token in described.get("added_tokens", [])}
    sizes = np.zeros(max([*vocabulary.values(), *added]) + 1, dtype=np.int64)
    for token, index in vocabulary.items():
        sizes[index] = len(token)
    for index, token in added.items():
        sizes[index] = len(token.encode())
    return sizes
