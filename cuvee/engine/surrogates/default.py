"""The default surrogate: every candidate fitted, stacked per evaluation set by what it foresaw.

Stacking of predictive distributions (Yao, Vehtari, Simpson & Gelman 2018, Bayesian Analysis 13)
with weights that depend on the place::

    w_k(p) proportional to v_k / var_k(p)

``var_k(p)`` is the variance that candidate ``k`` claims for a measurement at ``p``. ``v >= 0``, sum
one, maximises the log of the mixed leave-one-out predictive densities of the runs that matter, with
a Dirichlet prior so that few runs do not decide everything. Dividing by the variance hands a place
where runs are few to whoever is surer there, and takes the word from a law where it runs away; a
candidate that is wrongly sure pays in its ``v``. The candidates' leave-one-out predictions are
closed form or already there, so choosing costs no refit.

The runs that matter are the target's; while the target has fewer than ``LEAST`` runs, those of the
highest rung that has so many. A Gaussian process leads the candidates and screens outlying losses
(``screening.py``) for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Loo, Model, Runs, Surrogate
from cuvee.engine.surrogates.log_linear import LogLinear
from cuvee.engine.surrogates.multi_fidelity import MultiFidelityGp
from cuvee.engine.surrogates.power import Power
from cuvee.engine.surrogates.rungs import check, log_density
from cuvee.engine.surrogates.screening import Screened, screen
from cuvee.engine.surrogates.warped import Warped
from cuvee.errors import EngineError

__all__ = ["LEAST", "Chosen", "Default", "scored_rung", "stack"]

LEAST = 8
"""Runs of a rung below which leave-one-out scores there say little."""

_PRIOR = 8.0
"""Pseudo-runs of the Dirichlet prior. On splits of RegMix's training runs 8 and 24 score the same;
on small jobs that obey a law, a strong prior would take long to see it."""

_LEAD = 0.8
"""Prior share of the process. With equal shares its rank correlation of the mean of 13 losses from
24 runs falls from 0.952 to 0.942 (eight splits); from 64 runs the prior makes no difference."""

_KNEE = {"log_linear": 2.0}
"""Runs, over the least, before a candidate enters beside a process: with fewer, the log-linear law
follows its runs through all its parameters and knows nothing of it (0.952 would fall to 0.939)."""

_SWEEPS = 100

_KEPT = 6
"""Sets of mixtures whose predictions are kept: a decision asks of the same few again and again."""

_ROUNDS, _MANY = 3, 100
"""Rounds of screening; with more runs than ``_MANY`` one: each is a fit of the process and takes
seconds, and one wrong run among hundreds bends little."""


def scored_rung(runs: Runs) -> int:
    """The rung whose runs judge: the highest with ``LEAST`` runs, else the one with most."""
    counts = np.bincount(runs.rung[runs.task == 0], minlength=runs.rungs)
    enough = np.flatnonzero(counts >= LEAST)
    return int(enough[-1]) if len(enough) else int(np.argmax(counts))


def stack(density: Array, precision: Array, prior: Array) -> Array:
    """Stacking weights ``v`` of ``C`` candidates for each of ``E`` sets, shape ``(C, E)``.

    Minorise-maximise on the log score: deterministic, and every step stays on the simplex.

    Args:
        density: Log densities of the runs under the candidates, shape ``(C, K, E)``.
        precision: One over the variances claimed for them, shape ``(C, K, E)``.
        prior: Pseudo-runs that speak for each candidate, shape ``(C,)``.
    """
    relative = np.exp(np.maximum(density - density.max(axis=0), -700.0))
    tilt = precision / precision.max(axis=0)
    weights = np.repeat((prior / prior.sum())[:, None], density.shape[2], axis=1)
    for _ in range(_SWEEPS):
        local = weights[:, None, :] * tilt
        blame = local * relative
        blame /= blame.sum(axis=0)
        # Without the tilt the denominator is the number of runs: plain expectation-maximisation.
        weights = (blame.sum(axis=1) + prior[:, None]) / (
            np.sum(tilt / local.sum(axis=0), axis=1) + prior.sum()
        )
        weights /= weights.sum(axis=0)
    return np.asarray(weights)


@dataclass(frozen=True)
class _Local:
    """What the candidates say at some mixtures: ``means`` and local ``weights``, ``(C, n, E)``."""

    weights: Array
    means: Array
    mean: Array
    var: Array


def _mix(shares: Array, means: Array, claimed: Array, variances: Array) -> _Local:
    """Mix by ``shares (C, E)`` and the variances ``claimed`` for a measurement."""
    weights = shares[:, None, :] * (claimed.min(axis=0) / claimed)
    weights /= weights.sum(axis=0)
    mean = np.sum(weights * means, axis=0)
    var = np.sum(weights * (variances + (means - mean) ** 2), axis=0)
    return _Local(weights, means, mean, var)


@dataclass(frozen=True)
class Chosen(Model):
    """Candidates mixed per evaluation set.

    Attributes:
        runs: The runs fitted; a loss that was screened out has a large variance.
        models: The candidates by name, those that could be fitted.
        shares: ``v``, shape ``(C, E)``, in the order of ``models``.
        scores: Mean leave-one-out log density by candidate, one mapping per evaluation set.
        weights: Mean of ``w_k`` over the runs that matter, one mapping per evaluation set.
        suspect: Which losses were screened out, shape ``(K, E)``.
        named: Runs with a loss so far off that a person should look at them, shape ``(K,)``.
    """

    runs: Runs
    models: dict[str, Model]
    shares: Array
    scores: tuple[dict[str, float], ...]
    weights: tuple[dict[str, float], ...]
    suspect: npt.NDArray[np.bool_]
    named: npt.NDArray[np.bool_]
    _last: dict[tuple[int, bytes], _Local] = field(default_factory=dict, repr=False, compare=False)

    def _local(self, p: Array, rung: int) -> _Local:
        """Mean and variance are mostly asked for at the same mixtures: the last are kept."""
        key = (rung, p.tobytes())
        found = self._last.get(key)
        if found is None:
            models = self.models.values()
            both = [model.moments(p, rung) for model in models]
            means, variances = (np.array(one) for one in zip(*both, strict=True))
            noises = np.array([model.noise(rung) for model in models])
            found = _mix(self.shares, means, variances + noises[:, None, :], variances)
            for old in list(self._last)[: max(len(self._last) - _KEPT + 1, 0)]:
                self._last.pop(old, None)
            self._last[key] = found
        return found

    def mean(self, p: Array, rung: int) -> Array:
        return self._local(p, rung).mean

    def var(self, p: Array, rung: int) -> Array:
        return self._local(p, rung).var

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        """Covariance within the candidates and between them: where they differ, nobody knows."""
        one, two = self._local(p, rung), self._local(q, other)
        found = np.zeros((self.shares.shape[1], len(p), len(q)))
        for k, model in enumerate(self.models.values()):
            left, right = np.sqrt(one.weights[k].T), np.sqrt(two.weights[k].T)
            between = (one.means[k] - one.mean).T[:, :, None] * (two.means[k] - two.mean).T[:, None]
            within = model.cov(p, rung, q, other)
            found += left[:, :, None] * (within + between) * right[:, None]
        return found

    def loo(self) -> Loo:
        left = [model.loo() for model in self.models.values()]
        variances = np.array([one.var for one in left])
        mixed = _mix(self.shares, np.array([one.mean for one in left]), variances, variances)
        return Loo(mixed.mean, mixed.var)

    def noise(self, rung: int) -> Array:
        noises = np.array([model.noise(rung) for model in self.models.values()])
        return np.asarray(np.sum(self.shares * noises, axis=0))


class Default(Surrogate):
    """Candidates stacked per evaluation set.

    Args:
        processes: Of these the first that can be fitted is a candidate, and screens the runs.
        laws: Candidates where they can be fitted.
    """

    name = "default"

    def __init__(
        self,
        processes: Sequence[Surrogate] | None = None,
        laws: Sequence[Surrogate] | None = None,
    ) -> None:
        gp = MultiFidelityGp()
        self.processes = (Warped(gp), gp) if processes is None else tuple(processes)
        self.laws = (Power(), LogLinear()) if laws is None else tuple(laws)

    def least_runs(self, domains: int) -> int:
        return min(one.least_runs(domains) for one in (*self.processes, *self.laws))

    def fit(self, runs: Runs) -> Chosen:
        check(runs)
        models: dict[str, Model] = {}
        refused = []
        suspect = np.zeros(runs.y.shape, dtype=bool)
        named = np.zeros(len(runs), dtype=bool)
        for process in self.processes:
            try:
                models[process.name], screened = self._screened(process, runs)
            except (EngineError, np.linalg.LinAlgError) as error:
                refused.append(f"{process.name}: {error}")
                continue
            runs, suspect, named = screened.runs, screened.suspect, screened.rows
            break
        most = int(np.bincount(runs.rung[runs.task == 0], minlength=1).max())
        for law in self.laws:
            if models and most < _KNEE.get(law.name, 0.0) * law.least_runs(runs.x.shape[1]):
                continue
            try:
                models[law.name] = law.fit(runs)
            except (EngineError, np.linalg.LinAlgError) as error:
                refused.append(f"{law.name}: {error}")
        if not models:
            raise EngineError("no surrogate can be fitted: " + "; ".join(refused))
        rows = (runs.rung == scored_rung(runs)) & (runs.task == 0)
        left = [model.loo() for model in models.values()]
        density = np.array([log_density(runs.y, one)[rows] for one in left])
        variances = np.array([one.var[rows] for one in left])
        shares = stack(density, 1 / variances, _prior(models, self.processes))
        means = np.array([one.mean[rows] for one in left])
        local = _mix(shares, means, variances, variances).weights.mean(axis=1)
        scores = density.mean(axis=1)
        return Chosen(
            runs, models, shares, _by_name(models, scores), _by_name(models, local), suspect, named
        )

    @staticmethod
    def _screened(process: Surrogate, runs: Runs) -> tuple[Model, Screened]:
        """A process fitted to what fits with each other, and what does not.

        The screener looks at losses as they are: a floor that is put below an outlier that is too
        low hides it. With many runs one fit does for both, and one wrong run moves no floor far.
        """
        if len(runs) > _MANY or not isinstance(process, Warped):
            screened = screen(process, runs, rounds=1 if len(runs) > _MANY else _ROUNDS)
            return screened.model, screened
        screened = screen(process.inner, runs, rounds=_ROUNDS)
        return process.fit(screened.runs), screened


def _prior(models: dict[str, Model], processes: Sequence[Surrogate]) -> Array:
    """Pseudo-runs for each candidate: ``_LEAD`` of them for the process, the rest shared."""
    leads = np.array([name in {one.name for one in processes} for name in models])
    if np.all(leads) or not np.any(leads):
        return np.full(len(models), _PRIOR / len(models))
    return np.asarray(_PRIOR * np.where(leads, _LEAD, (1 - _LEAD) / np.sum(~leads)))


def _by_name(models: dict[str, Model], values: Array) -> tuple[dict[str, float], ...]:
    return tuple(dict(zip(models, column.tolist(), strict=True)) for column in values.T)
