"""The report as text: the table of shares and losses, and the sentences under it.

``report_view`` gives a rich renderable, so the same table appears in ``cuvee report`` and in the
demo, with colours in a terminal and without any in a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cuvee.answer import DomainShare, EvalReport, Interval, PairedDifference, Report
from cuvee.cli import evidence
from cuvee.cli.words import (
    bits,
    called,
    counted,
    duration,
    gain,
    percent,
    plain_table,
    plus_minus,
    range_of,
)
from cuvee.wording import chance_words, shared_limits, some_names

__all__ = ["gain_lines", "report_view", "share_table"]


def report_view(report: Report) -> RenderableType:
    """What a report says that fits a terminal; the HTML report has the plots.

    The gains stand in place of the verdict, which says the same in a single paragraph.
    """
    parts: list[RenderableType] = []
    if report.refused or report.recommended is None:
        parts += [Text(report.verdict, style="yellow"), Text()]
    else:
        parts += [share_table(report), Text()]
    if (guardrails := evidence.guardrail_table(report)) is not None:
        parts += [guardrails, Text()]
    if (front := evidence.front_table(report)) is not None:
        parts += [front, Text()]
    parts.append(_sections(report))
    if (models := evidence.model_table(report)) is not None:
        parts += [Text(), models]
    return Group(*parts)


def _sections(report: Report) -> Table:
    """Sentences beside the subject that they are about; subjects without any are left out."""
    missing = report.refused and report.refused not in report.verdict
    subjects: tuple[tuple[str, Iterable[str], str], ...] = (
        ("Missing", [report.refused or ""] if missing else [], "yellow"),
        ("Gain", gain_lines(report), "bold"),
        ("Plan", evidence.plan_lines(report.plan), ""),
        ("As good", evidence.equivalent_lines(report), ""),
        ("Limits", _limits(report), ""),
        ("Supply", evidence.price_lines(report), ""),
        ("Rungs", _rungs(report), ""),
        ("Bridges", evidence.bridge_lines(report), ""),
        ("Calibration", evidence.calibration_lines(report), ""),
        ("Doctor", evidence.doctor_lines(report), "yellow"),
        ("Earlier jobs", evidence.reuse_lines(report), ""),
        ("Stopped", [report.stop_reason] if report.stop_reason else [], ""),
        ("Notes", report.notes, ""),
    )
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for subject, lines, style in subjects:
        for number, line in enumerate(lines):
            grid.add_row("" if number else subject, Text(line, style=style))
    return grid


def share_table(report: Report) -> Table:
    """Domain by domain: natural and recommended share; predicted and measured loss.

    An evaluation set belongs to the domain of its name; those without one follow, then the
    objective. Losses are in bits per byte with the half width of their interval.
    """
    level = f"{100 * report.confidence:g}%"
    numbers = ("Natural", "Recommended", "Predicted", "Measured", "Baseline")
    table = plain_table(
        "Domain",
        *numbers,
        right=numbers,
        title=f"Shares of tokens; losses in bits per byte; {level} intervals",
    )
    sets = {e.name: e for e in report.evaluations}
    for domain in report.domains:
        table.add_row(*_row(domain.name, domain, sets.pop(domain.name, None)))
    for evaluation in sets.values():
        table.add_row(*_row(evaluation.name, None, evaluation))
    table.add_section()
    table.add_row(
        "objective",
        "",
        "",
        plus_minus(report.predicted_objective),
        plus_minus(report.measured_objective),
        _baseline_objective(report),
        style="bold",
    )
    return table


def _row(name: str, domain: DomainShare | None, losses: EvalReport | None) -> tuple[str, ...]:
    return (
        name,
        percent(domain.natural) if domain else "",
        range_of(domain.recommended) if domain else "",
        plus_minus(losses.predicted) if losses else "",
        plus_minus(losses.measured) if losses else "",
        bits(losses.baseline_measured.mean) if losses and losses.baseline_measured else "",
    )


def _baseline_objective(report: Report) -> str:
    for difference in report.verification:
        if difference.reference == "baseline" and difference.pairs:
            values = [reference for _, reference, _ in difference.pairs]
            return bits(math.fsum(values) / len(values))
    return ""


def gain_lines(report: Report) -> Iterator[str]:
    """One sentence per reference: how much better, in bits per byte, and how sure that is.

    Measured differences come from paired runs; a reference without them gets the prediction, which
    says that it is one.
    """
    told = {d.reference for d in report.verification}
    if all(domain.natural == domain.baseline for domain in report.domains):
        told.add("natural")  # the same mixture by another name
    for difference in report.verification:
        yield _measured(difference, report.confidence)
    for reference, predicted in report.predicted_gain.items():
        if reference not in told:
            chance = report.chance_of_beating.get(reference)
            sure = "" if chance is None else f"; chance of being better {chance_words(chance)}"
            yield (
                f"Predicted, not measured: {gain(predicted.mean)} than {called(reference)} "
                f"({_interval(predicted, report.confidence)}{sure})."
            )


def _measured(difference: PairedDifference, confidence: float) -> str:
    value, reference = difference.difference, called(difference.reference)
    pairs = counted(len(difference.pairs), "paired run")
    evidence = (
        f"({_interval(value, confidence)}; chance of being better "
        f"{chance_words(difference.chance)}; {pairs})."
    )
    if value.low > 0:
        return f"Better than {reference} by {value.mean:.4f} bits per byte {evidence}"
    if value.high < 0:
        return f"Worse than {reference} by {-value.mean:.4f} bits per byte {evidence}"
    return f"Not shown to beat {reference}: {gain(value.mean)} {evidence}"


def _interval(interval: Interval, confidence: float) -> str:
    return f"{100 * confidence:g}% interval {interval.low:+.4f} to {interval.high:+.4f}"


def _limits(report: Report) -> Iterator[str]:
    held = [(domain.name, domain.binding) for domain in report.domains if domain.binding]
    shares = {domain.name: domain.recommended.mean for domain in report.domains}
    for names, limit in shared_limits(held):
        if len(names) == 1:
            yield f"{names[0]} is held at {percent(shares[names[0]])} by {limit}"
        else:
            yield f"{some_names(names)} are held by {limit}"
    epochs = [(d.name, d.epochs) for d in report.domains if d.epochs is not None]
    if epochs:
        said = ", ".join(f"{name} {times:.2g}" for name, times in epochs)
        yield f"Epochs at the target length: {said}"


def _rungs(report: Report) -> Iterator[str]:
    target = report.rungs[-1].kind if report.rungs else ""
    for rung in report.rungs:
        runs = counted(rung.runs, "run")
        line = f"{rung.kind}: {runs}, {duration(rung.seconds)} of computing"
        if rung.failed:
            line += f", {rung.failed} failed"
        if rung.agreement is not None:
            line += (
                f"; ranks mixtures like {target} does: {rung.agreement.mean:.2f} "
                f"({rung.agreement.low:.2f} to {rung.agreement.high:.2f}, "
                f"{rung.shared} mixtures)"
            )
        if rung.modelled is not None:
            line += (
                f"; by the model {rung.modelled.mean:.2f} "
                f"({rung.modelled.low:.2f} to {rung.modelled.high:.2f})"
            )
        yield line
