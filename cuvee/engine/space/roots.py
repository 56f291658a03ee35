"""Roots of sums of clipped shares, for many rows at once: what projections are made of."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Indices", "Move", "moved", "root"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Move = Literal["shift", "scale"]
"""Whether a projection adds to what it projects (Euclidean) or multiplies it (KL)."""

_PROBES = 1 << 18  # numbers held at once while a root is bracketed


def moved(y: Array, s: Array, move: Move) -> Array:
    """``y (n, ..., m)`` moved by ``s (n, ...)``."""
    return y + s[..., None] if move == "shift" else y * np.maximum(s, 0.0)[..., None]


def root(y: Array, low: Array, high: Array, move: Move, target: float) -> Array:
    """The ``s`` of each row with ``sum(clip(moved(y, s), low, high)) = target``, shape ``(n,)``.

    A target out of reach gives minus or plus infinity. The breakpoints around the root are found
    by evaluating the sum at as many breakpoints per row as memory allows, again and again.
    """
    both = np.concatenate([low, high], axis=1)
    twice = np.concatenate([y, y], axis=1)
    marks = np.sort(both - twice if move == "shift" else both / twice, axis=1)
    n, count = marks.shape
    rows = np.arange(n)[:, None]

    def totals(at: Indices) -> Array:
        s = moved(y[:, None, :], marks[rows, at], move)
        return np.asarray(np.clip(s, low[:, None, :], high[:, None, :]).sum(axis=2))

    probes = min(count, max(1, _PROBES // max(1, n * y.shape[1])))
    first = np.zeros(n, dtype=np.intp)  # every mark before it is below the target
    last = np.full(n, count)  # it, and every mark after it, is not
    spread = 2 * np.arange(probes) + 1
    while np.any(first < last):
        at = first[:, None] + (last - first)[:, None] * spread // (2 * probes)
        below = np.sum(totals(np.minimum(at, count - 1)) < target, axis=1)
        left = np.where(below > 0, at[rows[:, 0], below - 1] + 1, first)
        right = np.where(below < probes, at[rows[:, 0], np.minimum(below, probes - 1)], last)
        open_ = first < last
        first, last = np.where(open_, left, first), np.where(open_, right, last)
    pair = np.stack([np.maximum(first - 1, 0), np.minimum(first, count - 1)], axis=1)
    (left_total, right_total), (left_mark, right_mark) = totals(pair).T, marks[rows, pair].T
    rise = right_total - left_total
    part = np.where(rise > 0, (target - left_total) / np.where(rise > 0, rise, 1.0), 0.0)
    s = left_mark + np.clip(part, 0, 1) * (right_mark - left_mark)
    s = np.where((first == 0) & (left_total > target + 1e-12), -np.inf, s)
    return np.asarray(np.where((first == count) & (right_total < target - 1e-12), np.inf, s))
