"""What more text of a domain would be worth."""

from __future__ import annotations

from cuvee.answer import Interval, ShadowPrice
from service.dashboard.figures import Figure
from service.dashboard.formats import count, percent, signed_fall
from service.dashboard.rows import MAX_ROWS, Axis, Marks, cut, rows_data

__all__ = ["prices_figure"]

BILLION = 10**9
_FARTHEST = 10.0
"""How many times what was tried a price is stretched to a billion tokens: returns diminish."""


def prices_figure(prices: tuple[ShadowPrice, ...]) -> Figure | None:
    """The objective's fall with more tokens of each domain, the dearest first.

    A price is for a billion tokens, or for as many as the runs can speak for. None when no share
    stands at its cap: then every price is zero.
    """
    if not any(p.binding for p in prices):
        return None
    ordered = sorted(prices, key=lambda p: (-_tried(p).mean, not p.binding))
    whole = all(_tokens(p) == BILLION for p in ordered)
    return Figure(
        id="prices",
        kind="rows",
        title="What would more text be worth?",
        caption=cut(_caption(ordered), len(ordered)),
        data=rows_data(
            Axis("fall of the objective, bits per byte", zero=True),
            [
                f"{p.domain}, +{count(_tokens(p))}" if p.binding and not whole else p.domain
                for p in ordered
            ],
            (
                Marks(
                    "at its cap",
                    "dot",
                    "accent",
                    [_tried(p) if p.binding else None for p in ordered],
                ),
                Marks(
                    "below its cap",
                    "hollow",
                    "muted",
                    [None if p.binding else _tried(p) for p in ordered],
                ),
            ),
        ),
        header=(
            "Domain",
            "Greatest share",
            "At its cap",
            "More tokens",
            "Objective with them",
            "With a billion",
        ),
        rows=tuple(
            (
                p.domain,
                percent(p.cap),
                "yes" if p.binding else "no",
                count(_tokens(p)),
                signed_fall(_tried(p)),
                _for_a_billion(p),
            )
            for p in ordered
        ),
        tall=min(len(ordered), MAX_ROWS),
    )


def _tokens(price: ShadowPrice) -> int:
    return BILLION if price.tokens is None or price.gain is None else price.tokens


def _tried(price: ShadowPrice) -> Interval:
    """The gain with ``_tokens`` more."""
    return price.gain_per_billion if price.gain is None else price.gain


def _for_a_billion(price: ShadowPrice) -> str:
    if BILLION / max(_tokens(price), 1) > _FARTHEST:
        return "farther than runs can tell"
    return signed_fall(price.gain_per_billion)


def _caption(ordered: list[ShadowPrice]) -> str:
    first, *others = [p for p in ordered if p.binding]
    many = "A billion" if _tokens(first) == BILLION else count(_tokens(first))
    if _tried(first).high < 0.00005:
        return f"{many} more tokens of {first.domain} would change nothing that can be seen."
    said = f"{many} more tokens of {first.domain}: {signed_fall(_tried(first))} bits per byte"
    if _FARTHEST >= BILLION / max(_tokens(first), 1) > 1:
        said += f", which makes {signed_fall(first.gain_per_billion)} at most for a billion"
    if others:
        names = ", ".join(p.domain for p in others)
        stand = "stands at its cap" if len(others) == 1 else "stand at their caps"
        said += f"; {names} {stand}, too"
    return said + ". A domain below its cap has text enough for the recommended share."
