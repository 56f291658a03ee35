"""Guardrails: evaluation sets that must not get worse than the baseline by more than stated.

The chance that a guardrail holds is that of a normal difference, ``L_e(p) - L_e(b)`` with ``b`` the
baseline: both losses come from the same posterior, so what is uncertain of both alike (the level of
the target, the slope of a set) cancels, and a baseline that was measured is known as well as it
was measured. Sets are independent given the model, so chances multiply (Gardner et al. 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from cuvee.engine.answer.contrast import set_gap
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import Belief

__all__ = ["Guards"]


@dataclass(frozen=True)
class Guards:
    """The guardrails of a job, as arrays over ``G`` of them.

    Attributes:
        baseline: The mixture compared with, shape ``(m,)``.
        sets: Indices of the evaluation sets, shape ``(G,)``.
        slack: Allowed increases, bits per byte, shape ``(G,)``.
        chance: Least chance of holding, shape ``(G,)``.
    """

    baseline: Array
    sets: npt.NDArray[np.intp]
    slack: Array
    chance: Array

    @classmethod
    def of(cls, table: Table) -> Guards:
        """Those of a table's job, in canonical order of evaluation sets."""
        places = {name: e for e, name in enumerate(table.eval_sets)}
        rows = sorted(
            (places[g.eval_set], g.max_increase, g.chance) for g in table.problem.spec.guardrails
        )
        return cls(
            table.vector(table.problem.baseline),
            np.array([row[0] for row in rows], dtype=np.intp),
            np.array([row[1] for row in rows], dtype=np.float64),
            np.array([row[2] for row in rows], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.sets)

    def increase(self, belief: Belief, p: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of ``L_e(p) - L_e(b)``, shapes ``(n, G)``, bits per byte."""
        mean, sd = set_gap(belief, p, self.baseline)
        return mean[:, self.sets], sd[:, self.sets]

    def chances(self, belief: Belief, p: Array) -> Array:
        """The chance that each guardrail holds at mixtures ``(n, m)``, shape ``(n, G)``."""
        mean, sd = self.increase(belief, p)
        room = self.slack - mean
        certain = np.where(room >= -1e-12, 1.0, 0.0)
        return np.asarray(np.where(sd > 1e-12, ndtr(room / np.maximum(sd, 1e-12)), certain))

    def all_hold(self, belief: Belief, p: Array) -> Array:
        """The chance that all hold, shape ``(n,)``; of two on one set the stricter counts."""
        if not len(self):
            return np.ones(len(p))
        chances = self.chances(belief, p)
        together = np.ones(len(p))
        for e in np.unique(self.sets):
            together = together * chances[:, self.sets == e].min(axis=1)
        return together

    def allowed(self, belief: Belief, p: Array) -> npt.NDArray[np.bool_]:
        """Where every guardrail holds with its chance, shape ``(n,)``."""
        if not len(self):
            return np.ones(len(p), dtype=bool)
        return np.asarray(np.all(self.chances(belief, p) >= self.chance, axis=1))
