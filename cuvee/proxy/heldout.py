"""Which held-out text is scored, and how sure the total is. numpy only: both rungs use it.

**What is scored.** An evaluation has a budget. A set within it is scored whole. A larger one is
scored in excerpts: every document gives up to ``cap`` units, at a place chosen by hash, with
``cap`` as large as the budget allows; when there are more documents than budget, a subset chosen by
hash is used. Spreading the budget over documents rather than reading the first ones is what makes
the standard error small, since text varies more between documents than inside one. The choice
depends on the name of the set alone: every mixture and every seed is scored on the same text, so
differences between runs carry no noise from it.

**How sure.** Bits per byte is a ratio of sums over documents of unequal length, so its error is
that of a ratio estimate (Cochran, *Sampling Techniques*, 3rd ed., section 6.4): with
``r = sum(nats) / sum(bytes)``, the residuals ``nats_d - r * bytes_d`` spread around zero and
``var(sum nats) = D / (D - 1) * sum(residual^2)``, the bytes taken as fixed. A set that is a single
document is cut into pieces, since one document has no spread: its error then says how the document
varies inside, which is less than how documents vary.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cuvee.errors import CorpusError
from cuvee.records import EvalLoss

__all__ = ["Excerpts", "choose_excerpts", "keyed_generator", "ratio_loss"]

_PIECES = 8

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Excerpts:
    """Half-open ranges ``[start, stop)`` inside documents, in order; all arrays have shape (E,).

    ``start`` and ``stop`` count from the beginning of document ``document``.
    """

    document: Ints
    start: Ints
    stop: Ints

    @property
    def lengths(self) -> Ints:
        return self.stop - self.start


def keyed_generator(*parts: str | int) -> np.random.Generator:
    """A generator whose stream is a function of ``parts``, the same on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def choose_excerpts(
    lengths: Ints, budget: int, name: str, *, least: int, divisible: bool = True
) -> Excerpts:
    """Choose what to score of a set.

    Args:
        lengths: Length of every document in the unit of the budget (tokens or bytes), shape (D,).
        budget: How many units to score, at least. The last excerpt may exceed it.
        name: The evaluation set; the key of the choice.
        least: Shortest excerpt of a document that is longer: shorter ones would be mostly start-up,
            where a model has little context.
        divisible: Whether part of a document may be scored. If not, whole documents are taken,
            at least two where there are two, since one alone has no standard error.

    Raises:
        CorpusError: If no document has any length.
    """
    usable = np.flatnonzero(lengths > 0).astype(np.int64)
    if usable.size == 0:
        raise CorpusError(
            f"evaluation set {name!r} holds no text to score: every held-out document is empty",
            domain=name,
        )
    sizes = lengths[usable].astype(np.int64)
    if int(sizes.sum()) <= budget:
        return _in_pieces(Excerpts(usable, np.zeros_like(sizes), sizes), least, divisible)
    generator = keyed_generator("excerpts", name)
    order = generator.permutation(usable.size)
    usable, sizes = usable[order], sizes[order]
    takes = np.minimum(sizes, max(least, _water_level(sizes, budget))) if divisible else sizes
    count = int(np.searchsorted(np.cumsum(takes), budget)) + 1
    count = min(max(count, 1 if divisible else 2), usable.size)
    usable, sizes, takes = usable[:count], sizes[:count], takes[:count]
    starts = generator.integers(0, sizes - takes + 1)
    by_document = np.argsort(usable)
    chosen = Excerpts(usable[by_document], starts[by_document], (starts + takes)[by_document])
    return _in_pieces(chosen, least, divisible)


def _in_pieces(chosen: Excerpts, least: int, divisible: bool) -> Excerpts:
    """Cut the only document into pieces of at least ``least``; leave several documents alone."""
    if chosen.document.size > 1 or not divisible:
        return chosen
    start, stop = int(chosen.start[0]), int(chosen.stop[0])
    count = max(1, min(_PIECES, (stop - start) // least))
    marks = np.linspace(start, stop, count + 1).astype(np.int64)
    return Excerpts(np.repeat(chosen.document, count), marks[:-1], marks[1:])


def _water_level(sizes: Ints, budget: int) -> int:
    """The smallest ``c`` with ``sum(min(sizes, c)) >= budget``, given ``sum(sizes) > budget``."""
    ordered = np.sort(sizes)
    before = np.concatenate(([0], np.cumsum(ordered)[:-1]))
    # Filled up to ordered[i], the first i documents give all they have and the others that much.
    filled = before + ordered * (ordered.size - np.arange(ordered.size))
    i = int(np.searchsorted(filled, budget))
    return int(-(-(budget - before[i]) // (ordered.size - i)))


def ratio_loss(nats: Floats, tokens: Ints, sizes: Ints) -> EvalLoss:
    """Add up a set's loss, with the standard error of the sum as a ratio estimate.

    Args:
        nats: Negative log likelihood per unit of sampling (document), shape (D,).
        tokens: Tokens scored in each, shape (D,).
        sizes: UTF-8 bytes of the text those tokens spell, shape (D,).

    Returns:
        The loss. A single unit has no spread to learn from, and its ``nats_se`` is 0.
    """
    total, total_bytes = float(nats.sum()), int(sizes.sum())
    residuals = nats - (total / total_bytes) * sizes
    count = nats.size
    variance = float(residuals @ residuals) * count / (count - 1) if count > 1 else 0.0
    return EvalLoss(nats=total, nats_se=variance**0.5, tokens=int(tokens.sum()), bytes=total_bytes)
