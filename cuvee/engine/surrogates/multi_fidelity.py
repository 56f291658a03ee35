"""``multi_fidelity_gp``: one Gaussian process per evaluation set over mixtures and rungs.

The model is that of ``rung_kernel``: what a rung measures is a common function of the mixture,
times a slope per set and rung, plus something of its own. A slope per set and rung is what lets a
cheap rung inform an expensive one: larger models flatten each loss by its own factor. A rung or an
earlier job that says nothing ends with a large part of its own, and its weight in every prediction
is near zero. Hyperparameters are the mode of their posterior.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Loo, Model, Runs, Surrogate
from cuvee.engine.surrogates.features import Features
from cuvee.engine.surrogates.marginal import cholesky, minimize, negative_log_likelihood
from cuvee.engine.surrogates.rung_covariance import RunCovariance
from cuvee.engine.surrogates.rung_kernel import Levels, RungKernel
from cuvee.engine.surrogates.sums import FEW
from cuvee.errors import EngineError

__all__ = ["MultiFidelityGp", "MultiFidelityModel", "fit_levels"]

_FIT_ROWS = 150
"""Rows that hyperparameters are fitted on; all rows are conditioned on afterwards."""

_SCOUT_ROWS = 80
"""Rows on which the summit is chosen: only which side is higher matters there."""

_EVALUATIONS = 25
_SCOUTS = 20
_AGAIN = 10  # evaluations from hyperparameters that were fitted to the same losses
_OWN = (-4.0, 1.0)  # starting points of log r
_FLAT = 1e-3  # of the deviation at other levels: below, a set counts as constant at the base
_JITTER = 1e-6
_TOGETHER = 26  # searches at a time: matrices of more wait for memory, and all for the slowest
_AT_ONCE = 2_000_000  # numbers of a kernel matrix held at once while predicting


@dataclass(frozen=True)
class MultiFidelityModel(Model):
    """The posterior given every run.

    Attributes:
        runs: What was fitted.
        levels: The levels of the runs.
        kernel: Covariance in standardised units, hyperparameters fitted.
        law: The law in the mean, fitted on the runs of the base level; None for a constant mean.
        centre: What was subtracted from the losses, bits per byte, shape ``(E,)``.
        unit: What they were divided by, bits per byte, shape ``(E,)``.
        inputs: Shares, law and level of the runs, shape ``(K, m + 2)`` or ``(E, K, m + 2)``.
        factor: Lower Cholesky factors of the runs' covariance, shape ``(E, K, K)``.
        weights: That covariance's inverse times the standardised losses, shape ``(E, K)``.
    """

    runs: Runs
    levels: Levels
    kernel: RungKernel
    law: Model | None
    centre: Array
    unit: Array
    inputs: torch.Tensor
    factor: torch.Tensor
    weights: torch.Tensor

    def mean(self, p: Array, rung: int) -> Array:
        pieces = [self._weighed(self._cross(part)) for part in self._parts(p, rung)]
        return self._losses(pieces)

    def var(self, p: Array, rung: int) -> Array:
        pieces = [self._left(part, self._cross(part)) for part in self._parts(p, rung)]
        return self._variances(pieces)

    def moments(self, p: Array, rung: int) -> tuple[Array, Array]:
        means, variances = [], []
        for part in self._parts(p, rung):
            cross = self._cross(part)
            means.append(self._weighed(cross))
            variances.append(self._left(part, cross))
        return self._losses(means), self._variances(variances)

    def _weighed(self, cross: torch.Tensor) -> torch.Tensor:
        return cross @ self.weights[..., None]

    def _losses(self, pieces: list[torch.Tensor]) -> Array:
        return np.asarray(self.centre + self.unit * torch.cat(pieces, dim=1)[..., 0].T.numpy())

    def _left(self, part: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        """Variance that the runs leave."""
        half = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False)
        return torch.as_tensor(self.kernel.forward(part, part, diag=True) - (half**2).sum(1))

    def _variances(self, pieces: list[torch.Tensor]) -> Array:
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
        """The learned floor, plus the median known variance of the runs: suspects do not count."""
        learned = self.kernel.noise[:, rung].numpy() * self.unit**2
        here = self.levels.of_run == rung
        known = np.median(self.runs.variance[here], axis=0) if np.any(here) else 0.0
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
        mixtures = np.atleast_2d(p)
        law = None
        if self.law is not None:
            law = (self.law.mean(mixtures, 0) - self.centre) / self.unit
        return _inputs(mixtures, law, np.full(len(mixtures), rung))

    def _parts(self, p: Array, rung: int) -> tuple[torch.Tensor, ...]:
        room = _AT_ONCE if len(self.unit) <= FEW else _AT_ONCE // 5
        rows = max(1, room // (len(self.unit) * len(self.runs)))
        return torch.split(self._inputs(p, rung), rows, dim=-2)

    def _cross(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.kernel.forward(inputs, self.inputs))


class MultiFidelityGp(Surrogate):
    """The surrogate ``multi_fidelity_gp``; see the module.

    Args:
        law: A surrogate that gives the mean its shape: fitted on the lowest rung with runs, it
            enters as a basis function whose weight is integrated out. Its values at the runs are
            its leave-one-out predictions, so that the weight is what it deserves at new mixtures.
            A constant mean where there are fewer runs than it needs.
    """

    name = "multi_fidelity_gp"

    def __init__(self, law: Surrogate | None = None) -> None:
        self.law = law

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
        return fit_levels(runs, levels, self.law)

    def refit(self, model: Model, runs: Runs) -> MultiFidelityModel:
        """A few steps from the hyperparameters found, then conditioned on the new variances."""
        assert isinstance(model, MultiFidelityModel)
        y, known = _standardised(runs, model.centre, model.unit)
        kernel = RungKernel(model.kernel.features, model.levels, len(model.unit))
        some = _fitted_rows(runs, model.levels, y)
        start = model.kernel.theta.detach().clone()
        _climb(kernel, model.inputs[..., some, :], y[:, some], known[:, some], start, _AGAIN)
        kernel.requires_grad_(False)
        factor, weights = _conditioned(kernel, model.inputs, y, known)
        return replace(model, runs=runs, kernel=kernel, factor=factor, weights=weights)


def fit_levels(runs: Runs, levels: Levels, law: Surrogate | None = None) -> MultiFidelityModel:
    """Fit hyperparameters on some of the runs and condition on all.

    Raises:
        EngineError: If a loss or a share is not finite.
    """
    if not (np.all(np.isfinite(runs.y)) and np.all(np.isfinite(runs.x))):
        raise EngineError("a measured loss or a share is not finite")
    centre, unit = _standard(runs.y, levels)
    y, known = _standardised(runs, centre, unit)
    at_base = levels.of_run == levels.base
    shape = None
    if law is not None and np.count_nonzero(at_base) >= law.least_runs(runs.x.shape[1]):
        alone = runs.where(at_base)
        nothing = np.zeros(len(alone), dtype=np.intp)
        shape = law.fit(replace(alone, rungs=1, rung=nothing, task=nothing))
    values = None
    if shape is not None:
        values = (shape.mean(runs.x, 0) - centre) / unit
        values[at_base] = (shape.loo().mean - centre) / unit
    inputs = _inputs(runs.x, values, levels.of_run)
    kernel = RungKernel(Features.of(runs.x), levels, len(unit))
    start = _summit(kernel, inputs, y, known, _fitted_rows(runs, levels, y, _SCOUT_ROWS))
    some = _fitted_rows(runs, levels, y)
    _climb(kernel, inputs[..., some, :], y[:, some], known[:, some], start, _EVALUATIONS)
    kernel.requires_grad_(False)
    factor, weights = _conditioned(kernel, inputs, y, known)
    return MultiFidelityModel(runs, levels, kernel, shape, centre, unit, inputs, factor, weights)


def _standardised(runs: Runs, centre: Array, unit: Array) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and their known variances in the model's units, shapes ``(E, K)``."""
    y = torch.from_numpy(((runs.y - centre) / unit).T.copy())
    return y, torch.from_numpy((runs.variance / unit**2).T.copy())


