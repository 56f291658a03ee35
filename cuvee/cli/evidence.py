"""What a report's answer rests on, in lines for a terminal; the page has the plots.

Every function yields nothing where the report has nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import NormalDist

from rich.table import Table
from rich.text import Text

from cuvee.answer import Report, SetFit, VerificationPlan
from cuvee.cli.words import (
    bits,
    called,
    change,
    change_half,
    counted,
    percent,
    plain_table,
    plus_minus,
    tokens,
)
from cuvee.mixture import Mixture
from cuvee.wording import another_words, billion_words, bridged_words, chance_words, decimals

__all__ = [
    "bridge_lines",
    "calibration_lines",
    "doctor_lines",
    "equivalent_lines",
    "front_table",
    "guardrail_table",
    "model_table",
    "plan_lines",
    "price_lines",
    "reuse_lines",
]

_SHOWN_MIXTURE = 3
_SEEN = 0.005  # a share that is not written as 0%
_BILLION = 10**9


def guardrail_table(report: Report) -> Table | None:
    """Whether each guarded set stays within what it may lose against the baseline."""
    if not report.guardrails:
        return None
    numbers = ("May rise", "Predicted", "Chance", "Measured")
    table = plain_table("Guardrail", *numbers, "", right=numbers)
    for one in report.guardrails:
        table.add_row(
            one.eval_set,
            change(one.max_increase),
            change_half(one.increase),
            chance_words(one.chance),
            "" if one.measured is None else change_half(one.measured),
            Text("holds") if one.holds else Text("BROKEN", style="bold red"),
        )
    return table


def plan_lines(plan: Iterable[VerificationPlan]) -> Iterator[str]:
    """What the paired runs can show, as it is known before they are made."""
    for one in plan:
        line = f"Against {called(one.reference)}: {counted(one.pairs, 'pair')}"
        if one.detectable is not None:
            line += f", which show a gain of {one.detectable:.4f} with 80% chance"
        if one.power is not None:
            line += f"; chance to show the predicted gain {chance_words(one.power)}"
            needed = one.pairs_for_power
            if needed is None:
                line += "; 80% would take over 100 pairs"
            elif needed != one.pairs:
                line += f"; {counted(needed, 'pair')} would do for 80%"
        yield line + "."


def equivalent_lines(report: Report) -> Iterator[str]:
    """How far the shares may move before the data would notice."""
    found = report.equivalents
    if found is None:
        return
    ranges = sorted(found.ranges.items(), key=lambda item: -item[1].mean)
    said = ", ".join(f"{n} {100 * r.low:.1f} to {100 * r.high:.1f}%" for n, r in ranges)
    yield (
        f"{percent(found.share_of_region)} of the allowed mixtures, as far as the data can tell "
        f"(within {found.tolerance:.4f} bits per byte): {said}."
    )
    for number, example in enumerate(found.examples, 1):
        yield f"Example {number}: {_mixture(example, len(example.root))}."


def price_lines(report: Report) -> Iterator[str]:
    """What more text would be worth, of every domain whose share its supply caps.

    Prices are for as many tokens as they say, those of shares at their caps first; a share below
    its cap has text enough.
    """
    held = sorted(
        (p for p in report.shadow_prices if p.binding), key=lambda p: -p.gain_per_billion.mean
    )
    level = f"{100 * report.confidence:g}% interval"
    for one in held:
        gain = one.gain or one.gain_per_billion
        many = tokens(one.tokens or _BILLION)
        each = one.gain_per_billion
        shown = [change(-value, decimals(each.mean)) for value in (each.mean, each.high, each.low)]
        worth = f"{shown[0]} ({shown[1]} to {shown[2]})"
        beyond = billion_words(one, worth)
        yield (
            f"{many[0].upper()}{many[1:]} more tokens of {one.domain}, whose share is at its cap "
            f"of {percent(one.cap)}: {change(-gain.mean)} bits per byte "
            f"({level} {change(-gain.high)} to {change(-gain.low)})"
            f"{f'; {beyond}' if beyond else ''}."
        )
    free = [f"{p.domain} ({percent(p.cap)})" for p in report.shadow_prices if not p.binding]
    if free:
        stand = (
            "its share is below its cap" if len(free) == 1 else "their shares are below the caps"
        )
        yield f"Worth nothing, for {stand} of supply: more of {', '.join(free)}."


def front_table(report: Report) -> Table | None:
    """The mixtures that no other beats on all parts of the objective."""
    if not report.front:
        return None
    parts = list(report.front[0].parts)
    table = plain_table(
        "",
        *parts,
        "Mixture",
        right=parts,
        title="Mixtures that no other beats on all parts (* nearest to the recommended)",
    )
    nearest = min(report.front, key=lambda p: _moved(p.mixture, report.recommended))
    for number, point in enumerate(
        sorted(report.front, key=lambda p: p.parts[parts[0]].mean), 1
    ):  # fmt: skip
        chosen = " *" if point is nearest else ""
        losses = [plus_minus(point.parts[part]) for part in parts]
        table.add_row(f"{number}{chosen}", *losses, _mixture(point.mixture, _SHOWN_MIXTURE))
    return table


def _moved(one: Mixture, other: Mixture | None) -> float:
    """Share that differs between two mixtures."""
    theirs = {} if other is None else other.root
    return sum(abs(share - theirs.get(name, 0.0)) for name, share in one.root.items())


def _mixture(mixture: Mixture, shown: int) -> str:
    largest = sorted(mixture.root.items(), key=lambda item: -item[1])
    said = [f"{name} {share:.0%}" for name, share in largest[:shown] if share >= _SEEN]
    rest = sum(share >= _SEEN for _, share in largest) - len(said)
    return ", ".join(said) + (f", {rest} more" if rest > 0 else "")


def bridge_lines(report: Report) -> Iterator[str]:
    """What ties the rungs' rankings together, and whether more would."""
    found = report.bridges
    if found is None:
        return
    line = f"{bridged_words(found)} at both ends of the ladder"
    before, after = found.agreement_before, found.agreement_after
    if before is not None and after is not None:
        line += (
            "; among the best candidates, rank correlation with the target "
            f"{before.mean:.2f} ({before.low:.2f} to {before.high:.2f}) by the cheapest rung's "
            f"prediction alone, {after.mean:.2f} ({after.low:.2f} to {after.high:.2f}) by all runs"
        )
    reason = f": {found.reason.rstrip('.')}" if found.reason else ""
    yield f"{line}; {another_words(found)}{reason}."


