"""The pages: rendered on the server from the same use cases as the API; scripts only refresh them.

A page that shows something unfinished names, in ``data-refresh``, the address to fetch it again
from; ``static/live.js`` does so when the job's events say that there is news.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from cuvee.answer import Report
from cuvee.errors import ConflictError, NotFoundError, SpecError
from cuvee.mixture import Mixture
from cuvee.records import Corpus, Job, Run, SearchProblem
from cuvee.states import JOB_TRANSITIONS, JobState
from service.dashboard.explanation import Why
from service.dashboard.figures import best_run, loss_curves, runs_table, search_curve
from service.dashboard.formats import bits
from service.dashboard.health import job_health
from service.dashboard.recipe import Recipe
from service.dashboard.sections.doctor import doctor_figure
from service.dashboard.sections.gains import PLAN_HEADER, plan_rows
from service.dashboard.templating import environment, static_digest, static_files
from service.db.repositories.heads import event_heads
from service.deps import TenantDep, WorkDep
from service.usecases import corpora, jobs, runs

__all__ = ["router"]

router = APIRouter()

_LABELS = {
    "baseline": "the baseline",
    "natural": "natural proportions",
    "uniform": "uniform shares",
    "recommended": "the recommendation",
}
_PAGE_RUNS = 100
"""Rows of the table before "show all"."""

_MAX_RUNS = 5000
"""Runs that a job's page reads; a curve of more says nothing more."""


