"""Whether the search was still finding better mixtures when it ended."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean

from cuvee.answer import Report
from service.dashboard.figures import Figure
from service.dashboard.formats import bits, duration, finite

__all__ = ["curve_figure"]


def curve_figure(report: Report) -> Figure | None:
    """Best objective at the target against seconds of training on all rungs."""
    points = report.curve
    if not points:
        return None
    first, last = points[0], points[-1]
    steps = [first, *(after for before, after in pairwise(points) if after.best < before.best)]
    settled = next(p for p in points if p.best <= last.best)
    caption = (
        f"The best objective fell from {bits(first.best)} to {bits(last.best)} bits per byte in "
        f"{last.runs} runs and {duration(last.seconds)} of training; "
        f"run {settled.runs} found the best."
    )
    baselines = [
        fmean(reference for _, reference, _ in one.pairs)
        for one in report.verification
        if one.reference == "baseline" and one.pairs
    ]
    return Figure(
        id="search",
        kind="search",
        title="Was it still improving?",
        caption=caption,
        data={
            "best": [[finite(p.seconds, 2), finite(p.best)] for p in (*steps, last)],
            "runs": [],
            "references": [
                {"name": "baseline, verified", "value": finite(value)} for value in baselines
            ],
        },
        header=("Runs", "Training time", "Best, bits per byte"),
        rows=tuple((str(p.runs), duration(p.seconds), bits(p.best)) for p in points),
    )
