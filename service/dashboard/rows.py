"""Charts with a row for each name and an interval, a dot or a tick in it: one drawing for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cuvee.answer import Interval
from service.dashboard.formats import finite

__all__ = ["MAX_ROWS", "Axis", "Marks", "cut", "rows_data"]

MAX_ROWS = 40
"""Rows that a chart draws. More cannot be read; the table beside it has them all."""

Look = Literal["band", "dot", "hollow", "square", "tick"]
Tone = Literal["accent", "muted", "natural", "warn", "ink"]


@dataclass(frozen=True, slots=True)
class Axis:
    """The horizontal axis.

    Attributes:
        name: What is along it, with its unit and what is good.
        form: How its numbers are written.
        zero: Whether to draw a line at zero, which is then on the axis.
        log: Whether it is logarithmic; values that are not positive are left out.
        low: Where it starts, if that is known.
        high: Where it ends, if that is known.
    """

    name: str
    form: Literal["bits", "signed", "percent", "number"] = "bits"
    zero: bool = False
    log: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """One series: at most one mark in each row.

    Attributes:
        name: In the legend.
        look: ``band`` a broad bar over the interval, ``tick`` an upright line at the value; the
            others a symbol at the value with a thin line over the interval.
        tone: Its colour.
        values: By row; None where there is nothing to mark.
    """

    name: str
    look: Look
    tone: Tone
    values: Sequence[Interval | float | None]


def rows_data(axis: Axis, names: Sequence[str], series: Sequence[Marks]) -> dict[str, Any]:
    """What the chart of kind ``rows`` draws: the first ``MAX_ROWS`` rows.

    Series without any mark are left out.
    """
    return {
        "axis": {
            "name": axis.name,
            "form": axis.form,
            "zero": axis.zero,
            "log": axis.log,
            "low": finite(axis.low),
            "high": finite(axis.high),
        },
        "names": list(names[:MAX_ROWS]),
        "series": [
            {"name": one.name, "look": one.look, "tone": one.tone, "values": values}
            for one in series
            if any(values := [_triple(v, log=axis.log) for v in one.values[:MAX_ROWS]])
        ],
    }


def _triple(value: Interval | float | None, *, log: bool) -> list[float] | None:
    """Low, mean, high; None unless all three can be drawn."""
    if value is None:
        return None
    if not isinstance(value, Interval):
        value = Interval(mean=value, low=value, high=value)
    found = [x for x in map(finite, (value.low, value.mean, value.high)) if x is not None]
    return found if len(found) == 3 and (min(found) > 0 or not log) else None


def cut(caption: str, rows: int) -> str:
    """The caption, with a word on the rows that are in the table only."""
    if rows <= MAX_ROWS:
        return caption
    return f"{caption} Of the rows, the first {MAX_ROWS} of {rows} are drawn."
