"""Whether the demo's own verification says that the search was worth it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from cuvee.cli.words import gain, percent
from cuvee.records import PairedDifference, Report

__all__ = ["beats", "verdict_lines"]


def verdict_lines(report: Report) -> Iterator[str]:
    """A sentence per reference, then whether the recommendation beat them all."""
    if not report.verification:
        yield "The job verified nothing."
        return
    for difference in report.verification:
        line = f"Against {_called(difference.reference)}: {gain(difference.difference.mean)}"
        line += f", {percent(min(difference.chance, 0.999))} sure"
        deviations = _in_seed_deviations(difference)
        if deviations is not None:
            line += f"; {deviations:.1f} times the deviation between seeds"
        yield line
    lost = [_called(d.reference) for d in report.verification if not beats(d, report.confidence)]
    yield (
        f"Verification did not show that the recommendation beats {' and '.join(lost)}."
        if lost
        else "Verification: the recommendation beat every reference."
    )


def beats(difference: PairedDifference, confidence: float) -> bool:
    """Better on average over the paired runs, and more surely so than the report's confidence."""
    return difference.difference.mean > 0 and difference.chance >= confidence


def _in_seed_deviations(difference: PairedDifference) -> float | None:
    """The difference over the deviation of the objective between seeds of one mixture.

    None with fewer than two seeds. With three it is a rough figure: its own error is about 40%.
    """
    if len(difference.pairs) < 2:
        return None
    references = [reference for _, reference, _ in difference.pairs]
    recommended = [measured for _, _, measured in difference.pairs]
    variance = (statistics.variance(references) + statistics.variance(recommended)) / 2
    if variance == 0:
        return None
    return difference.difference.mean / math.sqrt(variance)


def _called(reference: str) -> str:
    words = {"baseline": "the baseline (natural proportions)", "uniform": "the uniform mixture"}
    return words.get(reference, f"the {reference} mixture")
