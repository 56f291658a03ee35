"""What a chart is: data for the script, a caption that states the finding, a table for everyone.

Builders are pure functions from records to figures. ``kind`` names the drawing function in
``static/plots.js``; ``data`` is all that it gets, JSON values only.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cuvee.mixture import Mixture
from cuvee.records import LossPoint, Run
from cuvee.states import RunState
from service.dashboard.formats import bits, count, duration, finite, percent

__all__ = ["Figure", "best_run", "loss_curves", "runs_table", "search_curve"]

_MAX_POINTS = 1500


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart. Rows of the table are strings, ready to print."""

    id: str
    kind: str
    title: str
    caption: str
    data: Mapping[str, Any]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    tall: int = field(default=0)
    """Rows that need height of their own (categories on the vertical axis)."""
    words: tuple[int, ...] = ()
    """Columns of the table that hold words, beside the first."""


def best_run(runs: Iterable[Run], target: int, allowed: Callable[[Mixture], bool]) -> Run | None:
    """The run with the lowest objective at the target whose mixture keeps the constraints.

    References are measured too, and natural proportions may well break a cap.
    """
    measured = [
        (run.objective, run.id, run)
        for run in runs
        if run.rung == target and run.objective is not None and allowed(run.mixture)
    ]
    return min(measured)[2] if measured else None


def search_curve(
    runs: Iterable[Run],
    target: int,
    *,
    baseline: float | None,
    labels: Mapping[str, str],
    allowed: Callable[[Mixture], bool],
) -> Figure | None:
    """Best objective so far at the target rung, against seconds of training on every rung.

    Args:
        runs: The runs of a job, in any order.
        target: Index of the target rung.
        baseline: The baseline's objective at the target, if it has been measured.
        allowed: Whether a mixture keeps the constraints; the best is among those that do.
        labels: Words for a run's label, such as ``{"natural": "natural proportions"}``.

    Returns:
        None while nothing has been measured at the target.
    """
    done = [
        run
        for run in runs
        if run.state is RunState.SUCCEEDED and run.purpose == "search" and run.finished_at
    ]
    done.sort(key=lambda r: (r.finished_at, r.id))
    spent, best = 0.0, math.inf
    points: list[list[Any]] = []
    steps: list[list[float | None]] = []
    rows: list[tuple[str, ...]] = []
    measured, improved_at = 0, 0
    for run in done:
        spent += run.seconds or 0.0
        if run.rung != target or run.objective is None:
            continue
        measured += 1
        name, keeps = labels.get(run.label or "", ""), allowed(run.mixture)
        points.append([finite(spent, 2), finite(run.objective), name, keeps])
        if keeps and run.objective < best:
            best, improved_at = run.objective, measured
            steps.append([finite(spent, 2), finite(best)])
            rows.append((str(measured), duration(spent), bits(best), name or "searched"))
    if not steps:
        return None
    steps.append([finite(spent, 2), finite(best)])
    caption = f"Best so far {bits(best)} bits per byte after {_runs(measured)} at the target rung"
    if baseline is not None and baseline > 0:
        gain = baseline - best
        word = "below" if gain >= 0 else "above"
        caption += f", {bits(abs(gain))} ({percent(abs(gain) / baseline)}) {word} the baseline"
    since = measured - improved_at
    caption += (
        "; the last run improved it." if not since else f"; {_runs(since)} since it improved."
    )
    broken = sum(not keeps for *_, keeps in points)
    if broken:
        caption += f" {_runs(broken)} broke a constraint (hollow) and cannot be the best."
    return Figure(
        id="search",
        kind="search",
        title="Has it stopped improving?",
        caption=caption,
        data={
            "best": steps,
            "runs": _thin(points),
            "references": [] if baseline is None else [{"name": "baseline", "value": baseline}],
        },
        header=("Run", "Training time", "Best, bits per byte", "Mixture"),
        rows=tuple(rows),
    )


def loss_curves(points: Sequence[LossPoint]) -> Figure | None:
    """Loss of one run per evaluation set against trained tokens."""
    if not points:
        return None
    ordered = sorted(points, key=lambda p: p.step)
    names = list(ordered[-1].losses)
    last = ordered[-1]
    falling = [n for n in names if n in ordered[0].losses and len(ordered) > 1]
    drop = {n: ordered[0].losses[n].bits_per_byte - last.losses[n].bits_per_byte for n in falling}
    caption = f"After {count(last.tokens)} tokens"
    if drop:
        most = max(drop, key=lambda n: drop[n])
        caption += f" the loss on {most} has fallen most, by {bits(drop[most])} bits per byte."
    else:
        caption += ": the first evaluation of this run."
    return Figure(
        id="losses",
        kind="lines",
        title="How is training going?",
        caption=caption,
        data={
            "series": [
                {
                    "name": name,
                    "points": _thin(
                        [
                            [p.tokens, finite(p.losses[name].bits_per_byte)]
                            for p in ordered
                            if name in p.losses
                        ]
                    ),
                }
                for name in names
            ]
        },
        header=("Tokens", *names),
        rows=tuple(
            (
                count(p.tokens),
                *(bits(p.losses[n].bits_per_byte) if n in p.losses else "–" for n in names),
            )
            for p in ordered[-200:]
        ),
    )


def runs_table(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Runs as CSV: what was run, what came out, and the share of each domain."""
    facts = ("id", "rung", "kind", "purpose", "label", "state", "seed", "train_tokens", "seconds")
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["number", *facts, "bits_per_byte", *(f"share.{name}" for name in names)])
    for number, run in enumerate(runs, 1):
        known = (getattr(run, fact) for fact in facts)
        writer.writerow([number, *known, run.objective, *run.mixture.shares(names)])
    return out.getvalue()


def _thin(points: list[list[Any]]) -> list[list[Any]]:
    """At most ``_MAX_POINTS`` evenly spaced points, the last one always among them."""
    if len(points) <= _MAX_POINTS:
        return points
    stride = math.ceil(len(points) / _MAX_POINTS)
    return points[(len(points) - 1) % stride :: stride]


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"
