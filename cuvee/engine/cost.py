"""What a run costs at each rung, relative to the target. Never the wall clock.

In order of trust: the cost that the specification gives; the median seconds that finished runs
took; a prior, ``6 N D`` operations for a proxy of ``N`` parameters and ``D`` tokens (Kaplan et al.
2020, arXiv 2001.08361) and one pass over its bytes for an n-gram model. Where only some rungs have
the better kind, the others are scaled to it.
"""

from __future__ import annotations

import numpy as np

from cuvee.engine.space.simplex import Array
from cuvee.records import History, SearchProblem
from cuvee.spec import Rung

__all__ = ["prior", "relative"]

_EVAL_SHARE = 1 / 3  # a forward pass costs a third of a training step
_NGRAM = 200.0  # operations per byte counted or scored, for each order


def prior(rung: Rung) -> float:
    """Arithmetic operations of one run, for want of anything measured."""
    if rung.kind == "ngram":
        return _NGRAM * rung.order * (rung.train_bytes + rung.eval_bytes)
    if rung.model is None:
        size = float(rung.parameters or 0)
    else:
        shape = rung.model
        inner = shape.intermediate_size or 4 * shape.hidden_size
        attention = 2 * (1 + (shape.kv_heads or shape.heads) / shape.heads) * shape.hidden_size**2
        size = shape.layers * (attention + 3 * shape.hidden_size * inner)
    return 6.0 * size * (rung.tokens + _EVAL_SHARE * rung.evaluations * rung.eval_tokens)


def relative(problem: SearchProblem, history: History) -> Array:
    """Cost of one run at each rung in units of a target run, shape ``(R,)``, positive."""
    cost = np.array([prior(rung) for rung in problem.rungs])
    seconds = np.full(len(cost), np.nan)
    for r in range(len(cost)):
        taken = [o.seconds for o in history.observations if o.rung == r and o.seconds > 0]
        if taken:
            seconds[r] = np.median(taken)
    given = np.array([np.nan if r.cost is None else r.cost for r in problem.rungs])
    for better in (seconds, given):
        known = np.isfinite(better)
        if np.any(known):
            scale = float(np.median(better[known] / cost[known]))
            cost = np.where(known, better, cost * scale)
    return np.asarray(cost / cost[-1])
