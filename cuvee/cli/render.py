"""The report as text: the table of shares and losses, and the sentences under it.

``report_view`` gives a rich renderable, so the same table appears in ``cuvee report`` and in the
demo, with colours in a terminal and without any in a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cuvee.answer import DomainShare, EvalReport, Interval, PairedDifference, Report
from cuvee.cli.words import bits, duration, gain, percent, plus_minus, range_of

__all__ = ["gain_lines", "report_view", "share_table"]


def report_view(report: Report) -> RenderableType:
    """What a report says that fits a terminal; the HTML report has the plots.

    The gains stand in place of the verdict, which says the same in a single paragraph.
    """
    parts: list[RenderableType] = []
    if report.refused or report.recommended is None:
        parts.append(Text(report.verdict, style="yellow"))
    else:
        parts += [share_table(report), Text()]
    parts += [Text(line, style="bold") for line in gain_lines(report)]
    parts += [Text(line) for line in _limits(report)]
    parts += [Text(line) for line in _rungs(report)]
    if report.stop_reason:
        parts.append(Text(f"Stopped: {report.stop_reason}"))
    parts += [Text(f"Note: {note}") for note in report.notes]
    return Group(*parts)


def share_table(report: Report) -> Table:
    """Domain by domain: natural and recommended share; predicted and measured loss.

    An evaluation set belongs to the domain of its name; those without one follow, then the
    objective. Losses are in bits per byte with the half width of their interval.
    """
    level = f"{100 * report.confidence:g}%"
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # tighter than usual, to fit 80 columns
        title=f"Shares of tokens; losses in bits per byte; {level} intervals",
        title_justify="left",
        title_style="",
    )
    table.add_column("Domain")
    table.add_column("Natural", justify="right")
    table.add_column("Recommended", justify="right")
    table.add_column("Predicted", justify="right")
    table.add_column("Measured", justify="right")
    table.add_column("Baseline", justify="right")
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
            sure = "" if chance is None else f"; chance of being better {_chance(chance)}"
            yield (
                f"Predicted, not measured: {gain(predicted.mean)} than {_called(reference)} "
                f"({_interval(predicted, report.confidence)}{sure})."
            )


def _measured(difference: PairedDifference, confidence: float) -> str:
    value, reference = difference.difference, _called(difference.reference)
    pairs = len(difference.pairs)
    evidence = (
        f"({_interval(value, confidence)}; chance of being better {_chance(difference.chance)}; "
        f"{pairs} paired {'run' if pairs == 1 else 'runs'})."
    )
    if value.low > 0:
        return f"Better than {reference} by {value.mean:.4f} bits per byte {evidence}"
    if value.high < 0:
        return f"Worse than {reference} by {-value.mean:.4f} bits per byte {evidence}"
    return f"Not shown to beat {reference}: {gain(value.mean)} {evidence}"


def _interval(interval: Interval, confidence: float) -> str:
    return f"{100 * confidence:g}% interval {interval.low:+.4f} to {interval.high:+.4f}"


def _chance(chance: float) -> str:
    """A probability; never a flat 100% or 0%, which no finite number of runs shows."""
    if chance > 0.999:
        return "over 99.9%"
    if chance < 0.001:
        return "under 0.1%"
    return percent(chance)


def _called(reference: str) -> str:
    words = {"natural": "natural proportions", "uniform": "the uniform mixture"}
    return words.get(reference, f"the {reference}")


def _limits(report: Report) -> Iterator[str]:
    for domain in report.domains:
        if domain.binding:
            yield (
                f"Limit: {domain.name} is held at {percent(domain.recommended.mean)} by "
                f"{domain.binding}"
            )
    epochs = [(d.name, d.epochs) for d in report.domains if d.epochs is not None]
    if epochs:
        said = ", ".join(f"{name} {times:.2g}" for name, times in epochs)
        yield f"Epochs at the target length: {said}"


def _rungs(report: Report) -> Iterator[str]:
    target = report.rungs[-1].kind if report.rungs else ""
    for rung in report.rungs:
        line = f"Rung {rung.kind}: {rung.runs} runs, {duration(rung.seconds)} of computing"
        if rung.failed:
            line += f", {rung.failed} failed"
        if rung.agreement is not None:
            line += (
                f"; ranks mixtures like {target} does: {rung.agreement.mean:.2f} "
                f"({rung.agreement.low:.2f} to {rung.agreement.high:.2f}, "
                f"{rung.shared} mixtures)"
            )
        yield line
