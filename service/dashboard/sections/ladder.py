"""What each rung told, and whether cheap rungs rank mixtures as the target does."""

from __future__ import annotations

from cuvee.answer import BridgePlan, Interval, RungSummary
from service.dashboard.figures import Figure
from service.dashboard.formats import correlation
from service.dashboard.rows import Axis, Marks, rows_data

__all__ = ["agreement_figure", "bridge_sentence"]


def agreement_figure(rungs: tuple[RungSummary, ...], bridges: BridgePlan | None) -> Figure | None:
    """Rank correlation of each rung with the target; None when it was not measured."""
    found: list[tuple[str, Interval, str]] = []
    for index, rung in enumerate(rungs):
        if rung.agreement is not None:
            several = sum(r.kind == rung.kind for r in rungs[:-1]) > 1
            name = f"{rung.kind} (rung {index + 1})" if several else rung.kind
            found.append((name, rung.agreement, str(rung.shared)))
    measured = len(found)
    if bridges is not None:
        for name, agreement in (
            ("before bridges", bridges.agreement_before),
            ("after bridges", bridges.agreement_after),
        ):
            if agreement is not None:
                found.append((name, agreement, "–"))
    if not found:
        return None
    names = [name for name, *_ in found]
    return Figure(
        id="agreement",
        kind="rows",
        title="Do cheap runs rank mixtures as the target does?",
        caption=_caption(found[:measured] or found[-1:]),
        data=rows_data(
            Axis(
                "rank correlation with the target, 1 is perfect",
                "number",
                low=min(0.0, *(one.low for _, one, _ in found)),
                high=1.0,
            ),
            names,
            (Marks("agreement", "dot", "accent", [one for _, one, _ in found]),),
        ),
        header=("Rung", "Rank agreement", "Shared mixtures"),
        rows=tuple((name, correlation(one), shared) for name, one, shared in found),
        tall=len(found),
    )


def _caption(found: list[tuple[str, Interval, str]]) -> str:
    said = []
    for name, one, _ in found:
        word = (
            "ranks mixtures much as the target does"
            if one.low > 0.7
            else "cannot be relied on to rank mixtures"
            if one.low <= 0
            else "ranks mixtures in part as the target does"
        )
        said.append(f"{name} {word}: {correlation(one)}.")
    return " ".join(said)


def bridge_sentence(bridges: BridgePlan | None) -> str:
    """What bridges were run, and whether another is worth it; empty without a plan."""
    if bridges is None:
        return ""
    count = "1 bridge was run" if bridges.runs == 1 else f"{bridges.runs} bridges were run"
    more = "Another is worth its cost" if bridges.worth_another else "Another is not worth its cost"
    reason = f": {bridges.reason.rstrip('.')}." if bridges.reason else "."
    return f"{count} (target runs that tie the rungs' rankings together). {more}{reason}"
