"""Descending the loss of a merge through its shares.

The gradient is exact and cheap: one backward pass gives the gradient by the merged parameters, and
its inner product with a branch is the derivative by that branch's weight,
``dL/dw_u = <dL/dtheta, theta_u>``. On the simplex only differences count, so it is given centred,
with ``sum_i p_i g_i = 0``.

The search is exponentiated gradient descent (Kivinen and Warmuth 1997), which keeps shares positive
and multiplies where a gradient step would add. Constraints enter as a projection; a prior mixture,
as a KL term. The function itself knows nothing of models: anything that gives a value and a
gradient can be searched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cuvee.errors import SpecError
from cuvee.mixture import Mixture
from cuvee.proxy.evaluate import ScoredSet, token_nats
from cuvee.proxy.merge import MergedModel, MergeEvaluator

__all__ = [
    "Objective",
    "SearchResult",
    "exponentiated_gradient",
    "merge_gradient",
    "merge_objective",
    "search_merge",
]

Floats = npt.NDArray[np.float64]
Objective: TypeAlias = Callable[[Floats], tuple[float, Floats]]
"""Shares (D,) to the objective and its gradient, shape (D,), up to a constant."""

_GROWTH = 1.5
"""After a step that helped, the next is so much longer; after one that did not, half as long."""

_LOWEST_RATE = 1e-9


def merge_gradient(
    model: MergedModel,
    logits: Callable[[Tensor], Tensor],
    sets: Mapping[str, ScoredSet],
    set_weights: Mapping[str, float],
    weights: Floats,
    device: torch.device,
) -> tuple[float, Floats]:
    """The weighted loss of a merge and its gradient by the weights of members.

    Args:
        model: The merged model; its weights are set.
        logits: Token ids (B, T) to logits (B, T, V), through ``model.module``.
        sets: What is scored.
        set_weights: Weight of each set; one that is left out has none.
        weights: Of the members, summing to one, shape (M,).
        device: Where the token ids are put.

    Returns:
        ``sum_s set_weights[s] * bits_per_byte_s``, and its gradient, shape (M,), with
        ``weights @ gradient = 0``.

    Raises:
        SpecError: A set is unknown, or the weights do not sum to one.
    """
    if unknown := sorted(set(set_weights) - set(sets)):
        raise SpecError(f"unknown evaluation sets {unknown}: there are {sorted(sets)}")
    model.set_weights(weights.tolist())
    model.clear_gradient()
    value = 0.0
    with torch.enable_grad():
        for name, scored in sets.items():
            factor = set_weights.get(name, 0.0) / (math.log(2) * float(scored.sizes.sum()))
            if factor == 0:
                continue
            for _, nats in token_nats(logits, scored, device):
                loss = nats.double().sum() * factor
                loss.backward()  # type: ignore[no-untyped-call]
                value += float(loss.detach())
    products = model.member_products()
    model.clear_gradient()
    return value, products - weights @ products


def merge_objective(evaluator: MergeEvaluator, set_weights: Mapping[str, float]) -> Objective:
    """The weighted loss of merges, as a function of shares over ``evaluator.pool.names``.

    Args:
        evaluator: Its pool and sets.
        set_weights: Weight of each evaluation set; one that is left out has none.
    """
    pool = evaluator.pool

    def objective(shares: Floats) -> tuple[float, Floats]:
        weights = pool.weights(Mixture.from_shares(pool.names, shares.tolist()))
        value, gradient = merge_gradient(
            evaluator.model,
            evaluator.logits,
            evaluator.sets,
            set_weights,
            np.append(weights, 0.0),  # the seed is the last member
            evaluator.device,
        )
        by_shares = pool.shares_gradient(gradient[:-1])
        return value, by_shares - shares @ by_shares

    return objective


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The end of a search.

    Attributes:
        shares: The best point, shape (D,).
        value: The objective there, the KL term included.
        status: ``converged`` if a step no longer moves by ``tolerance``, else ``budget``.
        evaluations: Values and gradients asked for.
        path: Accepted points and their values, the start first; values never rise.
        gap: ``p @ g - min(g)`` at the end. For a convex objective without constraints the optimum
            is at most so much lower.
    """

    shares: Floats
    value: float
    status: Literal["converged", "budget"]
    evaluations: int
    path: tuple[tuple[Floats, float], ...]
    gap: float


