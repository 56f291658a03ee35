"""Numbers as people read them: shares, losses, durations, ages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cuvee.answer import Interval

__all__ = [
    "ago",
    "bits",
    "called",
    "change",
    "change_half",
    "counted",
    "duration",
    "gain",
    "percent",
    "plain_table",
    "plus_minus",
    "range_of",
    "tokens",
]


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def bits(value: float | None) -> str:
    """Bits per byte, to the third decimal: finer differences are noise at proxy size."""
    return "" if value is None else f"{value:.3f}"


def plus_minus(interval: Interval | None) -> str:
    """``1.234 ±0.010``; the half width, since these intervals are close to symmetric."""
    if interval is None:
        return ""
    return f"{interval.mean:.3f} ±{(interval.high - interval.low) / 2:.3f}"


def range_of(interval: Interval) -> str:
    """A share with its interval: ``31.0% (24.2 to 38.1)``."""
    return f"{percent(interval.mean)} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def gain(value: float) -> str:
    """A difference of losses in words: lower is better."""
    return f"{abs(value):.4f} bits per byte {'better' if value >= 0 else 'worse'}"


def duration(seconds: float) -> str:
    """``45s``, ``2m 05s``, ``3h 10m``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def ago(then: datetime, now: datetime) -> str:
    seconds = (now - then).total_seconds()
    if seconds < 86_400:
        return f"{duration(seconds)} ago"
    return f"{seconds / 86_400:.0f} days ago"


def change(value: float, decimals: int = 4) -> str:
    """A difference with its sign, to the fourth decimal; nothing has none."""
    rounded = round(value, decimals)
    return f"{rounded:+.{decimals}f}" if rounded else f"{0:.{decimals}f}"


def change_half(interval: Interval) -> str:
    """``+0.0112 ±0.0102``: a difference with the half width of its interval."""
    return f"{change(interval.mean)} ±{(interval.high - interval.low) / 2:.4f}"


def tokens(number: int) -> str:
    """``a billion``, ``50 billion``, ``62.5 million``, ``10,000``."""
    for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"a {name}" if number == size else f"{number / size:.3g} {name}"
    return f"{number:,}"


def called(reference: str) -> str:
    words = {"natural": "natural proportions", "uniform": "the uniform mixture"}
    return words.get(reference, f"the {reference}")


def counted(number: int, noun: str) -> str:
    """``1 run``, ``3 runs``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def plain_table(*columns: str, right: Iterable[str] = (), title: str | None = None) -> Table:
    """A table with one rule under its head, tight enough for 80 columns."""
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
        title_style="",
    )
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table
