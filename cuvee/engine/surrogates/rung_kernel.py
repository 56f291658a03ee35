"""The covariance of losses over mixtures, rungs and jobs, as a GPyTorch kernel.

The loss of a set at level ``q`` (a rung of this job, or of an earlier one) is

    L_q(p) = m_q + a_q (h(p) + g(p) + d_q(p)),   a = 1 and d = 0 at the lowest rung with runs,

with ``g ~ GP(0, s k)`` common to all levels, ``d_q ~ GP(0, s r_q k')`` the level's own, ``k`` a
Matern-3/2 kernel of powers of the shares with a length per domain, ``k'`` the same with all
lengths times ``e^c``, ``h`` a law with a weight of its own where one is given, and the intercepts
``m_q`` integrated out under a wide prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gpytorch
import numpy as np
import numpy.typing as npt
import torch
from gpytorch.priors import MultivariateNormalPrior

from cuvee.engine.surrogates.base import Runs
from cuvee.engine.surrogates.features import Features
from cuvee.engine.surrogates.marginal import matern

__all__ = ["INTERCEPT", "Levels", "RungKernel"]

INTERCEPT = 100.0
"""Prior variance of an intercept, in units of the lowest rung's variance."""

_GLOBAL = 4  # hyperparameters that neither belong to a domain nor to a level


@dataclass(frozen=True)
class Levels:
    """The levels of a fit: this job's rungs, cheapest first, then those of earlier jobs.

    Attributes:
        pairs: ``(task, rung)`` of each level; the first ``rungs`` are this job's.
        rungs: How many rungs this job has.
        base: The level whose slope is one and that has no discrepancy: this job's lowest rung
            with runs, or without any the first level that has some.
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

    @property
    def target(self) -> int:
        return self.rungs - 1

    def __len__(self) -> int:
        return len(self.pairs)


class RungKernel(gpytorch.kernels.Kernel):  # type: ignore[misc]
    """Prior covariance of the losses, intercepts included, for ``E`` sets at once.

    Inputs have shape ``(n, m + 2)`` or ``(E, n, m + 2)``: shares, the law's value (zero without
    one), and the level. All hyperparameters of a set are one row of ``theta``, as logarithms:
    lengths ``l`` per domain; scale ``s``; exponent of the shares; ``c`` (this one as it is);
    variance of the law's weight; relative noise per level; slope ``a`` per level; discrepancy
    ``r`` per level. What does not apply (slope and discrepancy of the base) is there but unused.
    Their joint normal prior is registered as ``theta_prior``.
    """

    has_lengthscale = False

    def __init__(self, features: Features, levels: Levels, sets: int) -> None:
        super().__init__(batch_shape=torch.Size([sets]))
        self.features = features
        self.levels = levels
        self.domains = len(features.low)
        prior = _prior(self.domains, levels)
        self.register_parameter("theta", torch.nn.Parameter(prior.loc.expand(sets, -1).clone()))
        self.register_prior("theta_prior", prior, "theta")
        free = torch.ones(len(levels), dtype=torch.float64)
        free[levels.base] = 0.0
        self.free = free

    @property
    def length(self) -> torch.Tensor:
        """Lengths ``l``, in units of a feature's range, shape ``(E, m)``."""
        return torch.as_tensor(self.theta[:, : self.domains].exp())

    @property
    def scale(self) -> torch.Tensor:
        """Variance ``s`` of ``g``, shape ``(E,)``."""
        return torch.as_tensor(self.theta[:, self.domains].exp())

    @property
    def exponent(self) -> torch.Tensor:
        """Exponents of the shares, shape ``(E,)``."""
        return torch.as_tensor(self.theta[:, self.domains + 1].exp())

    @property
    def wider(self) -> torch.Tensor:
        """Logarithm ``c`` of how much wider a level's own part is, shape ``(E,)``."""
        return torch.as_tensor(self.theta[:, self.domains + 2])

    @property
    def trust(self) -> torch.Tensor:
        """Variance of the law's weight, shape ``(E,)``."""
        return torch.as_tensor(self.theta[:, self.domains + 3].exp())

    @property
    def slope(self) -> torch.Tensor:
        """Slopes ``a``, shape ``(E, levels)``."""
        return (self._per_level(1) * self.free).exp()

    @property
    def discrepancy(self) -> torch.Tensor:
        """Variances ``r`` of the levels' own parts, relative to ``s``, shape ``(E, levels)``."""
        return self._per_level(2).exp() * self.free

    @property
    def noise(self) -> torch.Tensor:
        """Variance of a run about its loss at each level, shape ``(E, levels)``."""
        return self.slope**2 * self.scale[:, None] * self._per_level(0).exp()

    def _per_level(self, block: int) -> torch.Tensor:
        count = len(self.levels)
        first = self.domains + _GLOBAL + block * count
        return torch.as_tensor(self.theta[:, first : first + count])

    def forward(
        self, x1: torch.Tensor, x2: torch.Tensor, diag: bool = False, **_: Any
    ) -> torch.Tensor:
        """Covariances, shape ``(E, n, k)``, or ``(E, n)`` of matching rows with ``diag``."""
        slope, scale, own = self.slope, self.scale, self.discrepancy
        narrow = (-2.0 * self.wider).exp()
        left, right = _level(x1), _level(x2)
        a = self._scaled(x1)
        b = a if x2 is x1 else self._scaled(x2)
        law = self.trust[:, None] * x1[..., self.domains], x2[..., self.domains].expand(len(a), -1)
        if diag:
            squares = ((a - b) ** 2).sum(-1)
            same = (left == right).to(scale.dtype)
            total = matern(squares) + same * own[:, left] * matern(squares * narrow[:, None])
            total = scale[:, None] * total + law[0] * law[1]
            return slope[:, left] * slope[:, right] * total + INTERCEPT * same
        squares = (a**2).sum(-1)[:, :, None] + (b**2).sum(-1)[:, None, :] - 2.0 * a @ b.mT
        total = matern(squares)
        every = torch.arange(len(a))[:, None, None]
        for level in torch.unique(left).tolist():
            i, j = torch.nonzero(left == level)[:, 0], torch.nonzero(right == level)[:, 0]
            if level != self.levels.base and len(j):
                part = matern(squares[:, i][:, :, j] * narrow[:, None, None])
                part = own[:, level, None, None] * part
                total = total.index_put((every, i[None, :, None], j), part, accumulate=True)
        total = scale[:, None, None] * total + law[0][:, :, None] * law[1][:, None, :]
        outer = slope[:, left][:, :, None] * slope[:, right][:, None, :]
        same = (left[:, None] == right[None, :]).to(scale.dtype)
        return torch.as_tensor(total * outer + INTERCEPT * same)

    def _scaled(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x[..., : self.domains], self.exponent) / self.length[:, None, :]


