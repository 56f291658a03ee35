"""Which other mixtures are as good, and which are best for other trade-offs."""

from __future__ import annotations

from cuvee.answer import EquivalentSet, FrontPoint
from cuvee.mixture import Mixture
from service.dashboard.figures import Figure
from service.dashboard.formats import bits, finite, percent, span
from service.dashboard.rows import MAX_ROWS, Axis, Marks, cut, rows_data

__all__ = ["equivalents_figure", "front_figure", "named_mixtures"]


_SAME = 1e-3
"""Share that differs between mixtures that are called the same."""


def equivalents_figure(found: EquivalentSet | None, natural: dict[str, float]) -> Figure | None:
    """How far each share may move before the data would notice.

    Args:
        found: The mixtures that cannot be told from the recommendation.
        natural: Natural shares by domain.
    """
    if found is None or not found.ranges:
        return None
    names = sorted(found.ranges, key=lambda n: -found.ranges[n].mean)
    width = {n: found.ranges[n].high - found.ranges[n].low for n in names}
    loose, tight = max(names, key=lambda n: width[n]), min(names, key=lambda n: width[n])
    caption = (
        f"{percent(found.share_of_region)} of the allowed mixtures are as good as the recommended "
        f"one, as far as the data can tell (within {bits(found.tolerance)} bits per byte). "
        f"{loose} is the freest ({_reach(found, loose)})"
    )
    if tight != loose:
        caption += f", {tight} the most fixed ({_reach(found, tight)})"
    return Figure(
        id="equivalents",
        kind="rows",
        title="Which mixtures are as good?",
        caption=cut(caption + ".", len(names)),
        data=rows_data(
            Axis("share of tokens", "percent", low=0.0),
            names,
            (
                Marks("as good", "band", "accent", [found.ranges[n] for n in names]),
                Marks("natural", "tick", "natural", [natural.get(n) for n in names]),
                Marks("recommended", "dot", "accent", [found.ranges[n].mean for n in names]),
            ),
        ),
        header=(
            "Domain",
            "Recommended",
            "Least",
            "Greatest",
            *(f"Example {number}" for number in range(1, len(found.examples) + 1)),
        ),
        rows=tuple(
            (
                n,
                percent(found.ranges[n].mean),
                percent(found.ranges[n].low),
                percent(found.ranges[n].high),
                *(percent(example.root.get(n, 0.0)) for example in found.examples),
            )
            for n in names
        ),
        tall=min(len(names), MAX_ROWS),
    )


def _reach(found: EquivalentSet, name: str) -> str:
    one = found.ranges[name]
    return f"{one.low * 100:.1f} to {one.high * 100:.1f} %"


def front_figure(front: tuple[FrontPoint, ...], recommended: Mixture | None) -> Figure | None:
    """Mixtures that no other beats on all parts of the objective.

    Two parts make a plane; with more, every point is a line across one axis a part.
    """
    if not front:
        return None
    parts = list(front[0].parts)
    ordered = _ordered(front)
    chosen, word = _chosen(ordered, recommended)
    spans = ", ".join(
        f"{part} from {bits(min(values))} to {bits(max(values))}"
        for part in parts
        for values in [[p.parts[part].mean for p in ordered]]
    )
    caption = (
        f"{len(ordered)} mixtures that no other beats on all parts: along them {spans} bits per "
        "byte."
    )
    if chosen is not None:
        caption += f" Number {chosen + 1} is {word}."
    return Figure(
        id="front",
        kind="front" if len(parts) == 2 else "parallel",
        title="What would another trade-off give?",
        caption=caption,
        data={
            "parts": parts,
            "points": [
                [[finite(x) for x in (one.low, one.mean, one.high)] for one in point.parts.values()]
                for point in ordered
            ],
            "recommended": chosen,
            "word": word,
        },
        header=("Mixture", *parts),
        rows=tuple(
            (
                f"{number}, {word}" if chosen == number - 1 else str(number),
                *(span(one) for one in point.parts.values()),
            )
            for number, point in enumerate(ordered, 1)
        ),
    )


def _ordered(front: tuple[FrontPoint, ...]) -> list[FrontPoint]:
    """Best on the first part first."""
    first = next(iter(front[0].parts))
    return sorted(front, key=lambda p: p.parts[first].mean)


def _chosen(ordered: list[FrontPoint], recommended: Mixture | None) -> tuple[int | None, str]:
    """The point of the front to point out, and why: the recommendation, or what is nearest to it.

    Near by the share that would have to move.
    """
    if recommended is None:
        return None, ""

    def moved(point: FrontPoint) -> float:
        names = point.mixture.root.keys() | recommended.root.keys()
        return sum(
            abs(point.mixture.root.get(n, 0.0) - recommended.root.get(n, 0.0))
            for n in sorted(names)
        )

    index = min(range(len(ordered)), key=lambda i: moved(ordered[i]))
    same = moved(ordered[index]) < _SAME
    return index, "recommended" if same else "nearest to the recommended"


def named_mixtures(
    found: EquivalentSet | None, front: tuple[FrontPoint, ...], recommended: Mixture | None
) -> dict[str, list[tuple[str, Mixture]]]:
    """Mixtures to show as bars under the figure of each id, with what to call them."""
    shown: dict[str, list[tuple[str, Mixture]]] = {}
    if found is not None and found.examples:
        first = [] if recommended is None else [("Recommended", recommended)]
        examples = [(f"Example {n}", m) for n, m in enumerate(found.examples, 1)]
        shown["equivalents"] = first + examples
    if front:
        ordered = _ordered(front)
        chosen, word = _chosen(ordered, recommended)
        shown["front"] = [
            (f"{n}, {word}" if chosen == n - 1 else str(n), p.mixture)
            for n, p in enumerate(ordered, 1)
        ]
    return shown
