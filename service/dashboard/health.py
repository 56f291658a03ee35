"""How a job is doing, in sentences: they are read more than any chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from cuvee.answer import Report
from cuvee.records import Corpus, Job, Run
from cuvee.states import CorpusState, JobState, RunState
from service.dashboard.formats import bits, duration, percent

__all__ = ["Sentence", "job_health", "report_headline", "report_tone"]

Tone = Literal["good", "info", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One finding; the tone is shown as a word and a shape as well as a colour."""

    tone: Tone
    text: str


def job_health(
    job: Job, corpus: Corpus, runs: Sequence[Run], best: Run | None, report: Report | None
) -> list[Sentence]:
    """What a person should know first about a job.

    Args:
        job: The job.
        corpus: Its corpus, which the job may be waiting for.
        runs: Its runs, oldest first.
        best: The best run that keeps the constraints.
        report: Its report, once there is one.
    """
    sentences = [_verdict(report)] if report is not None else [_state(job, corpus)]
    if report is None and (standing := _standing(job, best)) is not None:
        sentences.append(standing)
    if job.diagnosis is not None and job.diagnosis.warnings:
        sentences.append(Sentence("warn", _warned(job.diagnosis.warnings)))
    if (failures := _failures(job, runs)) is not None:
        sentences.append(failures)
    if job.stop_reason:
        sentences.append(Sentence("info", f"Why the search ended: {job.stop_reason}"))
    return sentences


def report_tone(report: Report) -> Tone:
    """Good when every verified difference excludes zero; a refusal or a loss is bad news."""
    if report.refused is not None:
        return "warn"
    if any(one.difference.high < 0 for one in report.verification):
        return "bad"
    if report.verification and all(one.difference.low > 0 for one in report.verification):
        return "good"
    return "info"


def report_headline(report: Report) -> str:
    """The verdict in one line for those who read no further; the first reference counts most."""
    if report.refused is not None:
        return "No mixture can be recommended"
    if not report.verification:
        reference = next(iter(report.predicted_gain), None)
        return f"Predicted to beat {_called(reference)}" if reference else "Nothing was compared"
    first = report.verification[0]
    reference = _called(first.reference)
    if first.difference.high < 0:
        return f"Worse than {reference}: keep {reference}"
    if first.difference.low <= 0:
        return f"Not shown to beat {reference}"
    if not first.pairs:
        return f"{bits(first.difference.mean)} bits per byte lower loss than {reference}"
    mean = fmean(theirs for _, theirs, _ in first.pairs)
    return f"{percent(first.difference.mean / mean)} lower loss than {reference}"


def _called(reference: str) -> str:
    return "the baseline" if reference == "baseline" else f"the {reference} mixture"


def _verdict(report: Report) -> Sentence:
    return Sentence(report_tone(report), report.verdict)


def _state(job: Job, corpus: Corpus) -> Sentence:
    progress = job.progress
    done = f"{progress.runs_done} of {progress.runs_planned} runs done"
    if job.state is JobState.FAILED:
        reason = job.error.message if job.error is not None else "no reason was recorded"
        return Sentence("bad", f"Failed after {done}: {reason}")
    if job.state is JobState.CANCELLED:
        return Sentence("warn", f"Cancelled, {done}. What was measured is kept.")
    if job.state is JobState.CANCELLING:
        return Sentence("warn", "Cancelling: runs in progress are being stopped.")
    if job.state is JobState.PAUSING:
        return Sentence("warn", "Pausing: runs in progress are finishing, no new one starts.")
    if job.state is JobState.PAUSED:
        return Sentence("warn", f"Paused, {done}. Resume to go on from here.")
    if job.state is JobState.ACCEPTED:
        return _waiting(corpus)
    text = f"{progress.phase.capitalize()}: {done}, {progress.runs_active} in progress"
    if progress.seconds_left is not None:
        text += f", about {duration(progress.seconds_left)} left"
    if progress.runs_active == 0 and progress.phase in ("searching", "verifying"):
        return Sentence("info", f"{text}. Waiting for a worker or for the next proposal.")
    return Sentence("info", text + ".")


def _waiting(corpus: Corpus) -> Sentence:
    name = corpus.name or corpus.id
    if corpus.state is CorpusState.FAILED:
        reason = corpus.error.message if corpus.error is not None else "no reason was recorded"
        return Sentence("bad", f"The corpus {name} could not be prepared: {reason}")
    if corpus.state is CorpusState.READY:
        return Sentence("info", f"Accepted; the corpus {name} is ready and the search starts soon.")
    doing = f": {corpus.progress}" if corpus.progress else ""
    return Sentence("info", f"Waiting for the corpus {name} to be prepared{doing}.")


def _standing(job: Job, best: Run | None) -> Sentence | None:
    baseline = job.progress.baseline
    if best is None or best.objective is None or baseline is None or baseline <= 0:
        return None
    gain = baseline - best.objective
    if gain <= 0:
        return Sentence("warn", "No mixture has beaten the baseline at the target rung yet.")
    return Sentence(
        "good",
        f"The best mixture so far is {bits(gain)} bits per byte ({percent(gain / baseline)}) "
        "better than the baseline, before verification.",
    )


def _warned(warnings: Sequence[str]) -> str:
    rest = len(warnings) - 1
    more = f" And {rest} more, below." if rest > 0 else ""
    return f"The objective doctor warns: {warnings[0].rstrip('.')}.{more}"


def _failures(job: Job, runs: Sequence[Run]) -> Sentence | None:
    failed = job.progress.runs_failed
    if not failed:
        return None
    reasons = [r.error.message for r in runs if r.state is RunState.FAILED and r.error is not None]
    text = f"{failed} run{'s' if failed > 1 else ''} failed"
    return Sentence("warn", f"{text}; the latest: {reasons[-1]}" if reasons else f"{text}.")