def _level(x: torch.Tensor) -> torch.Tensor:
    """Levels of inputs, shape ``(n,)``: the same for every set."""
    return x[..., -1].reshape(-1, x.shape[-2])[0].long()


def _prior(domains: int, levels: Levels) -> MultivariateNormalPrior:
    """The joint normal prior of one row of ``RungKernel.theta``.

    Lengths share an unknown mean, ``log l_j ~ N(mu, 0.9^2)``, ``mu ~ N(sqrt(2) + log(m) / 2, 3)``
    (its location after Hvarfner et al. 2024, arXiv 2402.02229), here integrated out: domains are
    alike until the runs say otherwise. The noise of the levels is tied in the same way. The
    variance of a level's own part is left wide: from a rung that follows to one that says nothing.
    """
    count = len(levels)
    size = domains + _GLOBAL + 3 * count
    loc = torch.zeros(size, dtype=torch.float64)
    cov = torch.zeros(size, size, dtype=torch.float64)
    loc[:domains] = 2.0**0.5 + 0.5 * np.log(domains)
    cov[:domains, :domains] = 0.9**2 * torch.eye(domains) + 3.0
    scale, exponent, wider, law = range(domains, domains + _GLOBAL)
    cov[scale, scale] = 1.0
    loc[exponent], cov[exponent, exponent] = np.log(0.3), 0.5**2
    loc[wider], cov[wider, wider] = 0.5, 0.5**2
    cov[law, law] = 1.0
    noise = slice(domains + _GLOBAL, domains + _GLOBAL + count)
    loc[noise] = -3.0
    cov[noise, noise] = 0.7**2 * torch.eye(count) + 1.0
    for level, (task, rung) in enumerate(levels.pairs):
        slope = domains + _GLOBAL + count + level
        own = slope + count
        loc[slope] = -0.7 if rung > levels.pairs[levels.base][1] else 0.0
        cov[slope, slope] = 0.7**2
        loc[own] = -2.5 if task == 0 else -1.5
        cov[own, own] = 2.5**2
    return MultivariateNormalPrior(loc, cov)
