"""The objectives that are predicted and searched: mean of 13 losses, pile_cc, random weights."""

from __future__ import annotations

import numpy as np

from benchmarks.replay.tables import SETS
from cuvee.engine.space.simplex import Array

__all__ = ["OBJECTIVES", "weights_of"]

OBJECTIVES = ("mean", "pile_cc", "random")


def weights_of(objective: str, rng: np.random.RandomState) -> Array:
    """Weights over ``SETS``, sum one.

    ``random`` draws from ``rng``, a Dirichlet of ones; so draw whatever else the protocol takes
    from that generator first.
    """
    if objective == "mean":
        return np.full(len(SETS), 1 / len(SETS))
    if objective == "pile_cc":
        return np.asarray(np.eye(len(SETS))[SETS.index("pile_cc")])
    return np.asarray(rng.dirichlet(np.ones(len(SETS))))
