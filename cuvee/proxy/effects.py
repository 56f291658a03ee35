"""What each branch learnt, on each evaluation set: whether a pool is fit to be merged.

Branches that hardly moved have nothing to tell, and branches that unlearnt the rest are too far
apart to average. Both are seen in K + 1 evaluations, before a mixture is tried. The same gains per
token of a branch are what Aioli and Skill-It estimate: each domain's effect on each loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cuvee.proxy.merge import MergeEvaluator, paired_difference

__all__ = ["Effects", "branch_effects"]

Floats = npt.NDArray[np.float64]

_VISIBLE = 5.0
"""Standard errors by which a branch must gain on its own set."""

_TOLERATED = 0.5
"""Largest mean loss on the other sets, over the gain on the own one."""


@dataclass(frozen=True, slots=True)
class Effects:
    """Gains in bits per byte over the seed, positive where a branch is better.

    Attributes:
        eval_sets: S of them.
        domains: Of each branch, K of them.
        gains: Shape (S, K).
        errors: Their standard errors, paired by excerpt, shape (S, K).
        warnings: What is wrong with which branch, and what to do.
    """

    eval_sets: tuple[str, ...]
    domains: tuple[str, ...]
    gains: Floats
    errors: Floats
    warnings: tuple[str, ...]


def branch_effects(evaluator: MergeEvaluator) -> Effects:
    """Compare every branch of a pool with its seed, on all evaluation sets."""
    pool, names = evaluator.pool, tuple(evaluator.sets)
    before = evaluator.seed_nats()
    shape = (len(names), len(pool.branches))
    gains, errors, warnings = np.empty(shape), np.empty(shape), []
    for k, vertex in enumerate(np.eye(len(pool.branches)).tolist()):
        after = evaluator.evaluate_weights(vertex).nats
        for s, name in enumerate(names):
            sizes = evaluator.sets[name].sizes
            gains[s, k], errors[s, k] = paired_difference(before[name], after[name], sizes)
        domain = pool.domains[k]
        if domain in names:
            warnings += _warnings(domain, names.index(domain), gains[:, k], errors[:, k])
    return Effects(names, pool.domains, gains, errors, tuple(warnings))


def _warnings(domain: str, own: int, gains: Floats, errors: Floats) -> list[str]:
    gain, rest = float(gains[own]), np.delete(gains, own)
    if gain <= _VISIBLE * errors[own]:
        return [
            f"a branch of {domain!r} gained {gain:.4f} bits per byte on its own held-out text, "
            f"with a standard error of {errors[own]:.4f}: too little to be told apart. Train "
            "longer branches, or score more tokens"
        ]
    if rest.size and -rest.mean() > _TOLERATED * gain:
        return [
            f"a branch of {domain!r} gained {gain:.4f} bits per byte on its own held-out text and "
            f"lost {-rest.mean():.4f} on the others: it unlearnt too much to be averaged. Train "
            "shorter branches, a longer seed, or lower branch_lr_share"
        ]
    return []
