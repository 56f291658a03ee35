"""Numbers, times and states in words: the filters of every page."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from cuvee.answer import Interval
from cuvee.mixture import Mixture
from cuvee.wording import chance_words

__all__ = [
    "bits",
    "chance",
    "correlation",
    "count",
    "duration",
    "epochs",
    "factor",
    "finite",
    "mix_words",
    "moment",
    "percent",
    "ratio",
    "share_interval",
    "signed",
    "signed_fall",
    "signed_span",
    "span",
]

_MISSING = "–"


def finite(value: float | None, decimals: int = 6) -> float | None:
    """A rounded number that JSON can hold; None for what is missing, infinite or not a number."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, decimals)


def bits(value: float | None) -> str:
    """Bits per byte, four decimals."""
    return _MISSING if value is None or not math.isfinite(value) else f"{value:.4f}"


def signed(value: float | None, decimals: int = 4) -> str:
    """A difference in bits per byte with its sign (a true minus, so that columns line up)."""
    if value is None or not math.isfinite(value):
        return _MISSING
    rounded = round(value, decimals)
    return f"{rounded:+.{decimals}f}".replace("-", "−") if rounded else f"{0:.{decimals}f}"


def span(interval: Interval | None) -> str:
    """``mean [low, high]`` in bits per byte."""
    if interval is None:
        return _MISSING
    return f"{bits(interval.mean)} [{bits(interval.low)}, {bits(interval.high)}]"


def signed_span(interval: Interval | None, decimals: int = 4) -> str:
    """``mean [low, high]`` of a difference in bits per byte."""
    if interval is None:
        return _MISSING
    mean, low, high = (signed(v, decimals) for v in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def signed_fall(interval: Interval, decimals: int = 4) -> str:
    """A fall as the change that it is: a gain of 0.012 is written −0.0120."""
    fall = Interval(mean=-interval.mean, low=-interval.high, high=-interval.low)
    return signed_span(fall, decimals)


def correlation(interval: Interval | None) -> str:
    """``mean [low, high]`` with two decimals."""
    if interval is None:
        return _MISSING
    said = f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    return said.replace("-", "−")


def percent(share: float | None, decimals: int = 1) -> str:
    """A share in per cent; what would round to 100 or 0 without being it keeps its inequality."""
    if share is None or not math.isfinite(share):
        return _MISSING
    edge = 0.5 * 10**-decimals
    if 0 < share * 100 < edge:
        return f"< {10**-decimals:g} %"
    if 100 - edge < share * 100 < 100:
        return f"> {100 - 10**-decimals:g} %"
    return f"{share * 100:.{decimals}f} %"


def chance(probability: float | None) -> str:
    """A probability in the words of every report, set as this page sets per cent."""
    if probability is None or not math.isfinite(probability):
        return _MISSING
    return chance_words(probability).replace("%", " %")


def share_interval(interval: Interval) -> str:
    """``low – high`` in per cent."""
    return f"{interval.low * 100:.1f} – {interval.high * 100:.1f} %"


def ratio(value: float, reference: float) -> str:
    """How many times as much: ``×2.3``; empty when the reference is zero."""
    return factor(value / reference) if reference > 0 else ""


def factor(value: float) -> str:
    return f"×{value:.2f}" if value < 9.95 else f"×{value:.0f}"


def epochs(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.2f}"


def count(value: float | None) -> str:
    """A count in three significant digits: 950, 12.3 K, 4.56 M."""
    if value is None or not math.isfinite(value):
        return _MISSING
    for scale, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:g}"


def duration(seconds: float | None) -> str:
    """Seconds in words, two units at most."""
    if seconds is None or not math.isfinite(seconds):
        return _MISSING
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small, small_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def moment(when: datetime | None) -> str:
    """A time to the minute, in UTC."""
    return _MISSING if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def mix_words(mixture: Mixture) -> str:
    """A mixture for those who do not see its bar: the largest shares first."""
    ordered = sorted(mixture.root.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {percent(share, 0)}" for name, share in ordered[:6] if share > 0)
