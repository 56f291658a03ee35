"""What the Gaussian processes see of a mixture: scaled square roots of its shares.

The square root maps the simplex to a sphere, on which Euclidean distance is Hellinger distance: a
share that goes from 0 to 0.01 moves a mixture as far as one that goes from 0.25 to 0.36. Losses
behave like that, and a share of zero is nothing special. Each feature is then scaled to the range
that the runs span, so that one prior for lengths fits narrow and wide regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuvee.engine.simplex import Array

__all__ = ["Features"]

_NARROW = 0.02
"""Ranges are taken no smaller: a share that was held fixed tells nothing about its scale."""


@dataclass(frozen=True)
class Features:
    """An affine map of square roots.

    Attributes:
        low: Least square root among the runs, shape ``(m,)``.
        span: Range of the square roots, shape ``(m,)``.
    """

    low: Array
    span: Array

    @classmethod
    def of(cls, x: Array) -> Features:
        """The map that takes the mixtures ``(K, m)`` into the unit cube."""
        roots = np.sqrt(np.maximum(x, 0.0))
        low = roots.min(axis=0)
        return cls(low, np.maximum(roots.max(axis=0) - low, _NARROW))

    def __call__(self, p: Array) -> Array:
        """Features of mixtures ``(n, m)``, shape ``(n, m)``."""
        return np.asarray((np.sqrt(np.maximum(p, 0.0)) - self.low) / self.span)
