"""A Cuvée server in the test's own process: it answers with real records over httpx's transport."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from cuvee.answer import DomainShare, EvalReport, Interval, PairedDifference, Report, RungSummary
from cuvee.errors import ConflictError, CuveeError, NotFoundError, SpecError
from cuvee.mixture import Mixture
from cuvee.records import (
    Corpus,
    CorpusManifest,
    DomainCensus,
    Event,
    Job,
    JobProgress,
    Page,
    Problem,
    Run,
    ServerVersion,
)
from cuvee.spec import CorpusSpec, JobSpec, NgramRung
from cuvee.states import CorpusState, JobState, RunState

R = TypeVar("R", bound=BaseModel)

WHEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STATUS = {SpecError: 422, NotFoundError: 404, ConflictError: 409}


class FakeServer:
    """Jobs, corpora, runs and reports in dictionaries, behind the routes of the API.

    A job may be given a *script*: states that it goes through, one for each time it is looked at.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.scripts: dict[str, list[Job]] = {}
        self.corpora: dict[str, Corpus] = {}
        self.runs: dict[str, list[Run]] = {}
        self.events: dict[str, list[Event]] = {}
        self.reports: dict[str, Report] = {}
        self.down = 0
        self.urls: list[str] = []

    # -- what tests put in ------------------------------------------------------------------------

    def add_job(self, job: Job, *then: Job) -> Job:
        self.jobs[job.id] = job
        self.scripts[job.id] = list(then)
        return job

    def add_corpus(self, corpus: Corpus) -> Corpus:
        self.corpora[corpus.id] = corpus
        return corpus

    # -- the routes -------------------------------------------------------------------------------

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(str(request.url))
        if self.down:
            self.down -= 1
            raise httpx.ConnectError("connection refused", request=request)
        try:
            return self._route(request)
        except CuveeError as error:
            status = next(s for cls, s in STATUS.items() if isinstance(error, cls))
            body = {"title": "refused", "status": status, "detail": str(error), "code": error.code}
            body["details"] = dict(error.details)
            headers = {"content-type": "application/problem+json"}
            return httpx.Response(status, content=json.dumps(body), headers=headers)

    def _route(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.strip("/").split("/")[1:]
        query = request.url.params
        match request.method, parts:
            case "GET", ["version"]:
                return _json(ServerVersion(version="0.1.0", api="v1"))
            case "GET", ["corpora"]:
                return _json(Page[Corpus](items=tuple(self.corpora.values())))
            case "POST", ["corpora"]:
                return _json(self._register(_parsed(CorpusSpec, request)), 202)
            case "GET", ["corpora", name]:
                return _json(_find(self.corpora, name, "corpus"))
            case "GET", ["jobs"]:
                return _json(self._page(query))
            case "POST", ["jobs"]:
                return _json(self._submit(_parsed(JobSpec, request)), 202)
            case "GET", ["jobs", name]:
                return _json(self._look(name))
            case "GET", ["jobs", name, "runs"]:
                found = self.runs.get(_find(self.jobs, name, "job").id, [])
                wanted = query.get("state")
                return _json(Page[Run](items=tuple(r for r in found if wanted in (None, r.state))))
            case "GET", ["runs", name]:
                known = {run.id: run for found in self.runs.values() for run in found}
                return _json(_find(known, name, "run"))
            case "GET", ["jobs", name, "events"]:
                job = _find(self.jobs, name, "job")
                after = int(query.get("after", 0))
                behind = [e for e in self.events.get(job.id, []) if e.seq > after]
                return _json(Page[Event](items=tuple(behind)))
            case "GET", ["jobs", name, "report"]:
                report = self._report(_find(self.jobs, name, "job"))
                if query.get("format") == "html":
                    return httpx.Response(200, text=f"<html>{report.verdict}</html>")
                return _json(report)
            case "POST", ["jobs", name, action]:
                return _json(self._act(_find(self.jobs, name, "job"), action))
        raise NotFoundError(f"no route {request.method} {request.url.path}")

    def _register(self, spec: CorpusSpec) -> Corpus:
        for known in self.corpora.values():
            if spec.name == known.name:
                same = spec == known.spec
                raise ConflictError(
                    f"{spec.name} exists", id=known.id, state=known.state, same_spec=same
                )
        return self.add_corpus(a_corpus(id=f"corpus-{len(self.corpora) + 1}", spec=spec))

    def _submit(self, spec: JobSpec) -> Job:
        corpus = _find(self.corpora, spec.corpus, "corpus")
        return self.add_job(
            a_job(id=f"job-{len(self.jobs) + 1}", spec=spec, corpus_id=corpus.id, name=spec.name)
        )

    def _look(self, name: str) -> Job:
        job = _find(self.jobs, name, "job")
        if self.scripts[job.id]:
            self.jobs[job.id] = self.scripts[job.id].pop(0)
        return job

    def _page(self, query: httpx.QueryParams) -> Page[Job]:
        state, limit, start = query.get("state"), int(query["limit"]), int(query.get("cursor", 0))
        found = [j for j in self.jobs.values() if state in (None, j.state)]
        end = start + limit
        more = str(end) if end < len(found) else None
        return Page[Job](items=tuple(found[start:end]), next_cursor=more)

    def _report(self, job: Job) -> Report:
        if job.id not in self.reports:
            raise ConflictError(f"job {job.id} is {job.state}: its report is not ready yet")
        return self.reports[job.id]

    def _act(self, job: Job, action: str) -> Job:
        if job.state.terminal:
            raise ConflictError(f"job {job.id} is {job.state}: it has ended")
        state = {
            "cancel": JobState.CANCELLING,
            "pause": JobState.PAUSING,
            "resume": JobState.RUNNING,
        }[action]
        return self.add_job(job.model_copy(update={"state": state}))


def _json(record: BaseModel, status: int = 200) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return httpx.Response(status, content=record.model_dump_json(), headers=headers)


def _parsed(model: type[R], request: httpx.Request) -> R:
    try:
        return model.model_validate_json(request.content)
    except ValidationError as error:
        raise SpecError(str(error)) from None


def _find(records: dict[str, R], name: str, what: str) -> R:
    for record in records.values():
        if name in (record.id, getattr(record, "name", None)):
            return record
    raise NotFoundError(f"there is no {what} {name!r}")


# -- records that are valid by default, with one field replaced per test -------------------------


def a_job_spec(**changes: Any) -> JobSpec:
    return JobSpec(**{"corpus": "books", "rungs": (NgramRung(kind="ngram", runs=8),), **changes})


def a_job(**changes: Any) -> Job:
    progress = changes.pop("progress", {})
    fields = {
        "id": "job-1",
        "name": None,
        "state": JobState.RUNNING,
        "spec": a_job_spec(),
        "corpus_id": "corpus-1",
        "progress": JobProgress(
            **{
                "phase": "searching",
                "runs_done": 0,
                "runs_planned": 14,
                "runs_failed": 0,
                "runs_active": 2,
                **progress,
            }
        ),
        "created_at": WHEN,
        "updated_at": WHEN,
    }
    return Job(**{**fields, **changes})


def a_corpus(**changes: Any) -> Corpus:
    spec = CorpusSpec(
        name="books",
        domains=({"name": "plays", "paths": ("/t/p",)}, {"name": "code", "paths": ("/t/c",)}),
    )
    spec = changes.get("spec", spec)
    fields = {
        "id": "corpus-1",
        "name": spec.name,
        "state": CorpusState.READY,
        "spec": spec,
        "manifest": a_manifest(),
        "created_at": WHEN,
        "updated_at": WHEN,
    }
    return Corpus(**{**fields, **changes})


def a_manifest() -> CorpusManifest:
    def census(name: str, tokens: int) -> DomainCensus:
        return DomainCensus(
            name=name,
            documents=40,
            bytes=4 * tokens,
            tokens=tokens,
            heldout_documents=2,
            heldout_bytes=40_000,
            heldout_tokens=10_000,
        )

    return CorpusManifest(
        digest="d1",
        domains=(census("plays", 250_000), census("code", 750_000)),
        vocab_size=1024,
        tokenizer_sha256="t1",
    )


def a_run(**changes: Any) -> Run:
    fields = {
        "id": "run-1",
        "job_id": "job-1",
        "rung": 0,
        "kind": "ngram",
        "purpose": "search",
        "label": "natural",
        "state": RunState.SUCCEEDED,
        "mixture": Mixture({"plays": 0.25, "code": 0.75}),
        "seed": 1,
        "attempt": 1,
        "objective": 2.25,
        "seconds": 0.5,
        "created_at": WHEN,
    }
    return Run(**{**fields, **changes})


def an_interval(mean: float, half: float = 0.01) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half)