@router.get("/", name="jobs_page")
def jobs_page(
    request: Request,
    work: WorkDep,
    tenant: TenantDep,
    state: JobState | None = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """All jobs, newest first."""

    def load(session: Session) -> dict[str, Any]:
        page = jobs.list_jobs(session, tenant, state=state, limit=50, cursor=cursor)
        active = any(not job.state.terminal for job in page.items)
        return {"page": page, "state": state or "", "active": active, "section": "jobs"}

    return _page(request, "jobs.html", work, load)


@router.get("/jobs/{job}", name="job_page")
def job_page(
    request: Request, job: str, work: WorkDep, tenant: TenantDep, all: bool = False
) -> Response:
    """One job: the recipe, how it goes, and every run."""

    def load(session: Session) -> dict[str, Any]:
        found = jobs.get_job(session, tenant, job)
        # Read before the rest, so that no news falls between the page and its events.
        heads = event_heads(session, [found.id])
        found = jobs.get_job(session, tenant, found.id)
        corpus = corpora.get_corpus(session, tenant, found.corpus_id)
        known = _all_runs(session, tenant, found.id)
        report = _report(session, tenant, found)
        numbered = list(enumerate(known, 1))[::-1]
        shown = numbered if all else numbered[:_PAGE_RUNS]
        target = len(found.spec.rungs) - 1
        problem = _problem(found, corpus)
        allowed = _allowed(problem)
        best = best_run(known, target, allowed)
        recipe, recipe_from = _recipe(problem, known, best, report)
        return {
            "section": "jobs",
            "job": found,
            "report": report,
            "last_seq": heads.get(found.id, (0, False))[0],
            "can": _possible(found.state),
            "sentences": job_health(found, corpus, known, best, report),
            "recipe": recipe,
            "recipe_from": recipe_from,
            "plan": (PLAN_HEADER, plan_rows(jobs.get_plan(session, found.id))),
            "curve": search_curve(
                known,
                target,
                baseline=found.progress.baseline,
                labels=_LABELS,
                allowed=allowed,
            ),
            "ailments": doctor_figure(found.diagnosis),
            "best": best,
            "names": [d.name for d in corpus.spec.domains],
            "runs": shown,
            "hidden_runs": len(numbered) - len(shown),
            "spec": found.spec.model_dump_json(indent=2, exclude_none=True),
        }

    return _page(request, "job.html", work, load)


@router.get("/jobs/{job}/runs.csv", name="runs_csv")
def runs_csv(request: Request, job: str, work: WorkDep, tenant: TenantDep) -> Response:
    """The runs of a job as a table for other programs: one row a run, one column a domain."""
    with work() as session:
        found = jobs.get_job(session, tenant, job)
        corpus = corpora.get_corpus(session, tenant, found.corpus_id)
        known = _all_runs(session, tenant, found.id)
    text = runs_table(known, [d.name for d in corpus.spec.domains])
    headers = {"Content-Disposition": f'attachment; filename="runs-{found.id}.csv"'}
    return Response(text, media_type="text/csv", headers=headers)


@router.get("/runs/{run}", name="run_page")
def run_page(request: Request, run: str, work: WorkDep, tenant: TenantDep) -> Response:
    """One run: its loss curve, its losses, its mixture."""

    def load(session: Session) -> dict[str, Any]:
        found = runs.get_run(session, tenant, run)
        job = jobs.get_job(session, tenant, found.job_id)
        problem = _problem(job, corpora.get_corpus(session, tenant, job.corpus_id))
        return {
            "section": "jobs",
            "run": found,
            "job": job,
            "curve": loss_curves(found.curve or ()),
            "explained": None
            if found.explanation is None
            else Why.of(found.explanation, found.kind, found.rung),
            "losses": [
                (name, bits(x.bits_per_byte), bits(x.bits_per_byte_se), bits(x.nats_per_token))
                for name, x in (found.losses or {}).items()
            ],
            "recipe": None if problem is None else Recipe.from_mixture(problem, found.mixture),
        }

    return _page(request, "run.html", work, load)


@router.get("/corpora", name="corpora_page")
def corpora_page(
    request: Request,
    work: WorkDep,
    tenant: TenantDep,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """All corpora, newest first."""

    def load(session: Session) -> dict[str, Any]:
        page = corpora.list_corpora(session, tenant, limit=50, cursor=cursor)
        active = any(not corpus.state.terminal for corpus in page.items)
        return {"page": page, "active": active, "section": "corpora"}

    return _page(request, "corpora.html", work, load)


@router.get("/corpora/{corpus}", name="corpus_page")
def corpus_page(request: Request, corpus: str, work: WorkDep, tenant: TenantDep) -> Response:
    """One corpus: its census."""

    def load(session: Session) -> dict[str, Any]:
        return {
            "corpus": corpora.get_corpus(session, tenant, corpus),
            "section": "corpora",
        }

    return _page(request, "corpus.html", work, load)


@router.get("/static/{digest}/{path:path}", name="static_file")
def static_file(digest: str, path: str) -> Response:
    """A file of the pages; its address holds the digest of all, so browsers may keep it."""
    file = static_files().get(path)
    if file is None:
        return Response("no such file", 404, media_type="text/plain")
    kept = "public, max-age=31536000, immutable" if digest == static_digest() else "no-cache"
    return Response(file.data, media_type=file.media_type, headers={"Cache-Control": kept})


# ------------------------------------------------------------------------------------------------
# Building a page


def _page(
    request: Request,
    template: str,
    work: Callable[[], Any],
    load: Callable[[Session], dict[str, Any]],
) -> Response:
    """Load within one transaction, render after it; what is not there gets a page that says so."""
    try:
        with work() as session:
            context = load(session)
    except NotFoundError as error:
        return _render(request, "error.html", _error("Not found", error.message), 404)
    except SpecError as error:
        return _render(request, "error.html", _error("Not possible", error.message), 422)
    return _render(request, template, context, 200)


def _render(request: Request, template: str, context: dict[str, Any], status: int) -> Response:
    root = request.scope.get("root_path", "").rstrip("/")
    query = f"?{request.url.query}" if request.url.query else ""
    html = (
        environment()
        .get_template(template)
        .render(
            context,
            root=root,
            static=f"{root}/static/{static_digest()}",
            here=f"{root}{request.url.path.removeprefix(root)}{query}",
            now=datetime.now(UTC),
        )
    )
    return HTMLResponse(html, status, headers={"Cache-Control": "no-store"})


def _error(title: str, message: str) -> dict[str, Any]:
    return {"title": title, "message": message, "section": ""}


def _possible(state: JobState) -> dict[str, bool]:
    following = JOB_TRANSITIONS[state]
    return {
        "pause": JobState.PAUSING in following,
        "resume": state in (JobState.PAUSING, JobState.PAUSED),
        "cancel": JobState.CANCELLING in following,
    }


def _report(session: Session, tenant: str, job: Job) -> Report | None:
    if job.state is not JobState.SUCCEEDED:
        return None
    try:
        return jobs.get_report(session, tenant, job.id)
    except (NotFoundError, ConflictError):
        return None


def _all_runs(session: Session, tenant: str, job_id: str) -> list[Run]:
    found: list[Run] = []
    cursor: str | None = None
    while len(found) < _MAX_RUNS:
        page = runs.list_runs(session, tenant, job_id, limit=200, cursor=cursor)
        found.extend(page.items)
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _problem(job: Job, corpus: Corpus) -> SearchProblem | None:
    """The job's problem; None while the census is missing or when the two contradict each other."""
    if corpus.manifest is None:
        return None
    try:
        return SearchProblem.build(job.spec, corpus.manifest)
    except SpecError:
        return None  # such a job has failed, and its error is on the page


def _allowed(problem: SearchProblem | None) -> Callable[[Mixture], bool]:
    if problem is None:
        return lambda mixture: True
    feasible = problem.feasible()
    return lambda mixture: not feasible.violations(mixture)


def _recipe(
    problem: SearchProblem | None, known: list[Run], best: Run | None, report: Report | None
) -> tuple[Recipe | None, str]:
    """The best knowledge of the mixture at this moment, and where it comes from."""
    if report is not None:
        usable = report.domains and report.refused is None
        return (Recipe.from_report(report) if usable else None), "report"
    if problem is None:
        return None, ""
    for run in known:
        if run.purpose == "verify" and run.label == "recommended":
            return Recipe.from_mixture(problem, run.mixture), "verifying"
    return (Recipe.from_mixture(problem, best.mixture), "best") if best is not None else (None, "")