def _fitted_rows(
    runs: Runs, levels: Levels, y: torch.Tensor, room: int = _FIT_ROWS
) -> torch.Tensor:
    return torch.from_numpy(_subset(runs, levels, np.asarray(y.numpy().mean(axis=0)), room))


def _conditioned(
    kernel: RungKernel, inputs: torch.Tensor, y: torch.Tensor, known: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cholesky factors of the runs' covariance, and its inverse times the losses."""
    with torch.no_grad():
        factor = cholesky(RunCovariance(kernel, inputs, known + _JITTER)())
        return factor, torch.cholesky_solve(y[..., None], factor)[..., 0]


def _inputs(p: Array, law: Array | None, level: npt.NDArray[np.intp]) -> torch.Tensor:
    """The kernel's inputs, ``(n, m + 2)``, or ``(E, n, m + 2)`` with a law's values ``(n, E)``."""
    shares, levels = torch.from_numpy(p), torch.from_numpy(level.astype(np.float64))[:, None]
    if law is None:
        return torch.cat([shares, torch.zeros_like(levels), levels], dim=1)
    values = torch.from_numpy(law.T.copy())[:, :, None]
    sets = len(values)
    every = shares.expand(sets, -1, -1), values, levels.expand(sets, -1, -1)
    return torch.cat(every, dim=2)


def _summit(
    kernel: RungKernel,
    inputs: torch.Tensor,
    y: torch.Tensor,
    known: torch.Tensor,
    rows: torch.Tensor,
) -> torch.Tensor:
    """Where the search for hyperparameters starts, by a short search on some of the runs."""
    sets = len(y)
    start = torch.as_tensor(kernel.theta.detach().clone())
    start[:, : kernel.domains] -= 1.0
    if len(kernel.levels) == 1:
        return start
    # The likelihood has two summits where rungs differ: "they share little", and "they share all
    # but noise". A search from each side settles which is the higher, set by set.
    twice = RungKernel(kernel.features, kernel.levels, 2 * sets)
    both = start.repeat(2, 1)
    for side, own in enumerate(_OWN):
        both[side * sets : (side + 1) * sets, -len(kernel.levels) :] = own
    some = inputs[..., rows, :]
    copies = some if some.dim() == 2 else some.repeat(2, 1, 1)
    value = _climb(
        twice, copies, y[:, rows].repeat(2, 1), known[:, rows].repeat(2, 1), both, _SCOUTS
    )
    better = value.reshape(2, sets).argmin(axis=0) * sets + np.arange(sets)
    return torch.as_tensor(twice.theta.detach()[torch.from_numpy(better)])


def _climb(
    kernel: RungKernel,
    inputs: torch.Tensor,
    y: torch.Tensor,
    known: torch.Tensor,
    start: torch.Tensor,
    evaluations: int,
) -> Array:
    """Move the kernel's ``theta`` from ``start`` uphill; minus the log posteriors, shape ``(E,)``.

    Sets know nothing of each other: where they are many, some at a time are moved.
    """
    values = []
    for first in range(0, len(y), _TOGETHER):
        some = slice(first, first + _TOGETHER)
        part = RungKernel(kernel.features, kernel.levels, len(y[some]))
        own = inputs if inputs.dim() == 2 else inputs[some]
        values.append(_climb_together(part, own, y[some], known[some], start[some], evaluations))
        kernel.theta.data[some] = part.theta.data
    return np.concatenate(values)


def _climb_together(
    kernel: RungKernel,
    inputs: torch.Tensor,
    y: torch.Tensor,
    known: torch.Tensor,
    start: torch.Tensor,
    evaluations: int,
) -> Array:
    """``_climb`` for all sets of a kernel at once.

    The search is in the coordinates in which the prior is standard normal: what the runs do not
    tell has unit curvature there, and few steps suffice.
    """
    prior = kernel.theta_prior
    covariance = RunCovariance(kernel, inputs, known + _JITTER)
    root = torch.linalg.cholesky(prior.covariance_matrix)

    def value_and_gradient(z: Array) -> tuple[Array, Array]:
        kernel.theta.data = prior.loc + torch.from_numpy(z) @ root.mT
        loss = negative_log_likelihood(covariance(), y)
        (gradient,) = torch.autograd.grad(loss.sum(), kernel.theta)
        value = loss.detach().numpy() + 0.5 * np.sum(z * z, axis=1)
        return value, np.asarray((gradient @ root).numpy() + z)

    whitened = torch.linalg.solve_triangular(root, (start - prior.loc).mT, upper=False).mT
    best = minimize(value_and_gradient, whitened.numpy(), evaluations=evaluations)
    return value_and_gradient(best)[0]


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
    # A set that does not vary at the base level takes its unit from the levels where it does.
    within = np.zeros_like(unit)
    for level in np.unique(levels.of_run):
        within = np.maximum(within, y[levels.of_run == level].std(axis=0))
    unit = np.where(unit < _FLAT * within, within, unit)
    return centre, np.maximum(unit, 1e-6 * np.maximum(np.abs(centre), 1.0))


def _subset(runs: Runs, levels: Levels, level_of_loss: Array, room: int) -> npt.NDArray[np.intp]:
    """``room`` rows that hyperparameters are fitted on, ascending; all where they fit.

    Every level keeps its share of the room, least-measured levels first, so that few target runs
    are all kept. Within a level, repeated mixtures come first, for they tell the noise, and then
    rows at even steps of the mean loss; neither depends on the order or names of anything.
    """
    if len(runs) <= room:
        return np.arange(len(runs))
    _, group, size = np.unique(runs.x, axis=0, return_inverse=True, return_counts=True)
    repeated = size[group.reshape(-1)] > 1
    present, counts = np.unique(levels.of_run, return_counts=True)
    chosen: list[npt.NDArray[np.intp]] = []
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
