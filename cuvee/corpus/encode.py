"""Documents through the tokenizer, in batches, while the next are being read."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy.typing as npt

from cuvee.corpus.tokenizer import TextTokenizer

__all__ = ["encode_keyed"]

_BATCH_CHARACTERS = 1_000_000
_BATCH_DOCUMENTS = 8192


def encode_keyed(
    tokenizer: TextTokenizer, keyed: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Encode texts, each with a key of the caller's, reading ahead by one batch.

    The tokenizer works outside Python's lock and on all cores, so reading, hashing and writing cost
    little on top. Two batches of about a million characters are in memory at once.
    """
    with ThreadPoolExecutor(max_workers=1) as encoder:
        waiting: tuple[list[int], Future[list[npt.NDArray[Any]]]] | None = None
        for places, texts in _batches(keyed):
            running = encoder.submit(tokenizer.encode, texts)
            if waiting is not None:
                yield from zip(waiting[0], waiting[1].result(), strict=True)
            waiting = (places, running)
        if waiting is not None:
            yield from zip(waiting[0], waiting[1].result(), strict=True)


def _batches(keyed: Iterator[tuple[int, str]]) -> Iterator[tuple[list[int], list[str]]]:
    places: list[int] = []
    texts: list[str] = []
    size = 0
    for place, text in keyed:
        places.append(place)
        texts.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS or len(texts) >= _BATCH_DOCUMENTS:
            yield places, texts
            places, texts, size = [], [], 0
    if texts:
        yield places, texts
