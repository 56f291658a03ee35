"""What each rung told, and whether cheap rungs rank mixtures as the target does."""

from __future__ import annotations

from dataclasses import dataclass

from cuvee.answer import BridgePlan, Interval, RungSummary
from cuvee.wording import another_words, bridged_words
from service.dashboard.figures import Figure
from service.dashboard.formats import correlation
from service.dashboard.rows import Axis, Marks, rows_data

__all__ = ["agreement_figure", "bridge_sentence"]


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    measured: Interval | None
    shared: str = "–"
    modelled: Interval | None = None


def agreement_figure(rungs: tuple[RungSummary, ...], bridges: BridgePlan | None) -> Figure | None:
    """Rank correlation of each rung with the target; None when nothing is known of it."""
    found = [
        _Row(_name(rungs, index), rung.agreement, str(rung.shared), rung.modelled)
        for index, rung in enumerate(rungs)
        if rung.agreement is not None or rung.modelled is not None
    ]
    told = _caption(found)
    if bridges is not None:
        for name, agreement in (
            ("best candidates, by the cheapest rung", bridges.agreement_before),
            ("best candidates, by all runs", bridges.agreement_after),
        ):
            if agreement is not None:
                found.append(_Row(name, agreement))
    if not found:
        return None
    ends = [one.low for row in found for one in (row.measured, row.modelled) if one is not None]
    return Figure(
        id="agreement",
        kind="rows",
        title="Do cheap runs rank mixtures as the target does?",
        caption=told,
        data=rows_data(
            Axis(
                "rank correlation with the target, 1 is perfect",
                "number",
                low=min(0.0, *ends),
                high=1.0,
            ),
            [row.name for row in found],
            (
                Marks(
                    "by the model, without noise", "band", "natural", [r.modelled for r in found]
                ),
                Marks("measured", "dot", "accent", [r.measured for r in found]),
            ),
        ),
        header=("Rung", "Measured", "Shared mixtures", "By the model, without noise"),
        rows=tuple(
            (row.name, correlation(row.measured), row.shared, correlation(row.modelled))
            for row in found
        ),
        tall=len(found),
    )


def _name(rungs: tuple[RungSummary, ...], index: int) -> str:
    kind = rungs[index].kind
    alone = sum(rung.kind == kind for rung in rungs[:-1]) == 1
    return kind if alone else f"{kind} (rung {index})"


def _caption(found: list[_Row]) -> str:
    said = []
    for row in found:
        one = row.measured or row.modelled
        assert one is not None, "rows without either are not made"
        word = (
            "ranks mixtures much as the target does"
            if one.low > 0.7
            else "cannot be relied on to rank mixtures"
            if one.low <= 0
            else "ranks mixtures in part as the target does"
        )
        source = "" if row.measured is not None else " by the model"
        said.append(f"{row.name} {word}{source}: {correlation(one)}.")
    return " ".join(said)


def bridge_sentence(bridges: BridgePlan | None) -> str:
    """What ties the rungs' rankings together, and whether more would; empty without a plan."""
    if bridges is None:
        return ""
    count = f"{bridged_words(bridges)} at both ends of the ladder"
    before, after = bridges.agreement_before, bridges.agreement_after
    if before is not None and after is not None:
        count += (
            ". Among the best candidates, rank correlation with the target is "
            f"{correlation(before)} by the cheapest rung's prediction alone, {correlation(after)} "
            "by all runs"
        )
    reason = f": {bridges.reason.rstrip('.')}." if bridges.reason else "."
    return f"{count}. {another_words(bridges).capitalize()}{reason}"
