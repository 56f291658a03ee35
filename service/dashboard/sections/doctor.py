"""What the objective doctor found in a few repeated anchor runs."""

from __future__ import annotations

from cuvee.answer import Diagnosis, SetDiagnosis
from service.dashboard.figures import Figure
from service.dashboard.formats import bits, correlation, percent
from service.dashboard.rows import MAX_ROWS, Axis, Marks, cut, rows_data

__all__ = ["doctor_figure"]


def doctor_figure(found: Diagnosis | None) -> Figure | None:
    """Signal and noise of every evaluation set; a set says little where the two are close."""
    if found is None or not found.sets:
        return None
    shown = (*found.sets, *(() if found.objective is None else (found.objective,)))
    names = [s.eval_set for s in shown]
    return Figure(
        id="doctor",
        kind="rows",
        title="Can the evaluation sets tell mixtures apart?",
        caption=cut(_caption(found), len(names)),
        data=rows_data(
            Axis("standard deviation, bits per byte", "number", log=True),
            names,
            (
                Marks("between mixtures", "dot", "accent", [s.signal for s in shown]),
                Marks("between seeds", "hollow", "warn", [s.noise for s in shown]),
            ),
        ),
        header=(
            "Evaluation set",
            "Finding",
            "Between mixtures",
            "Between seeds",
            "Signal to noise",
            "Rank agreement with the target",
            "Share of the objective's variance",
            "Redundant with",
        ),
        rows=tuple(_row(s) for s in shown),
        tall=min(len(names), MAX_ROWS),
        words=(1,),
    )


def _row(one: SetDiagnosis) -> tuple[str, ...]:
    return (
        one.eval_set,
        one.verdict,
        bits(one.signal),
        bits(one.noise),
        "–" if one.signal_to_noise is None else f"{one.signal_to_noise:.1f}",
        correlation(one.agreement),
        percent(one.dominance, 0),
        ", ".join(one.redundant_with) or "–",
    )


def _caption(found: Diagnosis) -> str:
    ratios = {s.eval_set: s.signal_to_noise for s in found.sets if s.signal_to_noise is not None}
    weak = [name for name, ratio in ratios.items() if ratio < 1]
    said = f"From {found.anchors} mixtures and {_repeats(found.repeats)}"
    if not ratios:
        return f"{said}: the noise between seeds is not known."
    if weak:
        return f"{said}: on {', '.join(weak)} seeds differ more than mixtures do."
    least = min(ratios, key=lambda name: ratios[name])
    return (
        f"{said}: on every set mixtures differ more than seeds do, least on {least} "
        f"({ratios[least]:.1f} times)."
    )


def _repeats(count: int) -> str:
    return "1 repeated run" if count == 1 else f"{count} repeated runs"
