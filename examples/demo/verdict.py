"""Whether the demo's own verification says that the search was worth it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from cuvee.answer import PairedDifference, Report

__all__ = ["beats", "in_seed_deviations", "verdict_lines"]


def verdict_lines(report: Report) -> Iterator[str]:
    """How large the gains are beside the noise, whether predictions and guardrails held, and
    whether every reference was beaten.
    """
    if not report.verification:
        yield "The job verified nothing."
        return
    sizes = {_called(d.reference): in_seed_deviations(d) for d in report.verification}
    said = [f"{size:.1f} over {name}" for name, size in sizes.items() if size is not None]
    if said:
        yield f"Gain in standard deviations between seeds: {', '.join(said)}."
    yield from _held(report)
    lost = [_called(d.reference) for d in report.verification if not beats(d)]
    yield (
        f"Verification did not show that the recommendation beats {' or '.join(lost)}."
        if lost
        else f"Verification: the recommendation beat {' and '.join(sizes)}."
    )


def _held(report: Report) -> Iterator[str]:
    """Whether what was predicted is what was measured."""
    known = [(e.predicted, e.measured) for e in report.evaluations if e.measured is not None]
    if known:
        inside = sum(p.low <= m.mean <= p.high for p, m in known)
        yield (
            f"{inside} of {len(known)} measured losses lie inside their "
            f"{100 * report.confidence:g}% predicted intervals."
        )
    broken = [g.eval_set for g in report.guardrails if not g.holds]
    if broken:
        yield f"Guardrails that do not hold: {', '.join(broken)}."


def beats(difference: PairedDifference) -> bool:
    """Better by the whole interval of the paired difference, as the report's verdict has it."""
    return difference.difference.low > 0


def in_seed_deviations(difference: PairedDifference) -> float | None:
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
    words = {"baseline": "the baseline", "uniform": "the uniform mixture"}
    return words.get(reference, f"the {reference} mixture")