def a_report(**changes: Any) -> Report:
    fields = {
        "job_id": "job-1",
        "name": "nightly",
        "corpus_digest": "d1",
        "created_at": WHEN,
        "confidence": 0.9,
        "verdict": "Train on 70% plays.",
        "recommended": Mixture({"plays": 0.7, "code": 0.3}),
        "domains": (
            DomainShare(
                name="plays",
                tokens=250_000,
                natural=0.25,
                baseline=0.25,
                recommended=Interval(mean=0.7, low=0.62, high=0.78),
                epochs=2.8,
                cap=0.7,
                binding="supply of plays",
            ),
            DomainShare(
                name="code",
                tokens=750_000,
                natural=0.75,
                baseline=0.75,
                recommended=Interval(mean=0.3, low=0.22, high=0.38),
                epochs=0.4,
                cap=1.0,
            ),
        ),
        "evaluations": (
            EvalReport(
                name="plays",
                weight=1.0,
                predicted=an_interval(2.1),
                measured=an_interval(2.11),
                baseline_measured=an_interval(2.4),
            ),
            EvalReport(name="code", weight=0.0, predicted=an_interval(1.9)),
            EvalReport(name="poems", weight=0.0, predicted=an_interval(2.9)),
        ),
        "predicted_objective": an_interval(2.1),
        "measured_objective": an_interval(2.11),
        "chance_of_beating": {"baseline": 0.97, "uniform": 0.95},
        "predicted_gain": {"baseline": an_interval(0.3), "uniform": an_interval(0.12)},
        "verification": (
            PairedDifference(
                reference="baseline",
                difference=an_interval(0.29),
                chance=0.9996,
                pairs=((1, 2.4, 2.1), (2, 2.42, 2.12)),
            ),
        ),
        "rungs": (
            RungSummary(kind="ngram", runs=48, failed=1, seconds=12.0,
                        agreement=Interval(mean=0.9, low=0.8, high=0.95), shared=6),
            RungSummary(kind="proxy", runs=20, failed=0, seconds=130.0),
        ),
        "stop_reason": "every run that the rungs allow is done",
        "notes": ("code hurts plays",),
    }  # fmt: skip
    return Report(**{**fields, **changes})


def an_event(seq: int, kind: str, **payload: Any) -> Event:
    return Event(job_id="job-1", seq=seq, type=kind, payload=payload, created_at=WHEN)


def a_problem(message: str) -> Problem:
    return Problem(code="engine_failed", message=message)
