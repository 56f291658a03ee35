"""Whether runs of an earlier job are runs of the same function as this job's, told by the runs.

A task kernel has to learn level, slope and discrepancy of every task from this job's few runs, and
the laws of the default surrogate know one task only; where nothing has changed, all that is lost.
So a task is taken for this job where a law of both jobs' runs foretells this job's, each left out,
at least as well as a law of this job's alone does. Text that was altered under a name fails this.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cuvee.engine.surrogates.base import Model, Runs
from cuvee.engine.surrogates.memo import Memo, digest
from cuvee.engine.surrogates.power import Power
from cuvee.errors import EngineError

__all__ = ["joined"]

_LEAST = 4  # runs of this job at the task's rungs, to judge by

_WORSE = 2.0
"""How much greater the squared error of a set may be where a task is taken for this job. Over four
worlds it was at most 1.3 times for the same text; 4 to 90 times, on one set or more, where one
domain's text was altered."""

_CLEAR = 2.0  # standard errors by which levels differ before they are made equal

_JOINED: Memo[Runs] = Memo(8)


def joined(runs: Runs) -> Runs:
    """The runs, those tasks as this job's that help to foretell it.

    The squared errors of the law of both over those of the law of this job alone must be at most
    one in the geometric mean over the evaluation sets, and at most ``_WORSE`` for each. The level
    of a task is moved at each rung and set where it clearly differs: held-out text changes with
    its domain. A task that never had a domain which this job has stays a task, for what its level
    owes to that is not known.
    """
    return _JOINED.get(digest("joined", runs), lambda: _joined(runs))


def _joined(runs: Runs) -> Runs:
    for one in range(1, int(runs.task.max(initial=0)) + 1):
        own, theirs = runs.task == 0, runs.task == one
        shared = np.isin(runs.rung[own], runs.rung[theirs])
        wanting = runs.x[own].max(axis=0, initial=0.0) > 0
        wanting &= runs.x[theirs].max(axis=0, initial=0.0) == 0
        if np.count_nonzero(shared) < _LEAST or np.any(wanting):
            continue
        moved = _moved(runs, own, theirs)
        alone = _errors(runs, own, shared)
        both = None if moved is None else _errors(moved, own | theirs, shared)
        if moved is None or alone is None or both is None:
            continue
        heard = ~np.all(runs.muted[theirs], axis=0)
        ratio = (both / np.maximum(alone, 1e-300))[heard]
        if np.mean(np.log(np.maximum(ratio, 1e-300))) <= 0.0 and np.all(ratio <= _WORSE):
            runs = moved
    return runs


def _moved(runs: Runs, own: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> Runs | None:
    """The runs, a task's moved to this job's level by rung and set, and said to be this job's."""
    task = np.where(theirs, 0, runs.task)
    law = _law(replace(runs, task=task).where(theirs))
    if law is None:
        return None
    y = runs.y.copy()
    for rung in np.unique(runs.rung[theirs]).tolist():
        here = own & (runs.rung == rung)
        if np.count_nonzero(here) < 2:
            continue
        missed = runs.y[here] - law.mean(runs.x[here], rung)
        shift, se = missed.mean(axis=0), missed.std(axis=0, ddof=1) / np.sqrt(len(missed))
        y[theirs & (runs.rung == rung)] += np.where(np.abs(shift) > _CLEAR * se, shift, 0.0)
    return replace(runs, y=y, task=task)


def _errors(
    runs: Runs, rows: npt.NDArray[np.bool_], judges: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64] | None:
    """Mean squared leave-one-out errors, shape ``(E,)``, of a law of ``rows`` at its first runs.

    Args:
        runs: All runs; this job's come first.
        rows: Which the law is fitted to.
        judges: Which of the first ones count.
    """
    some = runs.where(rows)
    law = _law(some)
    if law is None:
        return None
    missed = some.y - law.loo().mean
    return np.asarray(np.mean(missed[: len(judges)][judges] ** 2, axis=0))


def _law(runs: Runs) -> Model | None:
    """The power law of some runs; None where they are too few for it."""
    try:
        return Power().fit(runs)
    except EngineError:
        return None
