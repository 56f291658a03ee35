"""The ``ngram`` rung: an interpolated byte n-gram model of a mixture, without training.

Symbols
-------
``n``        order: the longest context has ``n - 1`` bytes
``h, b``     a context of ``k`` bytes and the byte after it, ``0 <= k < n``
``c_j(h,b)`` how often ``b`` follows ``h`` in the sample of domain ``j``; ``c_j(h)``: its sum over b
``t_j(h)``   how many different bytes follow ``h`` in that sample
``w_j``      ``p_j * train_bytes / (positions counted in the sample of j)``

The model of mixture ``p`` is Witten and Bell's interpolation (Bell, Cleary and Witten, *Text
Compression*, 1990, method C; Chen and Goodman 1998, section 2.5) over expected counts::

    P_k(b|h) = (C(h,b) + T(h) * P_{k-1}(b|h')) / (C(h) + T(h)),     P_{-1}(b) = 1/256
    C(h,b) = sum_j w_j c_j(h,b)        C(h) = sum_j w_j c_j(h)
    T(h)   = sum_j min(1, w_j)**GROWTH * t_j(h)

where ``h'`` is ``h`` without its first byte. Counts are linear in the shares, which is the point:
the arrays ``c_j`` and ``t_j`` over the held-out bytes are made once, and the loss of any mixture
is then a few passes over them.

Known differences from counting a real sample of the mixture:

- Counts are expectations over the whole sample of a domain, so they are fractions. A real sample at
  share 0.1 sees a tenth of the contexts, each with its full count; here all are seen, faintly.
- The number of different continuations is not linear. By Heaps' law a share ``w`` of a text shows
  about ``w**GROWTH`` of its types, which gives ``T``; it ignores what two domains have in common.
  With a single domain at full sample it is Witten and Bell's model exactly.
- A domain with less text than ``p_j * train_bytes`` has ``w_j > 1``: its text counts as repeated,
  which adds counts and no new continuations.

What the first two cost, measured against counting a real sample of nine mixtures of six domains
(Python, SymPy, character tables, English documentation, JavaScript, C++ headers; order 5, 400 kB):
the mean over sets correlates at 0.98 and a single set at 0.95, but losses read 0.8 bits per byte
low on average, and 1.2 low where the set's own domain has a share under 0.1. Use the rung to rank
mixtures; its differences are flatter than those of a model that must learn from what it is given.

The first bytes of a document follow newlines, since training text separates documents by one.
Scored bytes, excerpts and standard errors: ``cuvee.proxy.heldout``.

Noise: the seed chooses for each domain, by its name, one of ``WINDOWS`` places of the training text
to count, so repeats of a mixture with other seeds differ as runs on other samples do. There
are few places so that their counts can be kept.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cuvee.errors import CorpusError
from cuvee.mixture import Mixture
from cuvee.proxy.heldout import choose_excerpts, keyed_generator, ratio_loss
from cuvee.records import EvalLoss
from cuvee.spec import NgramRung

if TYPE_CHECKING:
    from cuvee.corpus import PreparedCorpus

__all__ = ["GROWTH", "WINDOWS", "NgramOracle", "ngram_losses"]

GROWTH = 0.25
"""Exponent of Heaps' law. Against real samples (see the module) smaller is slightly better (root
mean squared error 0.87 bits per byte at 0, 0.94 here, 0.97 at 0.5), but 0 would make the loss jump
where a share becomes 0."""

WINDOWS = 8
"""Places per domain that a seed may choose. Mixtures of m domains then have ``8**m`` samples."""

_LEAST_EXCERPT = 500
"""Bytes. The context of an excerpt is real text, so this only bounds the number of documents."""

_ORACLES_KEPT = 4

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Level:
    """The distinct grams of ``k + 1`` bytes among the scored positions; U grams, H contexts.

    Attributes:
        grams: Sorted, shape (U,): context and byte, the last byte lowest.
        contexts: Sorted, shape (H,): ``grams`` without their last byte.
        context_of: Index into ``contexts`` of each gram, shape (U,).
        parent: Index into the grams of level ``k - 1`` (the same gram without its first byte),
            shape (U,); zeros at level 0.
    """

    grams: Keys
    contexts: Keys
    context_of: Ints
    parent: Ints


@dataclass(frozen=True, slots=True)
class _Scored:
    """The held-out positions of every set, one after the other.

    Attributes:
        levels: One per context length 0 .. n - 1.
        gram_of: Index into the grams of the last level of each position, shape (N,).
        first: Where each document's positions start, shape (D,).
        lengths: Positions (bytes) of each document, shape (D,).
        sets: Per evaluation set its range of documents.
    """

    levels: tuple[_Level, ...]
    gram_of: Ints
    first: Ints
    lengths: Ints
    sets: dict[str, slice]


@dataclass(frozen=True, slots=True)
class _DomainCounts:
    """Counts of one sample at every level: ``c_j(h,b)``, ``c_j(h)``, ``t_j(h)``."""

    positions: int
    grams: tuple[Counts, ...]
    contexts: tuple[Counts, ...]
    continuations: tuple[Counts, ...]


class NgramOracle:
    """The loss of any mixture of a corpus under the n-gram model.

    Making one indexes the held-out bytes. The counts of a domain's sample are made when a seed
    first asks for them and kept, so that after the first few calls a mixture costs milliseconds.
    """

    def __init__(self, rung: NgramRung, corpus: PreparedCorpus) -> None:
        self._rung = rung
        self._corpus = corpus
        self._names = corpus.manifest.names
        self._scored = _index_heldout(corpus, rung.order, rung.eval_bytes)
        self._counts: dict[tuple[str, int], _DomainCounts] = {}

    def losses(self, mixture: Mixture, seed: int) -> dict[str, EvalLoss]:
        """The loss of every evaluation set; ``tokens`` are bytes.

        Raises:
            SpecError: If the mixture names a domain that the corpus does not have.
            CorpusError: If a domain with a share has less training text than the order needs.
        """
        probability = self._probabilities(mixture, seed)
        nats = -np.log(probability)[self._scored.gram_of]
        by_document = np.add.reduceat(nats, self._scored.first)
        lengths = self._scored.lengths
        return {
            name: ratio_loss(by_document[docs], lengths[docs], lengths[docs])
            for name, docs in self._scored.sets.items()
        }

    def _probabilities(self, mixture: Mixture, seed: int) -> Floats:
        """``P_{n-1}(b|h)`` of every gram of the last level, shape (U,)."""
        shares = mixture.shares(self._names)
        used = [
            (share, self._domain_counts(name, seed))
            for name, share in zip(self._names, shares, strict=True)
            if share > 0
        ]
        weights = [share * self._rung.train_bytes / counts.positions for share, counts in used]
        probability = np.full(1, 1.0 / 256.0)
        for k, level in enumerate(self._scored.levels):
            grams = np.zeros(level.grams.size)
            contexts = np.zeros(level.contexts.size)
            continuations = np.zeros(level.contexts.size)
            for w, (_, counts) in zip(weights, used, strict=True):
                grams += w * counts.grams[k]
                contexts += w * counts.contexts[k]
                continuations += min(1.0, w) ** GROWTH * counts.continuations[k]
            # A context that no sample has seen leaves the shorter context's probability as it is.
            unseen = contexts <= 0
            contexts[unseen], continuations[unseen] = 0.0, 1.0
            held_back = continuations[level.context_of]
            probability = (grams + held_back * probability[level.parent]) / (
                contexts[level.context_of] + held_back
            )
        return probability

    def _domain_counts(self, name: str, seed: int) -> _DomainCounts:
        """Counts of the ``train_bytes`` of text (or all there are) that ``seed`` chooses."""
        text = self._corpus.train_text(name)
        window = int(keyed_generator("window", name, seed).integers(WINDOWS))
        start = max(0, len(text) - self._rung.train_bytes) * window // (WINDOWS - 1)
        counts = self._counts.get((name, start))
        if counts is None:
            sample = np.asarray(text[start : start + self._rung.train_bytes])
            if len(sample) < self._rung.order:
                raise CorpusError(
                    f"domain {name!r} has {len(sample)} bytes of training text, less than one "
                    f"gram of order {self._rung.order}: add text or lower the rung's order",
                    domain=name,
                )
            counts = self._counts[name, start] = _count(sample, self._scored.levels)
        return counts


_oracles: OrderedDict[tuple[str, int, int, int], NgramOracle] = OrderedDict()


def ngram_losses(
    rung: NgramRung, corpus: PreparedCorpus, mixture: Mixture, seed: int
) -> dict[str, EvalLoss]:
    """The loss of every evaluation set under the n-gram model of ``mixture``.

    Keeps the oracles of the last few corpora in memory, so that a process that evaluates many
    mixtures pays for the counting once.

    Args:
        rung: Order, size of the training sample, size of the evaluation.
        corpus: A prepared corpus.
        mixture: Shares over the corpus's domains.
        seed: Chooses the samples that are counted.

    Raises:
        SpecError: If the mixture names a domain that the corpus does not have.
        CorpusError: If a domain with a share has less training text than the order needs.
    """
    key = (corpus.manifest.digest, rung.order, rung.train_bytes, rung.eval_bytes)
    oracle = _oracles.pop(key, None) or NgramOracle(rung, corpus)
    _oracles[key] = oracle
    while len(_oracles) > _ORACLES_KEPT:
        _oracles.popitem(last=False)
    return oracle.losses(mixture, seed)


def _gram_keys(data: npt.NDArray[np.uint8], ends: Ints | None, k: int, order: int) -> Keys:
    """Grams of ``k + 1`` bytes as integers, the last byte lowest.

    Args:
        data: Bytes, shape (B,).
        ends: Index of each gram's last byte, shape (N,); ``None`` means every one from
            ``order - 1`` on, so that all levels count the same positions.
        k: Length of the context.
        order: The model's order.
    """
    if ends is None:
        parts = [data[order - 1 - m : len(data) - m] for m in range(k + 1)]
    else:
        parts = [data[ends - m] for m in range(k + 1)]
    keys = np.zeros(parts[0].size, dtype=np.uint64)
    for m, part in enumerate(parts):
        keys |= part.astype(np.uint64) << np.uint64(8 * m)
    return keys


def _index_heldout(corpus: PreparedCorpus, order: int, eval_bytes: int) -> _Scored:
    pieces: list[npt.NDArray[np.uint8]] = []
    lengths: list[Ints] = []
    sets: dict[str, slice] = {}
    documents = 0
    for name in corpus.manifest.eval_sets:
        text = corpus.heldout_text(name)
        offsets = np.asarray(text.offsets, dtype=np.int64)
        sizes: Ints = offsets[1:] - offsets[:-1]
        chosen = choose_excerpts(sizes, eval_bytes, name, least=_LEAST_EXCERPT)
        for document, start, stop in zip(chosen.document, chosen.start, chosen.stop, strict=True):
            begin = int(offsets[document])
            known = min(int(start), order - 1)
            pieces.append(np.full(order - 1 - known, ord("\n"), dtype=np.uint8))
            pieces.append(np.asarray(text.data[begin + start - known : begin + stop]))
        lengths.append(chosen.lengths)
        sets[name] = slice(documents, documents + chosen.lengths.size)
        documents += chosen.lengths.size
    data = np.concatenate(pieces)
    all_lengths = np.concatenate(lengths)
    first = np.concatenate(([0], np.cumsum(all_lengths)[:-1])).astype(np.int64)
    # Each excerpt has order - 1 bytes of context before it that are not scored.
    ends = np.arange(all_lengths.sum()) + (order - 1) * np.repeat(
        np.arange(1, all_lengths.size + 1), all_lengths
    )
    levels: list[_Level] = []
    gram_of = np.zeros(ends.size, dtype=np.int64)
    for k in range(order):
        grams, representative, inverse = np.unique(
            _gram_keys(data, ends, k, order), return_index=True, return_inverse=True
        )
        contexts, context_of = np.unique(grams >> np.uint64(8), return_inverse=True)
        levels.append(_Level(grams, contexts, context_of, gram_of[representative]))
        gram_of = inverse
    return _Scored(tuple(levels), gram_of, first, all_lengths, sets)


def _count(sample: npt.NDArray[np.uint8], levels: tuple[_Level, ...]) -> _DomainCounts:
    order = len(levels)
    at_grams: list[Counts] = []
    at_contexts: list[Counts] = []
    at_continuations: list[Counts] = []
    for k, level in enumerate(levels):
        grams, counts = np.unique(_gram_keys(sample, None, k, order), return_counts=True)
        contexts, begins, different = np.unique(
            grams >> np.uint64(8), return_index=True, return_counts=True
        )
        at_grams.append(_look_up(level.grams, grams, counts))
        at_contexts.append(_look_up(level.contexts, contexts, np.add.reduceat(counts, begins)))
        at_continuations.append(_look_up(level.contexts, contexts, different))
    return _DomainCounts(
        positions=len(sample) - order + 1,
        grams=tuple(at_grams),
        contexts=tuple(at_contexts),
        continuations=tuple(at_continuations),
    )


def _look_up(wanted: Keys, known: Keys, values: Ints) -> Counts:
    """``values`` at the keys ``wanted``, 0 where a key is not among the sorted ``known``."""
    at = np.searchsorted(known, wanted)
    at[at == known.size] = 0
    # Counts stay below 2**24, so single precision holds them exactly.
    return np.where(known[at] == wanted, values[at], 0).astype(np.float32)
