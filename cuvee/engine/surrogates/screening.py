"""Losses that do not fit with the others: found by leave-one-out residuals, muted, and named.

A run can go wrong without failing: a damaged shard, a loss spike at the end. One such loss bends a
surrogate far more than an honest error, since it looks like a steep feature of the surface. A
measurement is *suspect* when, predicted from all the other runs, it is off by more than ``LIMIT``
robust standard deviations of such errors. Candidates are given a variance that leaves them no say,
the worst first, and the surrogate is fitted again, until nothing new is suspect or one run in
twenty is. An outlier among few runs also bends what is expected where it lies, so that its error
looks moderate: while rounds are left to clear it, a smaller error makes a candidate, and one that
turns out to be within ``LIMIT`` of what the others say comes back.

Evaluation sets are screened one by one, as they are modelled: a run may have gone wrong for one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Model, Runs, Surrogate

__all__ = ["LIMIT", "NAMED", "Screened", "screen"]

LIMIT = 5.0
"""Robust standard deviations. Of RegMix's runs, 64 with 13 losses each and nothing planted, 2.4 %
of the losses are beyond: errors have heavy tails near the faces of the simplex. Muting them does no
harm: the rank correlation of the mean loss on other runs rises by 0.001 over four splits."""

NAMED = 20.0
"""Robust standard deviations beyond which a run is named: none to two of such 64 runs."""

_ENTRY = 3.0  # robust standard deviations that make a candidate
_SHARE = 0.05
_ROUNDS = 5
_LEAST = 8  # errors of a rung that are enough for a scale of its own
_MUTED = 1e4  # variance of a suspect, in units of the variance of its set's losses


@dataclass(frozen=True)
class Screened:
    """A model in which suspect measurements have no say.

    Attributes:
        model: Fitted on ``runs``.
        runs: The given runs, suspects with a large variance.
        suspect: Which measurements are suspect, shape ``(K, E)``.
        score: Size of each leave-one-out error in robust standard deviations, shape ``(K, E)``.
    """

    model: Model
    runs: Runs
    suspect: npt.NDArray[np.bool_]
    score: Array

    @property
    def rows(self) -> npt.NDArray[np.bool_]:
        """Runs to name to a person, shape ``(K,)``: off by more than ``NAMED`` on some set.

        Muting costs nothing where it was not needed, but accusing does.
        """
        return np.asarray((self.suspect & (self.score > NAMED)).any(axis=1))


def screen(surrogate: Surrogate, runs: Runs, rounds: int = _ROUNDS) -> Screened:
    """Fit a surrogate on the measurements that fit with each other.

    Args:
        surrogate: One that heeds ``Runs.variance``.
        runs: At most one in twenty of them, per evaluation set, can be found suspect.
        rounds: Fits before the last, at most; where fits are slow, one finds the worst suspects.

    Raises:
        EngineError: As ``surrogate.fit``.
    """
    most = int(_SHARE * len(runs))
    muted = _MUTED * np.maximum(runs.y.var(axis=0), 1e-12)
    suspect = np.zeros(runs.y.shape, dtype=bool)
    cleared = np.zeros_like(suspect)
    model: Model | None = None
    for left in range(rounds - 1, -1, -1):
        heard = replace(runs, variance=runs.variance + muted * suspect)
        model = surrogate.fit(heard) if model is None else surrogate.refit(model, heard)
        score = _scores(model, heard, muted * suspect, suspect)
        # Errors far smaller than the worst may only be what the worst has bent: they wait.
        kept = np.where(suspect, 0.0, score)
        worst = kept.max(axis=0, initial=0.0)
        entry = np.where(cleared, LIMIT, _ENTRY) if left > 1 else LIMIT
        again = np.where(suspect, score > LIMIT, kept > np.maximum(entry, 0.5 * worst))
        order = np.argsort(-np.where(again, score, 0.0), axis=0, kind="stable")
        np.put_along_axis(again, order[most:], False, axis=0)
        cleared |= suspect & ~again
        if np.array_equal(again, suspect):
            break
        suspect = again
    else:
        heard = replace(runs, variance=runs.variance + muted * suspect)
        model = surrogate.fit(heard) if model is None else surrogate.refit(model, heard)
        score = _scores(model, heard, muted * suspect, suspect)
    return Screened(model, heard, suspect, score)


def _scores(model: Model, runs: Runs, added: Array, suspect: npt.NDArray[np.bool_]) -> Array:
    """Leave-one-out errors in robust standard deviations, shape ``(K, E)``."""
    left_out = model.loo()
    var = np.maximum(left_out.var - added, 1e-9 * left_out.var)
    size = np.abs(runs.y - left_out.mean) / np.sqrt(var)
    # Suspects have no say in the scale, nor has what an earlier job did not measure.
    trusted = np.where(suspect | runs.muted, np.nan, size)
    score = np.empty_like(size)
    for rung in np.unique(runs.rung):
        here = runs.rung == rung
        among = trusted[here] if np.count_nonzero(here) >= _LEAST else trusted
        among = np.where(np.all(np.isnan(among), axis=0), 1.0, among)
        # The median absolute error as a standard deviation: a model that is too timid about its
        # own errors does not make its runs suspect, and one that is too bold hides none.
        score[here] = size[here] / np.maximum(1.4826 * np.nanmedian(among, axis=0), 1e-12)
    return score
