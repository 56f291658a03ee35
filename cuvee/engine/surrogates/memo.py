"""Remember what was computed from equal content: a model is asked for at every free worker."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from cuvee.engine.surrogates.base import Runs

__all__ = ["Memo", "digest"]

T = TypeVar("T")


class Memo(Generic[T]):
    """The last few values made, by the content that they are a function of. Thread-safe.

    A value made from equal content has equal bits, so forgetting or remembering one changes
    nothing but time.

    Args:
        size: Most values kept; the longest unused is dropped first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[bytes, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes, make: Callable[[], T]) -> T:
        """The value of a key, made now if it is not remembered."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = make()
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return value


def digest(name: str, runs: Runs) -> bytes:
    """A key for what is a function of a recipe's name and of runs."""
    held = hashlib.sha256(f"{name}/{runs.rungs}/{runs.x.shape}/{runs.y.shape}".encode())
    for part in (runs.x, runs.y, runs.rung, runs.variance, runs.task):
        held.update(np.ascontiguousarray(part).tobytes())
    return held.digest()
