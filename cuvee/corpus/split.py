"""Which side a document is on, which documents are sampled, and whether a split can be used."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from cuvee.corpus.keys import heldout_threshold
from cuvee.errors import CorpusError
from cuvee.spec import Holdout

__all__ = ["Sample", "Split", "check_split"]


class Split:
    """Which side of the split a document is on.

    Args:
        share: Share of documents held out.
        reserved: Sorted text keys that are never trained on; None holds out everything.
    """

    def __init__(self, share: float, reserved: npt.NDArray[np.uint64] | None) -> None:
        self._all = reserved is None
        self._threshold = heldout_threshold(share)
        self._reserved = reserved if reserved is not None and len(reserved) else None

    def held_out(self, text_key: int) -> bool:
        if self._all or text_key < self._threshold:
            return True
        if self._reserved is None:
            return False
        at = int(np.searchsorted(self._reserved, np.uint64(text_key)))
        return at < len(self._reserved) and int(self._reserved[at]) == text_key


class Sample:
    """The documents that come first in packed order, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._heap: list[tuple[int, bytes]] = []

    def add(self, place: int, data: bytes) -> None:
        if self._size >= self._limit and place > -self._heap[0][0]:
            return
        heapq.heappush(self._heap, (-place, data))
        self._size += len(data) + 1
        while self._size - len(self._heap[0][1]) - 1 >= self._limit:
            self._size -= len(heapq.heappop(self._heap)[1]) + 1

    def joined(self) -> bytes:
        """The sample in packed order, joined by newlines, cut to the limit."""
        return b"\n".join(data for _, data in sorted(self._heap, reverse=True))[: self._limit]


def check_split(
    domain: str,
    holdout: Holdout,
    trained: bool,
    documents: int,
    heldout_documents: int,
    heldout_bytes: int,
) -> None:
    """Refuse a domain that leaves too little to train on or to measure.

    Raises:
        CorpusError: No document, too little held-out text, or no training text.
    """
    total = documents + heldout_documents
    if total == 0:
        raise CorpusError(
            f"domain {domain!r} is empty: its files hold no document with text. Check its "
            "paths, or remove the domain",
            domain=domain,
        )
    if heldout_bytes < holdout.min_bytes:
        remedy = (
            f"Raise holdout.share (now {holdout.share:g}), lower holdout.min_bytes, or add "
            "documents"
            if trained
            else "Lower holdout.min_bytes, or add documents"
        )
        raise CorpusError(
            f"domain {domain!r} has too little held-out text: {heldout_bytes:,} bytes in "
            f"{heldout_documents:,} of {total:,} documents, and holdout.min_bytes asks for "
            f"{holdout.min_bytes:,}. {remedy}",
            domain=domain,
            heldout_bytes=heldout_bytes,
        )
    if trained and documents == 0:
        raise CorpusError(
            f"domain {domain!r} has no training text: all {total:,} of its documents are held out. "
            "Add documents (the split goes by document, so a single one cannot be divided)",
            domain=domain,
        )
