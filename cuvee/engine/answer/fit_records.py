"""What the surrogates tell of themselves, as records: errors, choices, trust in earlier runs."""

from __future__ import annotations

import numpy as np

from cuvee.answer import ReuseSummary, SetFit
from cuvee.engine.evidence.table import Table
from cuvee.engine.space.simplex import Array
from cuvee.engine.strategies import STRATEGIES
from cuvee.engine.surrogates.base import Model
from cuvee.engine.surrogates.belief import Belief
from cuvee.engine.surrogates.default import Chosen
from cuvee.engine.surrogates.fitted import Fits
from cuvee.engine.surrogates.multi_fidelity import MultiFidelityModel
from cuvee.engine.surrogates.warped import WarpedModel

__all__ = ["reuse_summaries", "set_fits"]


def set_fits(table: Table, fits: Fits, belief: Belief) -> tuple[SetFit, ...]:
    """By evaluation set, in the problem's order; () without runs at the target.

    Errors are those of this search's runs, also where runs of an earlier job were taken for them.
    Coefficients are those of the log-linear law of the target's runs, where there are enough of
    them: whatever predicts, they say which domain helps which set.

    Args:
        table: The search.
        fits: Its fits.
        belief: The posterior.
    """
    model, target = belief.model, belief.target
    rows = np.flatnonzero(model.runs.rung[: len(table.shares)] == target)
    if not len(rows):
        return ()
    y = model.runs.y[rows]
    fitted = model.mean(model.runs.x[rows], target)
    loo = model.loo()
    left, se = loo.mean[rows], np.sqrt(loo.var[rows])
    law = fits.at(table.target)
    surrogate = STRATEGIES[table.problem.spec.strategy].surrogate(table).name
    found = {}
    for e, name in enumerate(table.eval_sets):
        slopes: dict[str, float] = {}
        if law is not None:
            slopes = dict(zip(table.domains, law.laws.t[e].tolist(), strict=True))
        scores = dict(model.scores[e]) if isinstance(model, Chosen) else {}
        weights = dict(model.weights[e]) if isinstance(model, Chosen) else {}
        found[name] = SetFit(
            eval_set=name,
            runs=len(rows),
            r2=_r2(y[:, e], fitted[:, e]),
            loo_rmse=float(np.sqrt(np.mean((y[:, e] - left[:, e]) ** 2))),
            loo_r2=_r2(y[:, e], left[:, e]),
            coefficients={d: slopes[d] for d in table.problem.names} if slopes else {},
            floor=None if law is None else float(law.laws.c[e]),
            observed=tuple(y[:, e].tolist()),
            loo_predicted=tuple(left[:, e].tolist()),
            loo_se=tuple(se[:, e].tolist()),
            chosen=max(weights, key=lambda one: weights[one]) if weights else surrogate,
            scores=scores,
            weights=weights,
        )
    return tuple(found[name] for name in table.problem.eval_sets)


def reuse_summaries(table: Table, model: Model) -> tuple[ReuseSummary, ...]:
    """How far the runs of earlier jobs were used, with the trust that was learned.

    Only surrogates that couple rungs can learn how far to trust a run of another job; where the
    strategy's surrogate is not one, only those that were taken for this job's own were used.
    """
    earlier = table.earlier
    if earlier is None:
        return ()
    candidates = tuple(model.models.values()) if isinstance(model, Chosen) else (model,)
    plain = (c.inner if isinstance(c, WarpedModel) else c for c in candidates)
    coupled = next((c for c in plain if isinstance(c, MultiFidelityModel)), None)
    if coupled is None:
        return earlier.without(
            table.runs.task[len(table.shares) :] > 0,
            "as the strategy's surrogate can not tell how far to trust them",
        )
    # A task taken for this job has no level of its own: it tells what this job's rung does.
    rungs = len(table.problem.rungs)
    trust = np.tile(np.mean(coupled.correlations[:, :rungs], axis=0), (len(earlier.sources), 1))
    for q, (task, rung) in enumerate(coupled.levels.pairs):
        if task > 0:
            trust[task - 1, rung] = float(np.mean(coupled.correlations[:, q]))
    return earlier.trusted(trust)


def _r2(measured: Array, predicted: Array) -> float:
    """One minus the residual over the total sum of squares (0 when nothing varies)."""
    spread = float(np.sum((measured - measured.mean()) ** 2))
    return 1 - float(np.sum((measured - predicted) ** 2)) / spread if spread > 0 else 0.0
