"""Marginal likelihoods of many Gaussian processes at once, and their maximisation.

One process per evaluation set; all have the same rows and hyperparameters of their own. Matrices
are stacked along a leading axis of size ``E``, so that a likelihood with its gradient is one
batched Cholesky factor and one batched inverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cuvee.engine.space.simplex import Array

__all__ = ["cholesky", "matern", "minimize", "negative_log_likelihood"]

_MEMORY = 8
"""Pairs that the quasi-Newton steps remember."""


class _Matern(torch.autograd.Function):
    """Matern-3/2 of squared distances: its slope by them is finite at zero, autograd's is not."""

    @staticmethod
    def forward(ctx: Any, squares: torch.Tensor) -> torch.Tensor:
        scaled = torch.sqrt((3.0 * squares).clamp_min(0.0))
        decay = torch.exp(-scaled)
        ctx.save_for_backward(decay)
        return (1.0 + scaled) * decay

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (decay,) = ctx.saved_tensors
        return torch.as_tensor(-1.5 * gradient * decay)


def matern(squares: torch.Tensor) -> torch.Tensor:
    """Matern-3/2 correlations ``(1 + s) e^-s`` of squared scaled distances, ``s^2 = 3 squares``."""
    return torch.as_tensor(_Matern.apply(squares))  # type: ignore[no-untyped-call]


class _Likelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, covariance: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        factor = cholesky(covariance)
        weights = torch.cholesky_solve(y[..., None], factor)
        ctx.save_for_backward(factor, weights)
        logs = torch.log(torch.diagonal(factor, dim1=-2, dim2=-1)).sum(-1)
        fit = 0.5 * (y * weights[..., 0]).sum(-1)
        return torch.as_tensor(fit + logs + 0.5 * y.shape[-1] * np.log(2 * np.pi))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        factor, weights = ctx.saved_tensors
        outer = torch.cholesky_inverse(factor).baddbmm_(weights, weights.mT, alpha=-1.0)
        return outer.mul_(0.5 * gradient[..., None, None]), None


def negative_log_likelihood(covariance: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``-log N(y; 0, covariance)`` for ``covariance (E, K, K)`` and ``y (E, K)``, shape ``(E,)``.

    The gradient by the covariance is ``(C^-1 - C^-1 y y' C^-1) / 2``; none is given by ``y``.
    """
    return torch.as_tensor(
        _Likelihood.apply(covariance, y)  # type: ignore[no-untyped-call]
    )


def cholesky(covariance: torch.Tensor) -> torch.Tensor:
    """Lower Cholesky factors ``(E, K, K)``; what is not positive definite is made so.

    A matrix that fails gets ten times more on its diagonal until it does not: 1e-8 of its mean at
    first. Losses without noise at mixtures that almost coincide need it.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    size = torch.diagonal(covariance, dim1=-2, dim2=-1).mean(-1)
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    jitter = 1e-8
    while bool(failed.any()) and jitter < 1.0:
        added = torch.where(failed > 0, jitter * size, torch.zeros_like(size))
        retried, failed_again = torch.linalg.cholesky_ex(covariance + added[:, None, None] * eye)
        factor = torch.where((failed > 0)[:, None, None], retried, factor)
        failed = failed_again
        jitter *= 10.0
    return torch.as_tensor(factor)


def minimize(
    value_and_gradient: Callable[[Array], tuple[Array, Array]],
    start: Array,
    *,
    evaluations: int,
    tolerance: float = 1e-3,
) -> Array:
    """Limited-memory BFGS for ``E`` independent functions that are evaluated together.

    Every function has its own line search (backtracking to sufficient decrease), and one
    evaluation moves each of them on by whatever it needs next; none waits for another.

    Args:
        value_and_gradient: Takes points ``(E, P)`` to values ``(E,)`` and gradients ``(E, P)``.
        start: Shape ``(E, P)``.
        evaluations: How many calls are made at most.
        tolerance: Stop when a step gains less in every function.

    Returns:
        The best points found, shape ``(E, P)``.
    """
    count, size = start.shape
    here = start.copy()
    value, gradient = value_and_gradient(here)
    moves = np.zeros((_MEMORY, count, size))
    turns = np.zeros((_MEMORY, count, size))
    inverse = np.zeros((_MEMORY, count))  # 1 / (move . turn); zero where there is no pair
    gamma = 1.0 / np.maximum(np.linalg.norm(gradient, axis=1), 1.0)
    direction = -gamma[:, None] * gradient
    step = np.ones(count)
    for _ in range(evaluations - 1):
        trial = here + step[:, None] * direction
        new_value, new_gradient = value_and_gradient(trial)
        slope = np.sum(direction * gradient, axis=1)
        good = np.isfinite(new_value) & (new_value <= value + 1e-4 * step * slope)
        move = np.where(good[:, None], trial - here, 0.0)
        turn = np.where(good[:, None], new_gradient - gradient, 0.0)
        product = np.sum(move * turn, axis=1)
        keep = product > 1e-10 * np.sum(turn * turn, axis=1)
        inverse_new = np.where(keep, 1.0 / np.where(keep, product, 1.0), 0.0)
        # A function without a new pair keeps its old ones: only the others' memories move on.
        shift = keep[None, :, None]
        moves = np.where(shift, np.concatenate([moves[1:], move[None]]), moves)
        turns = np.where(shift, np.concatenate([turns[1:], turn[None]]), turns)
        inverse = np.where(keep[None], np.concatenate([inverse[1:], inverse_new[None]]), inverse)
        gamma = np.where(keep, product / np.maximum(np.sum(turn * turn, axis=1), 1e-300), gamma)
        gained = np.where(good, value - new_value, np.inf)
        here = np.where(good[:, None], trial, here)
        value = np.where(good, new_value, value)
        gradient = np.where(good[:, None], new_gradient, gradient)
        if np.all(gained < tolerance):
            break
        # The step to the minimum of the parabola through what is known, within reason.
        rise = np.where(np.isfinite(new_value), new_value - value - step * slope, np.inf)
        parabola = -slope * step**2 / (2 * np.maximum(rise, 1e-300))
        shorter = np.clip(parabola, 0.1 * step, 0.5 * step)
        fresh = _two_loops(gradient, moves, turns, inverse, gamma)
        direction = np.where(good[:, None], fresh, direction)
        step = np.where(good, 1.0, shorter)
    return here


def _two_loops(gradient: Array, moves: Array, turns: Array, inverse: Array, gamma: Array) -> Array:
    """The quasi-Newton direction ``-H gradient``, shape ``(E, P)``."""
    q = gradient.copy()
    weights = np.zeros_like(inverse)
    for i in range(_MEMORY - 1, -1, -1):
        weights[i] = inverse[i] * np.sum(moves[i] * q, axis=1)
        q -= weights[i][:, None] * turns[i]
    q *= gamma[:, None]
    for i in range(_MEMORY):
        back = inverse[i] * np.sum(turns[i] * q, axis=1)
        q += (weights[i] - back)[:, None] * moves[i]
    length = np.linalg.norm(q, axis=1, keepdims=True)
    return np.asarray(-q * np.minimum(1.0, 5.0 / np.maximum(length, 1e-300)))
