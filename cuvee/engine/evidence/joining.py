"""Whether runs of an earlier job are runs of the same function as this job's, told by the runs.

A task kernel has to learn level, slope and discrepancy of every task from this job's few runs, and
the laws of the default surrogate know one task only; where nothing has changed, all that is lost.
So the runs of a task at a rung are taken for this job's where a law with them foretells this job's
runs at that rung, each left out, at least as well as a law of this job's runs alone does. Text that
was altered under a name fails this. Each rung is judged by itself, for many cheap runs say nothing
of the target, and each task against this job's runs only, so that no order of tasks matters.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Model, Runs
from cuvee.engine.surrogates.memo import Memo, digest
from cuvee.engine.surrogates.power import Power
from cuvee.errors import EngineError

__all__ = ["joined"]

_LEAST = 4  # runs of this job at a rung, to judge by

_WORSE = 2.0
"""How much greater the squared error of a set may be where a task is taken for this job. Over four
worlds it was at most 1.3 times for the same text; 4 to 90 times, on one set or more, where one
domain's text was altered."""

_CLEAR = 2.0  # standard errors by which levels differ before they are made equal

_LITTLE = 0.25
"""Greatest share of a domain in this job's runs, over that in the earlier ones, below which this
job's runs do not tell whether its text is the same."""

_JOINED: Memo[Runs] = Memo(8)

_Rows = npt.NDArray[np.bool_]


def joined(runs: Runs) -> Runs:
    """The runs, those of tasks and rungs as this job's that help to foretell it.

    The squared errors of the law of both over those of the law of this job alone must be at most
    one in the geometric mean over the evaluation sets, and at most ``_WORSE`` for each. The level
    of a task is moved at a rung and set where it clearly differs: held-out text changes with its
    domain. A task stays one at a rung where it never had a domain that this job has, for what its
    level owes to that is not known, and where this job's runs hardly had one that the task's had.
    """
    return _JOINED.get(digest("joined", runs), lambda: _joined(runs))


def _joined(runs: Runs) -> Runs:
    own = runs.task == 0
    alone = _law(runs.where(own))
    y, task = runs.y.copy(), runs.task.copy()
    for one in range(1, int(runs.task.max(initial=0)) + 1):
        theirs = runs.task == one
        law = _law(runs.where(theirs))
        if alone is None or law is None:
            continue
        for rung in np.unique(runs.rung[theirs]).tolist():
            here = runs.rung == rung
            if np.count_nonzero(own & here) < _LEAST or _apart(runs, own & here, theirs & here):
                continue
            shift = _shift(runs.where(own & here), law)
            if _foretells(runs, own, theirs & here, shift, alone):
                y[theirs & here] += shift
                task[theirs & here] = 0
    return replace(runs, y=y, task=task)


def _apart(runs: Runs, ours: _Rows, theirs: _Rows) -> bool:
    """Whether one of two groups of runs had (next to) nothing of a domain that the other had."""
    here, there = runs.x[ours].max(axis=0), runs.x[theirs].max(axis=0)
    return bool(np.any((there == 0) & (here > 0)) or np.any(here < _LITTLE * there))


def _shift(ours: Runs, law: Model) -> Array:
    """How far this job's level at a rung is above a law's, where clearly so, shape ``(E,)``."""
    missed = ours.y - law.mean(ours.x, int(ours.rung[0]))
    shift, se = missed.mean(axis=0), missed.std(axis=0, ddof=1) / np.sqrt(len(missed))
    return np.asarray(np.where(np.abs(shift) > _CLEAR * se, shift, 0.0))


def _foretells(runs: Runs, own: _Rows, theirs: _Rows, shift: Array, alone: Model) -> bool:
    """Whether runs of one task and rung, moved by ``shift``, help to foretell this job's there."""
    heard = ~np.all(runs.muted[theirs], axis=0)
    some = own | theirs
    both = _law(replace(runs, y=runs.y + theirs[:, None] * shift).where(some))
    if both is None or not np.any(heard):
        return False
    judges = runs.rung[own] == runs.rung[theirs][0]
    count = np.count_nonzero(judges)
    before = _square(alone, judges)
    after = _square(both, np.flatnonzero(own[some])[judges])
    # The level was moved by the very runs that judge: each left out, it would have moved less.
    after = after * np.where(shift != 0, (count / (count - 1)) ** 2, 1.0)
    ratio = np.maximum(after[heard] / np.maximum(before[heard], 1e-300), 1e-300)
    return bool(np.mean(np.log(ratio)) <= 0.0 and np.all(ratio <= _WORSE))


def _square(law: Model, rows: _Rows | npt.NDArray[np.intp]) -> Array:
    """Mean squared leave-one-out errors of a law at some of its runs, shape ``(E,)``."""
    missed = law.runs.y - law.loo().mean
    return np.asarray(np.mean(missed[rows] ** 2, axis=0))


def _law(runs: Runs) -> Model | None:
    """The power law of some runs, whosever they are; None where they are too few for it."""
    try:
        return Power().fit(replace(runs, task=np.zeros_like(runs.task)))
    except EngineError:
        return None
