"""What each evaluation set gains, and whether the guardrails hold."""

from __future__ import annotations

from cuvee.answer import EvalReport, GuardrailReport
from service.dashboard.figures import Figure
from service.dashboard.formats import chance, percent, signed, signed_span, span
from service.dashboard.rows import MAX_ROWS, Axis, Marks, cut, rows_data

__all__ = ["guardrails_figure", "losses_figure"]


def losses_figure(evaluations: tuple[EvalReport, ...], confidence: float) -> Figure | None:
    """Predicted and measured loss on each evaluation set."""
    if not evaluations:
        return None
    some_measured = any(e.measured is not None for e in evaluations)
    series = [
        Marks("predicted interval", "band", "accent", [e.predicted for e in evaluations]),
        Marks("baseline, measured", "square", "muted", [e.baseline_measured for e in evaluations]),
    ]
    if some_measured:
        series.append(
            Marks("recommended, measured", "dot", "accent", [e.measured for e in evaluations])
        )
    else:
        means = [e.predicted.mean for e in evaluations]
        series.append(Marks("recommended, predicted", "hollow", "accent", means))
    return Figure(
        id="losses",
        kind="rows",
        title="What does each evaluation set gain?",
        caption=cut(_losses_caption(evaluations, confidence), len(evaluations)),
        data=rows_data(
            Axis("bits per byte, lower is better"), [e.name for e in evaluations], series
        ),
        header=("Evaluation set", "Weight", "Predicted", "Measured", "Baseline", "Change"),
        rows=tuple(
            (
                e.name,
                percent(e.weight, 0),
                span(e.predicted),
                span(e.measured),
                span(e.baseline_measured),
                _change(e),
            )
            for e in evaluations
        ),
        tall=min(len(evaluations), MAX_ROWS),
    )


def _losses_caption(evaluations: tuple[EvalReport, ...], confidence: float) -> str:
    measured = [(e.predicted, e.measured) for e in evaluations if e.measured is not None]
    if measured:
        inside = sum(p.low <= m.mean <= p.high for p, m in measured)
        caption = (
            f"{inside} of {len(measured)} measured losses fell inside their "
            f"{percent(confidence, 0)} predicted interval"
        )
    else:
        caption = "Predicted losses of the recommended mixture; none has been measured"
    moves = [
        (e.name, e.baseline_measured.mean - e.measured.mean)
        for e in evaluations
        if e.measured is not None and e.baseline_measured is not None
    ]
    if moves:
        better = sum(gain > 0 for _, gain in moves)
        caption += f"; against the baseline {better} of {len(moves)} sets got better"
        worst = min(moves, key=lambda move: move[1])
        if worst[1] < 0:
            caption += f", and {worst[0]} lost most ({-worst[1]:.4f} bits per byte)"
    return caption + "."


def _change(evaluation: EvalReport) -> str:
    ours, reference = evaluation.measured, evaluation.baseline_measured
    if ours is None or reference is None:
        return "–"
    relative = (ours.mean - reference.mean) / reference.mean
    return f"{signed(ours.mean - reference.mean)} ({relative * 100:+.1f} %)".replace("-", "−")


def guardrails_figure(guardrails: tuple[GuardrailReport, ...]) -> Figure | None:
    """By how much each guarded set rises over the baseline, beside what it may."""
    if not guardrails:
        return None
    broken = [g.eval_set for g in guardrails if not g.holds]
    caption = (
        f"Broken: {', '.join(broken)}. The others hold."
        if broken and len(broken) < len(guardrails)
        else f"Broken: {', '.join(broken)}."
        if broken
        else "Every guardrail holds."
        if len(guardrails) > 1
        else "The guardrail holds."
    )
    weakest = min(guardrails, key=lambda g: g.chance)
    caption += (
        f" The least sure was {weakest.eval_set}, which was predicted to hold with a chance of "
        f"{chance(weakest.chance)}."
    )
    return Figure(
        id="guardrails",
        kind="rows",
        title="Do the guardrails hold?",
        caption=cut(caption, len(guardrails)),
        data=rows_data(
            Axis("rise over the baseline, bits per byte, lower is better", "signed", zero=True),
            [g.eval_set for g in guardrails],
            (
                Marks("predicted rise", "band", "accent", [g.increase for g in guardrails]),
                Marks("measured rise", "dot", "accent", [g.measured for g in guardrails]),
                Marks("allowed", "tick", "warn", [g.max_increase for g in guardrails]),
            ),
        ),
        header=("Evaluation set", "Allowed", "Predicted", "Chance to hold", "Measured", "Verdict"),
        rows=tuple(
            (
                g.eval_set,
                signed(g.max_increase),
                signed_span(g.increase),
                chance(g.chance),
                signed_span(g.measured),
                "holds" if g.holds else "broken",
            )
            for g in guardrails
        ),
        tall=min(len(guardrails), MAX_ROWS),
    )
