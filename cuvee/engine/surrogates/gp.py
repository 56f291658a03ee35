"""``gp``: one exact Gaussian process per evaluation set and rung; rungs know nothing of each other.

The model of ``multi_fidelity`` with a single level: a constant integrated out, a Matern-3/2 kernel
of powers of the shares with a length per domain, and noise. Runs of earlier jobs are
left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Loo, Model, Runs, Surrogate
from cuvee.engine.surrogates.multi_fidelity import MultiFidelityModel, fit_levels
from cuvee.engine.surrogates.rung_kernel import Levels
from cuvee.errors import EngineError

__all__ = ["Gp", "GpModel"]


@dataclass(frozen=True)
class GpModel(Model):
    """A process per rung.

    Attributes:
        runs: What was fitted: this job's runs at the rungs that have a process.
        rungs: The process of each rung that has enough runs.
    """

    runs: Runs
    rungs: dict[int, MultiFidelityModel]

    def mean(self, p: Array, rung: int) -> Array:
        return self._at(rung).mean(p, 0)

    def var(self, p: Array, rung: int) -> Array:
        return self._at(rung).var(p, 0)

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        if rung != other:
            sets = self._at(rung).unit.size, self._at(other).unit.size
            return np.zeros((sets[0], len(p), len(q)))
        return self._at(rung).cov(p, 0, q, 0)

    def loo(self) -> Loo:
        mean, var = np.empty_like(self.runs.y), np.empty_like(self.runs.y)
        for rung, model in self.rungs.items():
            left_out = model.loo()
            here = self.runs.rung == rung
            mean[here], var[here] = left_out.mean, left_out.var
        return Loo(mean, var)

    def noise(self, rung: int) -> Array:
        return self._at(rung).noise(0)

    def _at(self, rung: int) -> MultiFidelityModel:
        if rung not in self.rungs:
            raise EngineError(f"rung {rung} has too few runs for a Gaussian process")
        return self.rungs[rung]


class Gp(Surrogate):
    """The surrogate ``gp``; see the module."""

    name = "gp"

    def least_runs(self, domains: int) -> int:
        return min(domains + 1, 8)

    def fit(self, runs: Runs) -> GpModel:
        least = self.least_runs(runs.x.shape[1])
        own = runs.where(runs.task == 0)
        counts = np.bincount(own.rung, minlength=own.rungs)
        if counts[own.target] < least:
            raise EngineError(
                f"a Gaussian process needs {least} runs at the target, there are "
                f"{counts[own.target]}"
            )
        own = own.where(counts[own.rung] >= least)
        models = {}
        for rung in np.unique(own.rung).tolist():
            alone = replace(own.at(rung), rungs=1, rung=np.zeros(counts[rung], dtype=np.intp))
            models[rung] = fit_levels(alone, Levels.of(alone))
        return GpModel(own, models)
