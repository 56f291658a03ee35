"""What more text of a domain would be worth."""

from __future__ import annotations

from cuvee.answer import Interval, Report, ShadowPrice
from cuvee.wording import billion_words, decimals
from service.dashboard.figures import Figure
from service.dashboard.formats import count, percent, signed_fall
from service.dashboard.rows import MAX_ROWS, Axis, Marks, cut, rows_data

__all__ = ["PRICES_HEADER", "price_rows", "prices_figure", "supply_sentence"]

PRICES_HEADER = (
    "Domain",
    "Greatest share",
    "At its cap",
    "More tokens",
    "Objective with them",
    "And a billion",
)

_BILLION = 10**9
_UNSEEN = 0.00005


def prices_figure(prices: tuple[ShadowPrice, ...]) -> Figure | None:
    """The objective's fall with more tokens of each domain, the dearest first.

    A price is for as many tokens as it says. None when no share stands at its cap: then every
    price is zero, and the table tells that alone.
    """
    if not any(p.binding for p in prices):
        return None
    ordered = _ordered(prices)
    return Figure(
        id="prices",
        kind="rows",
        title="What would more text be worth?",
        caption=cut(_sentence(prices), len(ordered)),
        data=rows_data(
            Axis("fall of the objective, bits per byte", zero=True),
            [f"{p.domain}, +{count(_tokens(p))}" if p.binding else p.domain for p in ordered],
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
        header=PRICES_HEADER,
        rows=price_rows(prices),
        tall=min(len(ordered), MAX_ROWS),
        words=(2, 5),
    )


def price_rows(prices: tuple[ShadowPrice, ...]) -> tuple[tuple[str, ...], ...]:
    """A row for every domain whose share its supply caps, those at their caps first."""
    return tuple(
        (
            p.domain,
            percent(p.cap),
            "yes" if p.binding else "no",
            count(_tokens(p)),
            signed_fall(_tried(p)) if p.binding else "not binding: 0",
            _beyond(p) if p.binding else "",
        )
        for p in _ordered(prices)
    )


def supply_sentence(report: Report) -> str:
    """What the dearest text would be worth, in words, or why none would be worth anything."""
    if any(p.binding for p in report.shadow_prices):
        return _sentence(report.shadow_prices)
    if report.shadow_prices:
        return (
            "No share stands at the cap of its supply: more text would not change the "
            "recommendation."
        )
    if all(d.epochs is None for d in report.domains):
        return (
            "The job gives no length of the run that the mixture is for (constraints."
            "target_tokens), so supply caps no share and more text has no price."
        )
    return "At the length of the run that the mixture is for, supply caps no share."


def _sentence(prices: tuple[ShadowPrice, ...]) -> str:
    first, *others = [p for p in _ordered(prices) if p.binding]
    many = "A billion" if _tokens(first) == _BILLION else count(_tokens(first))
    if _tried(first).high < _UNSEEN:
        return f"{many} more tokens of {first.domain} would change nothing that can be seen."
    said = f"{many} more tokens of {first.domain}: {signed_fall(_tried(first))} bits per byte"
    if beyond := _beyond(first):
        said += f" ({beyond})"
    if others:
        names = ", ".join(p.domain for p in others)
        stand = "stands at its cap" if len(others) == 1 else "stand at their caps"
        said += f"; {names} {stand}, too"
    return said + ". A domain below its cap has text enough for the recommended share."


def _ordered(prices: tuple[ShadowPrice, ...]) -> list[ShadowPrice]:
    return sorted(prices, key=lambda p: (not p.binding, -_tried(p).mean))


def _tokens(price: ShadowPrice) -> int:
    return _BILLION if price.tokens is None or price.gain is None else price.tokens


def _tried(price: ShadowPrice) -> Interval:
    """The gain with ``_tokens`` more."""
    return price.gain_per_billion if price.gain is None else price.gain


def _beyond(price: ShadowPrice) -> str:
    whole = price.gain_per_billion
    return billion_words(price, signed_fall(whole, decimals(whole.mean)))
