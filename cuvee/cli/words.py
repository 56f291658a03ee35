"""Numbers as people read them: shares, losses, durations, ages."""

from __future__ import annotations

from datetime import datetime

from cuvee.answer import Interval

__all__ = ["ago", "bits", "duration", "gain", "percent", "plus_minus", "range_of"]


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
