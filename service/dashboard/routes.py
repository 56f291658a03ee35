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

from cuvee.errors import ConflictError, NotFoundError, SpecError
from cuvee.mixture import Mixture
from cuvee.records import Corpus, Job, Report, Run, SearchProblem
from cuvee.states import JOB_TRANSITIONS, JobState
from service.dashboard.figures import loss_curves, search_curve
from service.dashboard.formats import bits, percent
from service.dashboard.health import job_health
from service.dashboard.recipe import Recipe
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
        recipe, recipe_from = _recipe(found, corpus, known, report)
        return {
            "section": "jobs",
            "job": found,
            "report": report,
            "last_seq": heads.get(found.id, (0, False))[0],
            "can": _possible(found.state),
            "sentences": job_health(found, corpus, known, report),
            "recipe": recipe,
            "recipe_from": recipe_from,
            "curve": search_curve(
                known, len(found.spec.rungs) - 1, baseline=found.progress.baseline, labels=_LABELS
            ),
            "names": [d.name for d in corpus.spec.domains],
            "mix_words": _mix_words,
            "runs": shown,
            "hidden_runs": len(numbered) - len(shown),
            "spec": found.spec.model_dump_json(indent=2, exclude_none=True),
        }

    return _page(request, "job.html", work, load)


@router.get("/runs/{run}", name="run_page")
def run_page(request: Request, run: str, work: WorkDep, tenant: TenantDep) -> Response:
    """One run: its loss curve, its losses, its mixture."""

    def load(session: Session) -> dict[str, Any]:
        found = runs.get_run(session, tenant, run)
        job = jobs.get_job(session, tenant, found.job_id)
        corpus = corpora.get_corpus(session, tenant, job.corpus_id)
        return {
            "section": "jobs",
            "run": found,
            "job": job,
            "curve": loss_curves(found.curve or ()),
            "losses": [
                (name, bits(x.bits_per_byte), bits(x.bits_per_byte_se), bits(x.nats_per_token))
                for name, x in (found.losses or {}).items()
            ],
            "recipe": Recipe.from_mixture(
                SearchProblem.build(job.spec, corpus.manifest), found.mixture
            )
            if corpus.manifest
            else None,
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


def _recipe(
    job: Job, corpus: Corpus, known: list[Run], report: Report | None
) -> tuple[Recipe | None, str]:
    """The best knowledge of the mixture at this moment, and where it comes from."""
    if report is not None:
        usable = report.domains and report.refused is None
        return (Recipe.from_report(report) if usable else None), "report"
    if corpus.manifest is None:
        return None, ""
    recommended = [r for r in known if r.purpose == "verify" and r.label == "recommended"]
    best = [r for r in known if r.id == job.progress.best_run_id]
    chosen = recommended or best
    if not chosen:
        return None, ""
    problem = SearchProblem.build(job.spec, corpus.manifest)
    source = "verifying" if recommended else "best"
    return Recipe.from_mixture(problem, chosen[0].mixture), source


def _mix_words(mixture: Mixture) -> str:
    """A mixture for those who do not see its bar: the largest shares first."""
    ordered = sorted(mixture.root.items(), key=lambda item: -item[1])
    words = [f"{name} {percent(share, 0)}" for name, share in ordered[:6] if share > 0]
    return ", ".join(words)