def calibration_lines(report: Report) -> Iterator[str]:
    """How often intervals held the runs that they were predicted without."""
    found = report.calibration
    if found is None:
        return
    elsewhere = found.rung is not None and found.rung < len(report.rungs) - 1
    whose = f"{report.rungs[found.rung or 0].kind} " if elsewhere else "target "
    if found.measured:
        z = NormalDist().inv_cdf((1 + report.confidence) / 2)
        inside = sum(
            abs(p - m) <= z * s
            for m, p, s in zip(found.measured, found.predicted, found.se, strict=True)
        )
        line = (
            f"{inside} of {len(found.measured)} {whose}runs lie inside the "
            f"{100 * report.confidence:g}% interval predicted without them"
        )
    else:
        levels = zip(found.levels, found.coverage, strict=True)
        said = ", ".join(f"{held:.0%} in {level:.0%}" for level, held in levels)
        line = f"Left-out intervals held {said}"
    if found.inflation > 1.005:
        line += f"; intervals were widened {found.inflation:.2f} times for it"
    yield line + "."


def model_table(report: Report) -> Table | None:
    """Which model predicts each evaluation set, and how it compares with the next best."""
    scored = [f for f in report.fits if f.scores]
    if not scored:
        return None
    table = plain_table(
        "Set", "Model (weight)", "Score", "Best other", "Score", "Error", right=("Score", "Error"),
        title="Models by left-out log density (nats per run) and error (bits per byte)",
    )  # fmt: skip
    for fit in scored:
        table.add_row(*_model_row(fit))
    return table


def _model_row(fit: SetFit) -> tuple[str, ...]:
    best = fit.chosen or max(fit.scores, key=lambda m: fit.scores[m])
    others = sorted((m for m in fit.scores if m != best), key=lambda m: -fit.scores[m])
    weight = fit.weights.get(best)
    score = fit.scores.get(best)
    return (
        fit.eval_set,
        best if weight is None else f"{best} ({weight:.0%})",
        "" if score is None else f"{score:.2f}",
        others[0] if others else "",
        f"{fit.scores[others[0]]:.2f}" if others else "",
        bits(fit.loo_rmse),
    )


def doctor_lines(report: Report) -> Iterator[str]:
    """The objective doctor's warnings."""
    if report.diagnosis is not None:
        yield from report.diagnosis.warnings


def reuse_lines(report: Report) -> Iterator[str]:
    """How many runs of each earlier job were used, and what is to be said of them."""
    for one in report.reuse:
        line = f"{one.source}: {counted(one.used, 'run')} used"
        if one.expressed:
            line += f", {one.expressed} of them re-expressed in this job's domains"
        if one.trust is not None:
            line += f", trust {one.trust:.2f}"
        if one.dropped:
            line += f"; {one.dropped} dropped"
        yield line + (f" ({'; '.join(one.reasons)})." if one.reasons else ".")