def exponentiated_gradient(
    objective: Objective,
    start: Floats,
    *,
    project: Callable[[Floats], Floats] = lambda shares: shares,
    prior: Floats | None = None,
    kappa: float = 0.0,
    evaluations: int = 20,
    tolerance: float = 1e-3,
) -> SearchResult:
    """Minimise over the simplex: ``p <- project(p * exp(-rate * g) / Z)``.

    The first step changes no ratio of shares by more than ``e``; the rate then grows while steps
    help and halves when one does not, so the result is never worse than the start. A share of 0
    stays 0, unless the projection lifts it.

    Args:
        objective: Value and gradient.
        start: Where to begin, shape (D,); projected first.
        project: Nearest feasible shares to given ones, by whatever distance.
        prior: Shares to stay near, shape (D,), positive.
        kappa: Weight of ``KL(p || prior)``, in units of the objective.
        evaluations: Budget.
        tolerance: Ends the search when a step moves by less in total variation.

    Raises:
        SpecError: ``kappa`` without a prior, or a prior that is not positive.
    """
    if kappa > 0 and (prior is None or prior.min() <= 0):
        raise SpecError("kappa needs a prior with a positive share for every domain")

    def regularised(p: Floats) -> tuple[float, Floats]:
        value, gradient = objective(p)
        if prior is not None and kappa > 0:
            ratio = np.log(np.where(p > 0, p / prior, 1.0))
            value, gradient = value + kappa * float(p @ ratio), gradient + kappa * ratio
        return value, gradient - p @ gradient

    shares = project(np.asarray(start, dtype=np.float64))
    value, gradient = regularised(shares)
    path = [(shares, value)]
    used = 1
    steepest = float(np.abs(gradient).max())
    rate = 1 / steepest if steepest > 0 else 1.0
    status: Literal["converged", "budget"] = "budget"
    while True:
        # Relative to the smallest derivative: nothing overflows, and Z takes the constant out.
        scaled = shares * np.exp(-rate * (gradient - gradient.min()))
        trial = project(scaled / scaled.sum())
        if 0.5 * float(np.abs(trial - shares).sum()) < tolerance or rate < _LOWEST_RATE:
            status = "converged"
            break
        if used >= evaluations:
            break
        trial_value, trial_gradient = regularised(trial)
        used += 1
        if trial_value <= value:
            shares, value, gradient = trial, trial_value, trial_gradient
            path.append((shares, value))
            rate *= _GROWTH
        else:
            rate /= 2
    gap = float(shares @ gradient - gradient.min())
    return SearchResult(shares, value, status, used, tuple(path), gap)


def search_merge(
    evaluator: MergeEvaluator,
    set_weights: Mapping[str, float],
    start: Mixture,
    *,
    project: Callable[[Floats], Floats] = lambda shares: shares,
    prior: Mixture | None = None,
    kappa: float = 0.0,
    evaluations: int = 20,
    tolerance: float = 1e-3,
) -> tuple[Mixture, SearchResult]:
    """The mixture whose merge scores best. Arguments as of ``exponentiated_gradient``.

    Shares are in the order of ``evaluator.pool.names``, in ``project`` too.
    """
    names = evaluator.pool.names
    result = exponentiated_gradient(
        merge_objective(evaluator, set_weights),
        np.array(start.shares(names)),
        project=project,
        prior=None if prior is None else np.array(prior.shares(names)),
        kappa=kappa,
        evaluations=evaluations,
        tolerance=tolerance,
    )
    return Mixture.from_shares(names, result.shares.tolist()), result
