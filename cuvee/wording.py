"""How chances are worded, wherever they are said: in a verdict, a terminal, a page."""

from __future__ import annotations

__all__ = ["chance_words"]


def chance_words(chance: float) -> str:
    """A probability; never a flat 100% or 0%, which no finite number of runs shows.

    What rounding to the tenth of a per cent would call certain is given as a bound.
    """
    if chance > 0.999:
        return "over 99.9%"
    if chance < 0.001:
        return "under 0.1%"
    return f"{100 * chance:.1f}%"
