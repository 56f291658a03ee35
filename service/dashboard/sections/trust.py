"""Whether the predictions can be trusted: every run predicted from all the others."""

from __future__ import annotations

import math
from statistics import NormalDist, fmean, median

from cuvee.answer import Calibration, SetFit
from service.dashboard.figures import Figure
from service.dashboard.formats import bits, finite, percent

__all__ = ["COVERAGE_HEADER", "coverage_rows", "left_out_figure", "sets_figure"]

COVERAGE_HEADER = ("Interval", "Should hold", "Held", "By chance alone")


def left_out_figure(found: Calibration | None, confidence: float, rung: str = "") -> Figure | None:
    """The objective of each run, measured and predicted with that run left out.

    Args:
        found: The calibration.
        confidence: Of the intervals that are drawn.
        rung: Whose runs these are, when they are not the target's.
    """
    if found is None or not found.measured:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    points = [
        (finite(measured), finite(predicted), finite(z * se))
        for measured, predicted, se in zip(found.measured, found.predicted, found.se, strict=True)
    ]
    drawn = [list(point) for point in points if None not in point]
    inside = sum(_inside(point) for point in points)
    caption = (
        f"{inside} of {len(points)} measured objectives lie inside the {percent(confidence, 0)} "
        "interval that was predicted without them."
    )
    if rung:
        caption += f" These are runs of {rung}: the target has too few to judge by."
    if found.inflation > 1.005:
        caption += (
            f" The intervals are {found.inflation:.2f} times as wide as the model alone would make "
            "them: that much these runs ask for."
        )
    return Figure(
        id="left_out",
        kind="left_out",
        title="Do the intervals hold?",
        caption=caption,
        data={"level": percent(confidence, 0), "points": drawn},
        header=("Run", "Measured", "Predicted without it", "Error", "Standard error", "Inside"),
        rows=tuple(
            (
                str(number),
                bits(measured),
                bits(predicted),
                bits(predicted - measured).replace("-", "−"),
                bits(se),
                "yes" if abs(predicted - measured) <= z * se else "no",
            )
            for number, (measured, predicted, se) in enumerate(
                zip(found.measured, found.predicted, found.se, strict=True), 1
            )
        ),
    )


def _inside(point: tuple[float | None, float | None, float | None]) -> bool:
    measured, predicted, half = point
    if measured is None or predicted is None or half is None:
        return False
    return abs(predicted - measured) <= half


def coverage_rows(found: Calibration | None) -> tuple[tuple[str, ...], ...]:
    """How often intervals of each level held, beside what honest intervals would do by chance."""
    if found is None:
        return ()
    runs = len(found.measured)
    rows = []
    for level, held in zip(found.levels, found.coverage, strict=True):
        low, high = _by_chance(runs, level)
        rows.append(
            (
                percent(level, 0),
                f"{level * runs:.0f} of {runs}" if runs else percent(level, 0),
                f"{held * runs:.0f} of {runs} ({percent(held, 0)})" if runs else percent(held, 0),
                f"{low} to {high}" if runs else "–",
            )
        )
    return tuple(rows)


def _by_chance(runs: int, level: float) -> tuple[int, int]:
    """The middle 90 % of how many of so many intervals hold if each does with its level."""
    below, low = 0.0, None
    for count in range(runs + 1):
        below += math.comb(runs, count) * level**count * (1 - level) ** (runs - count)
        if low is None and below >= 0.05:
            low = count
        if below >= 0.95:
            return low or 0, count
    return low or 0, runs


def sets_figure(fits: tuple[SetFit, ...]) -> Figure | None:
    """Leave-one-out predictions, each set centred on its own mean.

    Uncentred, the spread *between* sets would make any model look good.
    """
    usable = [f for f in fits if len(f.observed) > 1 and len(f.observed) == len(f.loo_predicted)]
    if not usable:
        return None
    series = []
    for fit in usable:
        centre = fmean(fit.observed)
        series.append(
            {
                "name": fit.eval_set,
                "points": [
                    [finite(predicted - centre), finite(observed - centre)]
                    for predicted, observed in zip(fit.loo_predicted, fit.observed, strict=True)
                    if math.isfinite(predicted) and math.isfinite(observed)
                ],
            }
        )
    scores = [f.loo_r2 for f in usable if math.isfinite(f.loo_r2)]
    errors = [f.loo_rmse for f in usable if math.isfinite(f.loo_rmse)]
    caption = "Each run predicted from all the others"
    if scores and errors:
        weakest = min(usable, key=lambda f: f.loo_r2)
        caption += (
            f": median R² {median(scores):.2f}, typical error {bits(median(errors))} bits per "
            f"byte; weakest on {weakest.eval_set} (R² {weakest.loo_r2:.2f})"
        )
    return Figure(
        id="calibration",
        kind="calibration",
        title="Is every evaluation set predicted well?",
        caption=caption + ".",
        data={"series": series},
        header=("Evaluation set", "Runs", "R², fitted", "R², left out", "Error, left out", "Floor"),
        rows=tuple(
            (
                f.eval_set,
                str(f.runs),
                f"{f.r2:.3f}",
                f"{f.loo_r2:.3f}",
                bits(f.loo_rmse),
                bits(f.floor),
            )
            for f in fits
        ),
    )
