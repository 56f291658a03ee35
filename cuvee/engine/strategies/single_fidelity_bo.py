"""Bayesian optimisation at the target alone, with BoTorch's own model and acquisition.

A Gaussian process of the objective on the square roots of the shares (``SingleTaskGP``, defaults),
fitted to target runs only, and log noisy expected improvement (``qLogNoisyExpectedImprovement``,
Ament et al. 2023, arXiv 2310.20708) over a cloud of candidates, with runs under way as pending.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.exceptions.warnings import BotorchWarning
from botorch.models import SingleTaskGP
from botorch.optim.fit import fit_gpytorch_mll_scipy
from botorch.sampling.normal import SobolQMCNormalSampler
from gpytorch.mlls import ExactMarginalLogLikelihood
from linear_operator.utils.errors import NotPSDError
from linear_operator.utils.warnings import NumericalWarning

from cuvee.engine.acquisition.cloud import cloud
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies.base import Point, Strategy, best_or_unseen, best_verified, fill
from cuvee.engine.surrogates.base import Runs, Surrogate
from cuvee.engine.surrogates.memo import Memo, digest
from cuvee.engine.surrogates.registry import SURROGATES
from cuvee.records import Explanation

if TYPE_CHECKING:
    from cuvee.engine.surrogates.fitted import Fits

__all__ = ["SingleFidelityBo", "fit"]

_FITS: Memo[SingleTaskGP] = Memo(8)

_START = 3  # runs before the first fit
_CLOUD = 384
_STEPS = 40  # of L-BFGS per fit
_SAMPLES = 64


class SingleFidelityBo(Strategy):
    """See the module."""

    name = "single_fidelity_bo"

    def surrogate(self, table: Table) -> Surrogate:
        return SURROGATES["gp"]

    def rungs(self, table: Table) -> tuple[int, ...]:
        return (table.target,)

    def next_point(self, table: Table, fits: Fits, rng: np.random.Generator) -> Point | None:
        if table.left(table.target) == 0:
            return None
        x, y = table.at(table.target)
        value = table.goal.value(y)
        if len(np.unique(np.round(x, 6), axis=0)) < _START or np.ptp(value) == 0:
            return fill(table, table.target, rng)
        best = best_verified(table)
        about = x[np.argmin(value)] if best is None else best
        points = cloud(table, rng, table.region.project(about)[None], _CLOUD)
        if len(points) == 0:
            return fill(table, table.target, rng)
        seed = int(rng.integers(2**31))
        waits = table.busy[table.waits & (table.busy_rung == table.target)]
        runs = Runs.of(x, value[:, None])
        key = digest(self.name, runs)
        model = _FITS.get(key, lambda: fit(SingleTaskGP(_inputs(x), _outputs(value))))
        with warnings.catch_warnings():
            _silence()
            acquisition = qLogNoisyExpectedImprovement(
                model,
                _inputs(x),
                sampler=SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=seed),
                X_pending=_inputs(waits) if len(waits) else None,
                prune_baseline=False,
            )
            with torch.no_grad():
                score = acquisition(_inputs(points)[:, None, :]).numpy()
        top = int(np.argmax(score))
        improvement = float(np.exp(score[top]))  # the model's outcomes are in bits per byte
        with torch.no_grad():
            posterior = model.posterior(_inputs(np.stack([points[top], about])))
            mean, var = (-posterior.mean[:, 0]).numpy(), posterior.variance[:, 0].numpy()
        why = Explanation(
            method=self.name,
            predicted_gain=float(mean[1] - mean[0]),
            expected_improvement=None if len(waits) else improvement,  # else theirs counts too
            uncertainty=float(np.sqrt(var[0])),
            cost=float(table.cost[table.target]),
        )
        reason = "greatest noisy expected improvement of a Gaussian process on target runs"
        return Point(points[top], table.target, reason, acquisition=improvement, explanation=why)

    def answer(self, table: Table, fits: Fits, rng: np.random.Generator) -> Array:
        return best_or_unseen(table, rng)


def fit(model: SingleTaskGP) -> SingleTaskGP:
    """Fit a BoTorch model's hyperparameters from its defaults, without restarts: no randomness.

    BoTorch restarts from random values where a step leaves the positive definite; here the defaults
    are kept then.
    """
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with warnings.catch_warnings():
        _silence()
        mll = ExactMarginalLogLikelihood(model.likelihood, model)
        try:
            fit_gpytorch_mll_scipy(mll, options={"maxiter": _STEPS, "ftol": 1e-6})
        except NotPSDError:
            model.load_state_dict(start)
    return model.eval()


def _silence() -> None:
    """Fits stop at an iteration limit and add jitter; neither is news."""
    for category in (BotorchWarning, NumericalWarning):
        warnings.simplefilter("ignore", category)


def _inputs(x: Array) -> torch.Tensor:
    return torch.from_numpy(np.sqrt(np.maximum(x, 0.0)))


def _outputs(value: Array) -> torch.Tensor:
    """Negated, for BoTorch maximises; standardised by the model."""
    return torch.from_numpy(-value[:, None].copy())
