"""The figures of a report: verification, losses, search, calibration, and the law's matrix."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from cuvee.answer import EvalReport, Interval, PairedDifference, Report, SetFit
from service.dashboard.figures import Figure
from service.dashboard.formats import bits, duration, finite, percent, signed, span

__all__ = ["LawMatrix", "report_figures"]

_MATRIX_SIDE = 24
_SHADES = 5


def report_figures(report: Report) -> dict[str, Figure]:
    """Every figure that the report has data for, by id."""
    candidates = (
        _verification(report.verification),
        _losses(report.evaluations, report.confidence),
        _curve(report),
        _calibration(report.fits),
    )
    return {figure.id: figure for figure in candidates if figure is not None}


def _verification(differences: Iterable[PairedDifference]) -> Figure | None:
    paired = [d for d in differences if d.pairs]
    if not paired:
        return None
    counts = [
        f"in {sum(reference > ours for _, reference, ours in one.pairs)} of {len(one.pairs)} "
        f"against {one.reference}"
        for one in paired
    ]
    return Figure(
        id="verification",
        kind="pairs",
        title="Did it hold when tried again?",
        caption="In pairs of runs with the same seed and budget, the recommendation had the lower "
        f"loss {' and '.join(counts)}.",
        data={
            "rows": [
                {
                    "reference": one.reference,
                    "pair": number,
                    "from": finite(reference),
                    "to": finite(ours),
                }
                for one in paired
                for number, (_, reference, ours) in enumerate(one.pairs, 1)
            ]
        },
        header=("Pair", "Seed", "Reference, bits per byte", "Recommended", "Difference"),
        rows=tuple(
            (
                f"{one.reference}, {number}",
                str(seed),
                bits(reference),
                bits(ours),
                signed(ours - reference),
            )
            for one in paired
            for number, (seed, reference, ours) in enumerate(one.pairs, 1)
        ),
        tall=sum(len(one.pairs) for one in paired),
    )


def _losses(evaluations: tuple[EvalReport, ...], confidence: float) -> Figure | None:
    if not evaluations:
        return None
    measured = [(e.predicted, e.measured) for e in evaluations if e.measured is not None]
    if measured:
        inside = sum(p.low <= m.mean <= p.high for p, m in measured)
        caption = (
            f"{inside} of {len(measured)} measured losses fell inside their "
            f"{percent(confidence, 0)} predicted interval"
        )
    else:
        caption = "Predicted losses of the recommended mixture; none has been measured"
    moves = [
        (e.name, e.baseline_measured.mean - e.measured.mean)
        for e in evaluations
        if e.measured is not None and e.baseline_measured is not None
    ]
    if moves:
        better = sum(gain > 0 for _, gain in moves)
        caption += f"; against the baseline {better} of {len(moves)} sets got better"
        worst = min(moves, key=lambda move: move[1])
        if worst[1] < 0:
            caption += f", and {worst[0]} lost most ({bits(-worst[1])} bits per byte)"
    return Figure(
        id="losses",
        kind="intervals",
        title="What does each evaluation set gain?",
        caption=caption + ".",
        data={
            "rows": [
                {
                    "name": e.name,
                    "weight": finite(e.weight, 4),
                    "predicted": _triple(e.predicted),
                    "measured": _triple(e.measured),
                    "baseline": _triple(e.baseline_measured),
                }
                for e in evaluations
            ]
        },
        header=("Evaluation set", "Weight", "Predicted", "Measured", "Baseline", "Change"),
        rows=tuple(
            (
                e.name,
                percent(e.weight, 0),
                span(e.predicted),
                span(e.measured),
                span(e.baseline_measured),
                _change(e),
            )
            for e in evaluations
        ),
        tall=len(evaluations),
    )


def _change(evaluation: EvalReport) -> str:
    ours, reference = evaluation.measured, evaluation.baseline_measured
    if ours is None or reference is None:
        return "–"
    relative = (ours.mean - reference.mean) / reference.mean
    return f"{signed(ours.mean - reference.mean)} ({relative * 100:+.1f} %)".replace("-", "−")


def _triple(interval: Interval | None) -> list[float | None] | None:
    if interval is None:
        return None
    return [finite(interval.low), finite(interval.mean), finite(interval.high)]


def _curve(report: Report) -> Figure | None:
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


def _calibration(fits: tuple[SetFit, ...]) -> Figure | None:
    """Leave-one-out predictions, each set centred on its own mean.

    Uncentred, the spread *between* sets would make any law look good.
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
        title="Can the law be trusted?",
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


@dataclass(frozen=True, slots=True)
class LawMatrix:
    """The coefficients t_ij as a table of shaded cells: ``(value, shade)``, shade in -5 ... 5."""

    domains: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[float, int], ...]], ...]
    caption: str
    hidden: int

    @classmethod
    def build(cls, fits: tuple[SetFit, ...]) -> LawMatrix | None:
        """At most 24 x 24 cells, those with the greatest coefficients; None without fits."""
        fits = tuple(f for f in fits if f.coefficients)
        if not fits:
            return None
        names = list(fits[0].coefficients)
        if len(names) > _MATRIX_SIDE:
            weight = {n: max(abs(f.coefficients.get(n, 0.0)) for f in fits) for n in names}
            kept = set(sorted(names, key=lambda n: -weight[n])[:_MATRIX_SIDE])
            names = [n for n in names if n in kept]
        shown = fits[:_MATRIX_SIDE]
        cells = [(f.eval_set, n, f.coefficients.get(n, 0.0)) for f in shown for n in names]
        scale = max((abs(v) for *_, v in cells if math.isfinite(v)), default=0.0) or 1.0
        rows = tuple(
            (
                f.eval_set,
                tuple((v := f.coefficients.get(n, 0.0), _shade(v, scale)) for n in names),
            )
            for f in shown
        )
        across = [c for c in cells if c[0] != c[1]]
        caption = "A negative coefficient helps: more of the column's domain, less loss in the row."
        if across:
            target, helper, value = min(across, key=lambda c: c[2])
            if value < 0:
                caption += f" Across domains, {helper} helps {target} most ({signed(value)[:-2]})."
        hidden = len(fits) * len(fits[0].coefficients) - len(cells)
        return cls(tuple(names), rows, caption, hidden)


def _shade(value: float, scale: float) -> int:
    if not math.isfinite(value):
        return 0
    return round(_SHADES * math.copysign(math.sqrt(abs(value) / scale), value))
