"""``multi_fidelity_gp``: one Gaussian process per evaluation set over mixtures and rungs.

The loss of a set at level ``q`` (a rung of this job, or of an earlier one) is

    L_q(p) = m_q + a_q (g(p) + d_q(p)),     a = 1 and d = 0 at the lowest rung that was measured,

with ``g ~ GP(0, s k)`` common to all levels, ``d_q ~ GP(0, s r_q k')`` the level's own, ``k`` a
Matern-5/2 kernel of the square roots of the shares with a length per domain, ``k'`` the same with
all lengths times ``e^c``, and the intercepts ``m_q`` integrated out under a wide prior. A slope per
set and rung is what lets a cheap rung inform an expensive one: larger models flatten each loss by
its own factor. A rung or an earlier job that says nothing ends with ``r_q`` large, and its weight
in every prediction near zero: ``1 / sqrt((1 + r_q)(1 + r_target))`` is its correlation with the
target at one mixture.

Hyperparameters are the mode of their posterior under the normal priors of ``_prior``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gpytorch
import numpy as np
import numpy.typing as npt
import torch
from gpytorch.priors import MultivariateNormalPrior

from cuvee.engine.simplex import Array
from cuvee.engine.surrogates.base import Loo, Model, Runs, Surrogate
from cuvee.engine.surrogates.features import Features
from cuvee.engine.surrogates.marginal import cholesky, matern, minimize, negative_log_likelihood
from cuvee.errors import EngineError

__all__ = ["Levels", "MultiFidelityGp", "MultiFidelityModel", "RungKernel"]

_FIT_ROWS = 150
"""Rows that hyperparameters are fitted on; all rows are conditioned on afterwards."""

_EVALUATIONS = 40
_INTERCEPT = 100.0  # prior variance of an intercept, in units of the lowest rung's variance
_JITTER = 1e-6
_AT_ONCE = 2_000_000  # numbers of a kernel matrix held at once while predicting


@dataclass(frozen=True)
class Levels:
    """The levels of a fit: this job's rungs, cheapest first, then those of earlier jobs.

    Attributes:
        pairs: ``(task, rung)`` of each level; the first ``rungs`` are this job's.
        rungs: How many rungs this job has.
        base: The level whose slope is one and that has no discrepancy: this job's lowest rung
            with runs.
        of_run: Level of each run, shape ``(K,)``.
    """

    pairs: tuple[tuple[int, int], ...]
    rungs: int
    base: int
    of_run: npt.NDArray[np.intp]

    @classmethod
    def of(cls, runs: Runs) -> Levels:
        own = [(0, rung) for rung in range(runs.rungs)]
        every = list(zip(runs.task.tolist(), runs.rung.tolist(), strict=True))
        pairs = (*own, *sorted({pair for pair in every if pair[0] > 0}))
        index = {pair: q for q, pair in enumerate(pairs)}
        of_run = np.array([index[pair] for pair in every], dtype=np.intp)
        return cls(pairs, runs.rungs, int(of_run.min(initial=len(pairs))), of_run)

    def __len__(self) -> int:
        return len(self.pairs)


class RungKernel(gpytorch.kernels.Kernel):  # type: ignore[misc]
    """Covariance of the losses over mixtures and levels, intercepts included, one per set.

    Inputs are features with the level in the last column, shape ``(..., n, m + 1)``. All
    hyperparameters of a set are one row of ``theta``, logarithms throughout, in the order
    lengths ``(m)``, scale, change of length ``c``, noise per level, slope per level, relative
    discrepancy per level; slope and discrepancy of the base level are there but not used.
    """

    has_lengthscale = False

    def __init__(self, domains: int, levels: Levels, sets: int) -> None:
        super().__init__(batch_shape=torch.Size([sets]))
        self.domains = domains
        self.levels = levels
        prior = _prior(domains, levels)
        start = prior.loc.expand(sets, -1).clone()
        self.register_parameter("theta", torch.nn.Parameter(start))
        self.register_prior("theta_prior", prior, "theta")

    def _part(self, first: int) -> torch.Tensor:
        count = len(self.levels)
        return torch.as_tensor(self.theta[:, first : first + count])

    @property
    def scale(self) -> torch.Tensor:
        """Variance of ``g``, shape ``(E,)``."""
        return torch.as_tensor(self.theta[:, self.domains].exp())

    @property
    def slope(self) -> torch.Tensor:
        """Slopes ``a``, shape ``(E, levels)``."""
        return (self._part(self.domains + 2 + len(self.levels)) * self._free).exp()

    @property
    def discrepancy(self) -> torch.Tensor:
        """Relative variances ``r`` of the levels' own parts, shape ``(E, levels)``."""
        return self._part(self.domains + 2 + 2 * len(self.levels)).exp() * self._free

    @property
    def noise(self) -> torch.Tensor:
        """Variance of a run about its loss at each level, shape ``(E, levels)``."""
        relative = self._part(self.domains + 2).exp()
        return self.slope**2 * self.scale[:, None] * relative

    @property
    def _free(self) -> torch.Tensor:
        free = torch.ones(len(self.levels), dtype=self.theta.dtype)
        free[self.levels.base] = 0.0
        return free

    def forward(
        self, x1: torch.Tensor, x2: torch.Tensor, diag: bool = False, **_: Any
    ) -> torch.Tensor:
        left, right = x1[..., -1].long(), x2[..., -1].long()
        slope, scale, own = self.slope, self.scale, self.discrepancy
        sets = self.theta.shape[0]
        if left.dim() > 1:  # gpytorch hands in one copy per set: the levels are the same in all
            left, right = left.reshape(-1, left.shape[-1])[0], right.reshape(-1, right.shape[-1])[0]
        if diag:
            same = (left == right).to(self.theta.dtype)
            inverse = (-self.theta[:, None, : self.domains]).exp()
            gap = (x1[..., :-1] - x2[..., :-1]) * inverse
            squares = (gap * gap).sum(-1)
            narrow = (-2.0 * self.theta[:, self.domains + 1]).exp()[:, None]
            total = matern(squares) + same * own[:, left] * matern(squares * narrow)
            total = total * slope[:, left] * slope[:, right] * scale[:, None]
            return torch.as_tensor(total + _INTERCEPT * same)
        squares = self._squares(x1[..., :-1], x2[..., :-1])
        total = matern(squares)
        narrow = (-2.0 * self.theta[:, self.domains + 1]).exp()[:, None, None]
        for level in range(len(self.levels)):
            if level == self.levels.base:
                continue
            i = torch.nonzero(left == level)[:, 0]
            j = torch.nonzero(right == level)[:, 0]
            if len(i) and len(j):
                every = torch.arange(sets)[:, None, None]
                part = own[:, level, None, None] * matern(squares[:, i][:, :, j] * narrow)
                total = total.index_put((every, i[None, :, None], j), part, accumulate=True)
        same_level = (left[:, None] == right[None, :]).to(self.theta.dtype)
        outer = (scale[:, None] * slope[:, left])[:, :, None] * slope[:, right][:, None, :]
        return torch.as_tensor(total * outer + _INTERCEPT * same_level)

    def _squares(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        inverse = (-self.theta[:, None, : self.domains]).exp()
        a, b = x1 * inverse, x2 * inverse
        sizes = (a * a).sum(-1)[:, :, None] + (b * b).sum(-1)[:, None, :]
        return torch.as_tensor(sizes - 2.0 * (a @ b.mT))


def _prior(domains: int, levels: Levels) -> MultivariateNormalPrior:
    """The joint normal prior of one row of ``RungKernel.theta``.

    Lengths share an unknown mean, ``log l_j ~ N(mu, 0.7^2)``, ``mu ~ N(sqrt(2) + log(m) / 2, 3)``
    (its location after Hvarfner et al. 2024, arXiv 2402.02229), here integrated out: domains are
    alike until the runs say otherwise. Noise of the levels is tied in the same way.
    """
    count = len(levels)
    size = domains + 2 + 3 * count
    loc = torch.zeros(size, dtype=torch.float64)
    cov = torch.zeros(size, size, dtype=torch.float64)
    loc[:domains] = 2.0**0.5 + 0.5 * np.log(domains)
    cov[:domains, :domains] = 0.7**2 * torch.eye(domains) + 3.0
    cov[domains, domains] = 1.0
    loc[domains + 1], cov[domains + 1, domains + 1] = 0.5, 0.5**2
    noise = slice(domains + 2, domains + 2 + count)
    loc[noise] = -4.0
    cov[noise, noise] = 0.5**2 * torch.eye(count) + 1.0
    for level, (task, rung) in enumerate(levels.pairs):
        slope = domains + 2 + count + level
        own = slope + count
        loc[slope] = -0.7 if rung > levels.base else 0.0
        cov[slope, slope] = 0.7**2
        loc[own] = -3.0 if task == 0 else -2.0
        cov[own, own] = 1.5**2
    return MultivariateNormalPrior(loc, cov)


@dataclass(frozen=True)
class MultiFidelityModel(Model):
    """The posterior given every run.

    Attributes:
        runs: What was fitted.
        levels: The levels of the runs.
        kernel: Covariance in standardised units, hyperparameters fitted.
        features: From mixtures to the kernel's inputs.
        centre: What was subtracted from the losses, bits per byte, shape ``(E,)``.
        unit: What they were divided by, bits per byte, shape ``(E,)``.
        inputs: Features and levels of the runs, shape ``(K, m + 1)``.
        factor: Lower Cholesky factors of the runs' covariance, shape ``(E, K, K)``.
        weights: That covariance's inverse times the standardised losses, shape ``(E, K)``.
    """

    runs: Runs
    levels: Levels
    kernel: RungKernel
    features: Features
    centre: Array
    unit: Array
    inputs: torch.Tensor
    factor: torch.Tensor
    weights: torch.Tensor

    def mean(self, p: Array, rung: int) -> Array:
        pieces = [self._cross(part) @ self.weights[..., None] for part in self._parts(p, rung)]
        standard = torch.cat(pieces, dim=1)[..., 0].T.numpy()
        return np.asarray(self.centre + self.unit * standard)

    def var(self, p: Array, rung: int) -> Array:
        pieces = []
        for part in self._parts(p, rung):
            half = torch.linalg.solve_triangular(self.factor, self._cross(part).mT, upper=False)
            pieces.append(self.kernel.forward(part, part, diag=True) - (half**2).sum(1))
        standard = torch.cat(pieces, dim=1).clamp_min(0.0).T.numpy()
        return np.asarray(self.unit**2 * standard)

    def cov(self, p: Array, rung: int, q: Array, other: int) -> Array:
        left, right = self._inputs(p, rung), self._inputs(q, other)
        half = torch.linalg.solve_triangular(self.factor, self._cross(left).mT, upper=False)
        half_other = (
            half
            if left is right
            else torch.linalg.solve_triangular(self.factor, self._cross(right).mT, upper=False)
        )
        standard = self.kernel.forward(left, right) - half.mT @ half_other
        return np.asarray((self.unit**2)[:, None, None] * standard.numpy())

    def loo(self) -> Loo:
        """Closed form (Rasmussen and Williams 2006, eq. 5.10 to 5.12), hyperparameters kept."""
        inverse = torch.cholesky_inverse(self.factor)
        var = (1.0 / torch.diagonal(inverse, dim1=1, dim2=2)).T.numpy()
        shift = self.weights.T.numpy() * var
        return Loo(self.runs.y - self.unit * shift, self.unit**2 * var)

    def noise(self, rung: int) -> Array:
        """The learned floor, plus the mean known variance of the runs at the rung."""
        learned = self.kernel.noise[:, rung].numpy() * self.unit**2
        here = self.levels.of_run == rung
        known = self.runs.variance[here].mean(axis=0) if np.any(here) else 0.0
        return np.asarray(learned + known)

    @property
    def slopes(self) -> Array:
        """Slopes of the levels over the base level, shape ``(E, levels)``."""
        return np.asarray(self.kernel.slope.numpy())

    @property
    def correlations(self) -> Array:
        """Correlation of each level's loss with the target's at one mixture, ``(E, levels)``.

        The task kernel: what a run of an earlier job, or of a lower rung, tells about this job's
        target at the same mixture.
        """
        own = self.kernel.discrepancy.numpy()
        target = self.levels.rungs - 1
        coupled = 1.0 / np.sqrt((1.0 + own) * (1.0 + own[:, target : target + 1]))
        coupled[:, target] = 1.0
        return np.asarray(coupled)

    def _inputs(self, p: Array, rung: int) -> torch.Tensor:
        if not 0 <= rung < self.levels.rungs:
            raise EngineError(f"there is no rung {rung}, the job has {self.levels.rungs}")
        return _inputs(self.features(np.atleast_2d(p)), np.full(len(np.atleast_2d(p)), rung))

    def _parts(self, p: Array, rung: int) -> tuple[torch.Tensor, ...]:
        rows = max(1, _AT_ONCE // (len(self.unit) * len(self.runs)))
        return torch.split(self._inputs(p, rung), rows)

    def _cross(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.kernel.forward(inputs, self.inputs))


class MultiFidelityGp(Surrogate):
    """The surrogate ``multi_fidelity_gp``; see the module."""

    name = "multi_fidelity_gp"

    def least_runs(self, domains: int) -> int:
        return min(domains + 1, 8)

    def fit(self, runs: Runs) -> MultiFidelityModel:
        levels = Levels.of(runs)
        most = int(np.bincount(levels.of_run, minlength=1).max(initial=0))
        least = self.least_runs(runs.x.shape[1])
        if most < least:
            raise EngineError(
                f"a Gaussian process needs {least} runs at one rung, there are {most}"
            )
        return fit_levels(runs, levels)


def fit_levels(runs: Runs, levels: Levels) -> MultiFidelityModel:
    """Fit hyperparameters on some of the runs and condition on all.

    Raises:
        EngineError: If a loss or a share is not finite.
    """
    if not (np.all(np.isfinite(runs.y)) and np.all(np.isfinite(runs.x))):
        raise EngineError("a measured loss or a share is not finite")
    features = Features.of(runs.x)
    centre, unit = _standard(runs.y, levels)
    y = torch.from_numpy(((runs.y - centre) / unit).T.copy())
    known = torch.from_numpy((runs.variance / unit**2).T.copy())
    inputs = _inputs(features(runs.x), levels.of_run)
    kernel = RungKernel(runs.x.shape[1], levels, len(unit))
    some = torch.from_numpy(_subset(runs, levels, np.asarray(y.numpy().mean(axis=0))))
    _maximise(kernel, inputs[some], y[:, some], known[:, some])
    with torch.no_grad():
        factor = cholesky(_covariance(kernel, inputs, known))
        weights = torch.cholesky_solve(y[..., None], factor)[..., 0]
    return MultiFidelityModel(runs, levels, kernel, features, centre, unit, inputs, factor, weights)


def _inputs(features: Array, level: npt.NDArray[np.intp]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([features, level[:, None].astype(np.float64)], axis=1))


def _covariance(kernel: RungKernel, inputs: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Covariance of measurements: the losses', the noise of the level and the known variance."""
    levels = inputs[:, -1].long()
    diagonal = kernel.noise[:, levels] + known + _JITTER
    return torch.as_tensor(kernel.forward(inputs, inputs) + torch.diag_embed(diagonal))


def _maximise(
    kernel: RungKernel, inputs: torch.Tensor, y: torch.Tensor, known: torch.Tensor
) -> None:
    """Set the kernel's hyperparameters to the mode of their posterior."""
    prior = kernel.theta_prior

    def value_and_gradient(theta: Array) -> tuple[Array, Array]:
        kernel.theta.data = torch.from_numpy(theta)
        loss = negative_log_likelihood(_covariance(kernel, inputs, known), y)
        loss = loss - prior.log_prob(kernel.theta)
        (gradient,) = torch.autograd.grad(loss.sum(), kernel.theta)
        return loss.detach().numpy(), gradient.numpy()

    start = kernel.theta.detach().numpy().copy()
    start[:, : kernel.domains] -= 1.0
    best = minimize(value_and_gradient, start, evaluations=_EVALUATIONS)
    kernel.theta.data = torch.from_numpy(best)
    kernel.requires_grad_(False)


def _standard(y: Array, levels: Levels) -> tuple[Array, Array]:
    """Centre and unit of each set, from the base level, or from all where it has few runs."""
    at_base = y[levels.of_run == levels.base]
    if len(at_base) >= 8:
        centre, deviations = at_base.mean(axis=0), at_base - at_base.mean(axis=0)
    else:
        centre, deviations = y.mean(axis=0), y.copy()
        for level in np.unique(levels.of_run):
            here = levels.of_run == level
            deviations[here] -= y[here].mean(axis=0)
    unit = np.sqrt(np.mean(deviations**2, axis=0))
    return centre, np.maximum(unit, 1e-6 * np.maximum(np.abs(centre), 1.0))


def _subset(runs: Runs, levels: Levels, level_of_loss: Array) -> npt.NDArray[np.intp]:
    """Rows that hyperparameters are fitted on, ascending: all, unless there are too many.

    Every level keeps its share of the room, least-measured levels first, so that few target runs
    are all kept. Within a level, repeated mixtures come first, for they tell the noise, and then
    rows at even steps of the mean loss; neither depends on the order or names of anything.
    """
    if len(runs) <= _FIT_ROWS:
        return np.arange(len(runs))
    _, group, size = np.unique(runs.x, axis=0, return_inverse=True, return_counts=True)
    repeated = size[group.reshape(-1)] > 1
    present, counts = np.unique(levels.of_run, return_counts=True)
    chosen: list[npt.NDArray[np.intp]] = []
    room = _FIT_ROWS
    for done, k in enumerate(np.argsort(counts, kind="stable")):
        rows = np.flatnonzero(levels.of_run == present[k])
        quota = min(len(rows), room // (len(present) - done))
        rows = rows[np.argsort(level_of_loss[rows], kind="stable")]
        twice = _even(rows[repeated[rows]], quota // 3)
        rest = rows[~np.isin(rows, twice)]
        chosen += [twice, _even(rest, quota - len(twice))]
        room -= quota
    return np.sort(np.concatenate(chosen))


def _even(rows: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """``count`` of the rows at even steps, or all."""
    if count >= len(rows):
        return rows
    return rows[np.round(np.linspace(0, len(rows) - 1, count)).astype(np.intp)]
