"""How well a fitted surrogate predicts runs that it was not given."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.stats import norm, spearmanr

from benchmarks.replay.tables import RunTable
from cuvee.engine.goal import Goal
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Model
from cuvee.engine.surrogates.belief import Belief

__all__ = ["LEVEL", "coverage", "rank_correlation", "ranked", "score"]

LEVEL = 0.9
"""Of the intervals whose coverage is measured."""


def rank_correlation(predicted: Array, true: Array) -> float | None:
    """Spearman's correlation, or None for a prediction that is the same everywhere."""
    if np.ptp(predicted) < 1e-12:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return float(spearmanr(predicted, true).statistic)


def score(model: Model, w: Array, rung: int, table: RunTable) -> dict[str, float]:
    """Rank correlation, mean squared error and coverage at the model's target rung.

    Args:
        model: A fitted surrogate.
        w: Weights of the objective, shape ``(E,)``.
        rung: The rung whose runs are predicted: the model's target.
        table: Runs that were not fitted.
    """
    belief = Belief.of(model, Goal(w))
    true = table.y @ w
    mean = belief.mean(table.x)
    found = {
        "mse": float(np.mean((mean - true) ** 2)),
        "coverage": coverage(belief, w, rung, table),
        "inflation": float(belief.inflation),
    }
    return found | ranked("spearman", mean, true)


def coverage(belief: Belief, w: Array, rung: int, table: RunTable) -> float:
    """Share of held-out runs inside the 90 % interval of the objective of a run there.

    A belief is about the noise-free losses; a run has noise too, which is added to each before
    the belief's correlation and inflation apply.
    """
    var = belief.model.var(table.x, rung) + belief.model.noise(rung)
    each = np.sqrt(var) * w
    sd = belief.inflation * np.sqrt(np.einsum("ne,ef,nf->n", each, belief.correlation, each))
    outside = np.abs(table.y @ w - belief.mean(table.x)) / sd
    return float(np.mean(outside <= norm.ppf(0.5 + LEVEL / 2)))


def ranked(name: str, predicted: Array, true: Array) -> dict[str, float]:
    """``{name: rank correlation}``, empty for a prediction that is the same everywhere."""
    value = rank_correlation(predicted, true)
    return {} if value is None else {name: value}
