"""How often the intervals of the objective would have held runs that were left out.

Leave-one-out predictions of the objective of single runs, noise included, against what was
measured. The inflation of the belief was learned from the same errors, so counting with it would
flatter: the interval of a run is inflated by what the *other* runs ask. ``docs/math.md`` has how
the intervals do on runs that were never seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from cuvee.answer import Calibration
from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.belief import MOST, Belief, ObjectiveLoo

__all__ = ["LEVELS", "Foresight", "calibrate", "foresight"]

LEVELS = (0.5, 0.8, 0.9, 0.95)

_LEAST_R2 = 0.1
_LEAST_RANK = 0.5
_LEAST_RUNS = 5  # below, coverage takes hardly any values


@dataclass(frozen=True)
class Foresight:
    """How well runs left out are predicted.

    Attributes:
        r2: One minus the squared errors over those of the mean of the other runs.
        rank: Spearman's correlation of measured with predicted; 0 where one side is all ties.
        runs: How many.
    """

    r2: float
    rank: float
    runs: int

    @property
    def none(self) -> bool:
        """Whether they are predicted hardly better than by the mean of the others.

        Both figures must say so: R2 hangs on a single extreme run that nothing predicts, and among
        runs that crowd an optimum ranks are noise. On worlds where losses do not depend on the
        mixture, R2 went up to 0.05 and the rank correlation to -0.2 (14 runs, 10 worlds).
        """
        return self.r2 < _LEAST_R2 and self.rank < _LEAST_RANK


def foresight(measured: Array, predicted: Array) -> Foresight:
    """How good leave-one-out predictions are.

    Args:
        measured: Shape ``(n,)``, at least two.
        predicted: Each without its run, shape ``(n,)``.
    """
    n = len(measured)
    others = np.sum((measured - measured.mean()) ** 2) * (n / (n - 1)) ** 2
    r2 = 1 - float(np.sum((measured - predicted) ** 2)) / float(others) if others > 0 else 0.0
    rank = 0.0
    if np.ptp(measured) > 0 and np.ptp(predicted) > 0:
        rank = float(stats.spearmanr(measured, predicted).statistic)
    return Foresight(r2, rank, n)


def calibrate(belief: Belief, loo: ObjectiveLoo) -> Calibration | None:
    """Coverage by leave-one-out; None with fewer than five runs to judge by.

    Args:
        belief: The posterior, for its inflation.
        loo: Its leave-one-out predictions.
    """
    n = len(loo.rows)
    if n < _LEAST_RUNS:
        return None
    plain = loo.se / belief.inflation
    squares = ((loo.measured - loo.predicted) / plain) ** 2
    others = np.sqrt((squares.sum() - squares) / (n - 1))
    inflation = np.clip(others, 1.0, MOST)
    z = np.sqrt(squares) / inflation
    return Calibration(
        levels=LEVELS,
        coverage=tuple(float(np.mean(z <= stats.norm.ppf(0.5 + level / 2))) for level in LEVELS),
        inflation=belief.inflation,
        rung=loo.rung,
        measured=tuple(loo.measured.tolist()),
        predicted=tuple(loo.predicted.tolist()),
        se=tuple(loo.se.tolist()),
    )
