"""The objective as a function of losses: weighted mean, worst excess, or the parts of a front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuvee.engine.space.simplex import Array

__all__ = ["Goal"]


@dataclass(frozen=True)
class Goal:
    """What is minimised, over evaluation sets in canonical order; bits per byte.

    Attributes:
        w: Linear weights, sum one, shape ``(E,)``: the objective itself for a weighted mean, the
            mean of the parts for a front, equal over the sets that count for the worst excess.
        reference: Losses that the excess is over, infinite where a set does not count, shape
            ``(E,)``; None unless the objective is the worst excess.
        parts: Weights of each part, shape ``(Q, E)``; one row, ``w``, unless it is a front.
    """

    w: Array
    reference: Array | None = None
    parts: Array | None = None

    @property
    def linear(self) -> bool:
        """Whether ``value`` is the weighted mean, so that moments carry over in closed form."""
        return self.reference is None

    def value(self, losses: Array) -> Array:
        """The objective of losses ``(..., E)``, shape ``(...)``."""
        if self.reference is not None:
            return np.asarray(np.max(losses - self.reference, axis=-1))
        return np.asarray(losses @ self.w)

    def of_parts(self, losses: Array) -> Array:
        """The parts of the objective of losses ``(..., E)``, shape ``(..., Q)``."""
        if self.parts is None:
            return self.value(losses)[..., None]
        return np.asarray(losses @ self.parts.T)
