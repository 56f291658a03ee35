"""What more text of a domain would be worth."""

from __future__ import annotations

from cuvee.answer import ShadowPrice
from service.dashboard.figures import Figure
from service.dashboard.formats import percent, signed_fall
from service.dashboard.rows import MAX_ROWS, Axis, Marks, cut, rows_data

__all__ = ["prices_figure"]


def prices_figure(prices: tuple[ShadowPrice, ...]) -> Figure | None:
    """The objective's fall with a billion more tokens of each domain, the dearest first."""
    if not prices:
        return None
    ordered = sorted(prices, key=lambda p: (-p.gain_per_billion.mean, not p.binding))
    return Figure(
        id="prices",
        kind="rows",
        title="What would a billion more tokens be worth?",
        caption=cut(_caption(ordered), len(ordered)),
        data=rows_data(
            Axis("fall of the objective, bits per byte", zero=True),
            [p.domain for p in ordered],
            (
                Marks(
                    "at its cap",
                    "dot",
                    "accent",
                    [p.gain_per_billion if p.binding else None for p in ordered],
                ),
                Marks(
                    "below its cap",
                    "hollow",
                    "muted",
                    [None if p.binding else p.gain_per_billion for p in ordered],
                ),
            ),
        ),
        header=("Domain", "Greatest share", "At its cap", "Objective, a billion more tokens"),
        rows=tuple(
            (
                p.domain,
                percent(p.cap),
                "yes" if p.binding else "no",
                signed_fall(p.gain_per_billion),
            )
            for p in ordered
        ),
        tall=min(len(ordered), MAX_ROWS),
    )


def _caption(ordered: list[ShadowPrice]) -> str:
    held = [p for p in ordered if p.binding]
    if not held:
        return "No share stands at its cap: more text would not change the recommendation."
    first, *others = held
    said = (
        f"A billion more tokens of {first.domain}: {signed_fall(first.gain_per_billion)} bits per "
        "byte"
    )
    if others:
        names = ", ".join(p.domain for p in others)
        stand = "stands at its cap" if len(others) == 1 else "stand at their caps"
        said += f"; {names} {stand}, too"
    return said + ". A domain below its cap has text enough for the recommended share."
