"""ADMIRE-BayesOpt: multi-fidelity Bayesian optimisation of the objective, information per cost.

After Chen et al. 2025 (arXiv 2508.11551): BoTorch's ``SingleTaskMultiFidelityGP`` (a
linear-truncated kernel over a Matern-5/2) on raw shares and one fidelity column, the cost relative
to the target; one output, the objective itself; and max-value entropy search per unit of cost over
mixtures and rungs (Takeno et al. 2020, arXiv 1901.08275, eq. 8), ours in its closed form,

    MES(p, r) = -1/2 mean_f* log(1 - rho^2 q (gamma + q)),   gamma = (mu(p) - f*) / sd(p),

with ``q = phi(gamma) / Phi(gamma)``, ``rho`` the correlation of the run with the target's
objective at ``p``, and ``f*`` the least objective of joint draws over candidates at the target. The
paper draws one ``f*`` over observed points; ours are sixteen over the feasible candidates. The
answer is the mixture with the best posterior mean at the target, measured or not, as there.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from botorch.exceptions.warnings import BotorchWarning
from botorch.models import SingleTaskGP
from botorch.models.gp_regression_fidelity import SingleTaskMultiFidelityGP
from botorch.posteriors.gpytorch import GPyTorchPosterior
from linear_operator.utils.warnings import NumericalWarning
from scipy.special import log_ndtr

from cuvee.engine.acquisition.cloud import apart, cloud
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, best_verified, drawn, fill, unseen
from cuvee.engine.strategies.single_fidelity_bo import FITS, fit
from cuvee.engine.surrogates.base import Runs, Surrogate
from cuvee.engine.surrogates.memo import digest
from cuvee.engine.surrogates.registry import SURROGATES
from cuvee.records import Explanation

if TYPE_CHECKING:
    from cuvee.engine.surrogates.fitted import Fits

__all__ = ["Admire", "entropy_gain"]

_START = 8  # runs of the lowest rung before the first fit
_START_BETWEEN = 2  # and of each rung between it and the target
_BELOW = 64  # candidates at each rung below the target
_CLOUD = 160
_OPTIMA = 16
_EVERY = 512  # rows that a fit may have: the newest kind of run is always kept


class Admire(Strategy):
    """See the module."""

    name = "admire"

    def surrogate(self, table: Table) -> Surrogate:
        return SURROGATES["default"]

    def next_point(self, table: Table, fits: Fits, rng: np.random.Generator) -> Point | None:
        if table.left(table.target) == 0:
            return None
        for rung in range(table.target):
            start = _START if rung == 0 else _START_BETWEEN
            if table.issued(rung) < start and table.left(rung) > 0:
                return drawn(
                    table,
                    rung,
                    rng,
                    lambda: table.region.sample(rng, 16),
                    "drawn at random, to start with",
                )
        model = _model(table)
        points = np.zeros((0, 0)) if model is None else _points(table, rng)
        if model is None or len(points) == 0:
            return fill(table, table.target, rng)
        found: list[tuple[float, int, Array, float]] = []
        lowest = _draws(model, table, points, rng)
        for rung in range(table.target + 1):
            rows = points if rung == table.target else _some(table, points, rung, rng)
            if table.left(rung) == 0 or len(rows) == 0:
                continue
            mean, sd, rho = _moments(model, table, rows, rung)
            value = entropy_gain(mean, sd, rho, lowest) / table.cost[rung]
            top = int(np.argmax(value))
            found.append((float(value[top]), rung, rows[top], float(rho[top])))
        value_per_cost, rung, p, rho_there = max(found, key=lambda one: one[0])
        names = {r: f"{table.problem.rungs[r].kind} (rung {r})" for _, r, _, _ in found}
        why = Explanation(
            method="entropy",
            correlation=None if rung == table.target else rho_there,
            cost=float(table.cost[rung]),
            alternatives={names[r]: v for v, r, _, _ in found},
        )
        reason = "tells most of the least objective for its cost (max-value entropy)"
        return Point(p, rung, reason, acquisition=value_per_cost, explanation=why)

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        model = _model(table)
        if model is None:
            return unseen(table, rng)
        rows = _points(table, rng) if table.pool is None else table.pool[table.target]
        if len(rows) == 0:
            return unseen(table, rng)
        mean, _, _ = _moments(model, table, rows, table.target)
        return np.asarray(rows[np.argmin(mean)])


def _points(table: Table, rng: np.random.Generator) -> Array:
    """Candidates at the target, about the best measured mixture."""
    best = best_verified(table)
    about = table.region.project(table.shares.mean(axis=0) if best is None else best)
    return cloud(table, rng, about[None], _CLOUD)


def entropy_gain(mean: Array, sd: Array, rho: Array, lowest: Array) -> Array:
    """Mutual information of a run with the least objective, nats, shape ``(n,)``.

    Args:
        mean: Of the objective at the target, shape ``(n,)``.
        sd: Its standard deviation, shape ``(n,)``.
        rho: Correlation of the run with it, shape ``(n,)``.
        lowest: Draws of the least objective, shape ``(B,)``.
    """
    gamma = (mean - lowest[:, None]) / np.maximum(sd, 1e-12)
    gamma = np.clip(gamma, -30.0, 30.0)
    q = np.exp(-0.5 * gamma**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(gamma))
    left = 1.0 - rho**2 * np.clip(q * (gamma + q), 0.0, 1.0)
    return np.asarray(-0.5 * np.log(np.maximum(left, 1e-12)).mean(axis=0))


def _model(table: Table) -> SingleTaskGP | None:
    value = table.goal.value(table.losses)
    if len(value) < 2 or np.ptp(value) == 0:
        return None
    keep = np.sort(np.argsort(-table.rung, kind="stable")[:_EVERY])
    x = torch.from_numpy(
        np.concatenate([table.shares[keep], table.cost[table.rung[keep], None]], axis=1)
    )
    y = torch.from_numpy(-value[keep, None])

    def make() -> SingleTaskGP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BotorchWarning)
            return fit(SingleTaskMultiFidelityGP(x, y, data_fidelities=[x.shape[1] - 1]))

    return FITS.get(digest("admire", Runs.of(x.numpy(), y.numpy())), make)


def _at(table: Table, p: Array, rung: int) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([p, np.full((len(p), 1), table.cost[rung])], axis=1))


def _moments(model: SingleTaskGP, table: Table, p: Array, rung: int) -> tuple[Array, Array, Array]:
    """Mean and deviation of the target's objective, correlation of a run at ``rung`` with it."""
    pairs = torch.stack([_at(table, p, table.target), _at(table, p, rung)], dim=1)  # (n, 2, m + 1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        posterior = cast(GPyTorchPosterior, model.posterior(pairs))
        mean = -posterior.mean[:, 0, 0].numpy()
        cov = posterior.distribution.covariance_matrix.numpy()
        observed = model.posterior(pairs[:, 1:], observation_noise=True)
        noisy = observed.variance[:, 0, 0].numpy()
    sd = np.sqrt(np.maximum(cov[:, 0, 0], 0.0))
    rho = cov[:, 0, 1] / np.maximum(sd * np.sqrt(np.maximum(noisy, 1e-24)), 1e-24)
    return mean, sd, np.clip(rho, -1.0, 1.0)


def _draws(model: SingleTaskGP, table: Table, p: Array, rng: np.random.Generator) -> Array:
    """Least objectives over mixtures at the target, shape ``(B,)``."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        posterior = cast(GPyTorchPosterior, model.posterior(_at(table, p, table.target)))
        mean = -posterior.mean[:, 0].numpy()
        cov = posterior.distribution.covariance_matrix.numpy()
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = rng.standard_normal((_OPTIMA, len(p)))
    return np.asarray((mean + normal @ root.T).min(axis=1))


def _some(table: Table, points: Array, rung: int, rng: np.random.Generator) -> Array:
    rows = table.untaken(rung) if table.pool is not None else apart(table, points, rung)
    if len(rows) > _BELOW:
        rows = rows[np.sort(rng.choice(len(rows), _BELOW, replace=False))]
    return rows
