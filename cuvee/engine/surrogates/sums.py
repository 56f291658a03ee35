"""Sums over runs for every evaluation set, and how many sets are fitted together.

A corpus whose domains each have an evaluation set of their own has as many sets as domains, and a
system of equations for each: sums are matrix products, and sets go in groups that stay in cache.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from cuvee.engine.space.simplex import Array

__all__ = ["FEW", "groups", "hat", "squares"]

FEW = 13
"""Evaluation sets that are always fitted together, with every start and every step."""

_NUMBERS = 130_000
"""Numbers of one array that stay in a core's cache: passes over more wait for memory."""


def groups(sets: int, numbers: int) -> list[slice]:
    """Sets to fit together, when an array of one set has so many ``numbers``: one group if few."""
    count = 1 if sets <= FEW else min(sets, -(-sets * numbers // _NUMBERS))
    ends = [sets * i // count for i in range(count + 1)]
    return [slice(first, last) for first, last in pairwise(ends)]


def squares(weight: Array, x: Array) -> Array:
    """``sum_k w_k x_k x_k'`` of weights ``(..., K)`` and rows ``(K, m)``, shape ``(..., m, m)``."""
    return np.asarray((x.T * weight[..., None, :]) @ x)


def hat(x: Array, inverse: Array) -> Array:
    """``x_k' A x_k`` of rows ``(K, m)`` and matrices ``(..., m, m)``, shape ``(..., K)``."""
    return np.asarray(np.sum((x @ inverse) * x, axis=-1))
