"""What is said of numbers in the same words everywhere: in a verdict, a terminal, a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from cuvee.answer import BridgePlan, ShadowPrice

__all__ = [
    "another_words",
    "billion_words",
    "bridged_words",
    "chance_words",
    "decimals",
    "shared_limits",
    "some_names",
]

_NAMES = 4
_BILLION = 10**9
_FARTHEST = 10
"""How many times what was tried a price is stretched to a billion tokens: returns diminish."""


def chance_words(chance: float) -> str:
    """A probability; never a flat 100% or 0%, which no finite number of runs shows.

    What rounding to the tenth of a per cent would call certain is given as a bound.
    """
    if chance > 0.999:
        return "over 99.9%"
    if chance < 0.001:
        return "under 0.1%"
    return f"{100 * chance:.1f}%"


def billion_words(price: ShadowPrice, gain: str) -> str:
    """What a billion more tokens would be worth, where ``price.gain`` is for another number.

    Args:
        price: Of a cap.
        gain: ``price.gain_per_billion`` as the reader is used to see a change.

    Returns:
        Words that stand beside the price; empty where it is for a billion.
    """
    if price.gain is None or price.tokens in (None, _BILLION):
        return ""
    if price.tokens > _BILLION:
        return f"{gain} for each billion"
    if price.gain == price.gain_per_billion:
        return "more would not be used"
    if price.tokens * _FARTHEST < _BILLION:
        return "a billion is farther than the runs can tell"
    return f"{gain} at most for a billion"


def bridged_words(bridges: BridgePlan) -> str:
    """How many mixtures were measured at both the cheapest rung and the target."""
    return (
        "1 mixture was measured" if bridges.runs == 1 else f"{bridges.runs} mixtures were measured"
    )


def another_words(bridges: BridgePlan) -> str:
    """Whether one more would repair the ranking; what ended the search is in the reason."""
    more = "another would repair the ranking"
    return f"{more} further" if bridges.worth_another else f"{more} too little for its cost"


def shared_limits(held: Iterable[tuple[str, str]]) -> list[tuple[tuple[str, ...], str]]:
    """What limits shares, each limit once with the domains that it holds.

    Args:
        held: Domains with what holds their share.

    Returns:
        Domains and limit, in the order of the first of each.
    """
    found: dict[str, list[str]] = {}
    for name, limit in held:
        found.setdefault(limit, []).append(name)
    return [(tuple(names), limit) for limit, names in found.items()]


def some_names(names: Sequence[str]) -> str:
    """Names in a row, of many the first four and how many more."""
    shown = [*names[:_NAMES], *[f"{len(names) - _NAMES} more"][: len(names) > _NAMES]]
    return ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else "".join(shown)


def decimals(value: float) -> int:
    """Decimals that show two digits of a loss or a difference: four at least, eight at most."""
    if value == 0 or not math.isfinite(value):
        return 4
    return min(8, max(4, 1 - math.floor(math.log10(abs(value)))))
