"""Which domain the n-th sequence comes from, exact in shares at every n.

The largest-remainder rule gives each domain the floor or the ceiling of its quota ``n * share``,
but applied afresh at every n it can take a sequence back. Here the remainder is carried: a domain's
k-th sequence becomes available when its quota passes k, is due before the quota would pass k + 1,
and among those available the one due first is drawn. On one queue with shares that sum to one this
meets every deadline (earliest deadline first; Baruah, Cohen, Plaxton and Varvel, "Proportionate
progress", 1996), so at *every* n each count is the floor or the ceiling of its quota.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["GRID", "Apportionment"]

GRID = 1_000_000_000
"""Shares are whole multiples of 1 / GRID here, so that all comparisons are exact."""

_MARK = 4096


class Apportionment:
    """The sequence of domain indices for whole-number weights that sum to ``GRID``.

    It is computed from the start as far as it is asked for, about two microseconds and bytes a
    position; equal due dates go to the lower index.

    Args:
        weights: Shape ``(m,)``, at least 0, summing to ``GRID``.
    """

    def __init__(self, weights: Sequence[int]) -> None:
        if sum(weights) != GRID or min(weights) < 0:
            raise ValueError(f"weights must be at least 0 and sum to {GRID}")
        self._weights = list(weights)
        self._counts = [0] * len(weights)
        self._labels = array("H")
        self._marks: list[list[int]] = []  # the counts at every _MARK-th position
        # Heaps of (first position at which it may be drawn, domain) and (its due date, domain).
        self._waiting: list[tuple[int, int]] = [(0, i) for i, w in enumerate(weights) if w > 0]
        self._ready: list[tuple[int, int]] = []

    def labels(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Domain indices of positions ``start`` to ``stop - 1``."""
        self._extend(stop)
        return np.array(self._labels[start:stop], dtype=np.int64)

    def counts(self, position: int) -> npt.NDArray[np.int64]:
        """Sequences of each domain among the first ``position``."""
        self._extend(position + 1)
        mark = position // _MARK
        since = np.bincount(self.labels(mark * _MARK, position), minlength=len(self._weights))
        return since + np.array(self._marks[mark], dtype=np.int64)

    def _extend(self, stop: int) -> None:
        for position in range(len(self._labels), stop):
            if position % _MARK == 0:
                self._marks.append(list(self._counts))
            while self._waiting and self._waiting[0][0] <= position:
                _, i = heapq.heappop(self._waiting)
                due = -(-(self._counts[i] + 1) * GRID // self._weights[i])
                heapq.heappush(self._ready, (due, i))
            _, i = heapq.heappop(self._ready)
            self._labels.append(i)
            self._counts[i] += 1
            heapq.heappush(self._waiting, (self._counts[i] * GRID // self._weights[i], i))
