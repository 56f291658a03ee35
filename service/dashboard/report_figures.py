"""The figures of a report, by id, in the order of the page."""

from __future__ import annotations

from cuvee.answer import Report
from service.dashboard.figures import Figure
from service.dashboard.sections.curve import curve_figure
from service.dashboard.sections.doctor import doctor_figure
from service.dashboard.sections.gains import gains_figure, pairs_figure
from service.dashboard.sections.ladder import agreement_figure
from service.dashboard.sections.losses import guardrails_figure, losses_figure
from service.dashboard.sections.mixtures import equivalents_figure, front_figure
from service.dashboard.sections.supply import prices_figure
from service.dashboard.sections.trust import left_out_figure, sets_figure

__all__ = ["report_figures"]


def report_figures(report: Report) -> dict[str, Figure]:
    """Every figure that the report has data for."""
    candidates = (
        gains_figure(report),
        pairs_figure(report.verification),
        losses_figure(report.evaluations, report.confidence),
        guardrails_figure(report.guardrails),
        equivalents_figure(report.equivalents, {d.name: d.natural for d in report.domains}),
        front_figure(report.front, report.recommended),
        prices_figure(report.shadow_prices),
        left_out_figure(report.calibration, report.confidence, _judged(report)),
        sets_figure(report.fits),
        agreement_figure(report.rungs, report.bridges),
        curve_figure(report),
        doctor_figure(report.diagnosis),
    )
    return {figure.id: figure for figure in candidates if figure is not None}


def _judged(report: Report) -> str:
    """The rung whose runs the calibration is of; empty for the target."""
    rung = None if report.calibration is None else report.calibration.rung
    if rung is None or rung >= len(report.rungs) - 1:
        return ""
    return f"{report.rungs[rung].kind} (rung {rung})"
