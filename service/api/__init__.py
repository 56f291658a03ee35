"""The HTTP API, version 1: one module per resource."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from service.api import corpora, events, health, jobs, runs
from service.deps import refuse_cross_site

__all__ = ["TAGS", "api_router"]

TAGS = [
    {"name": "corpora", "description": "Text by domain, prepared once."},
    {"name": "jobs", "description": "Searches for the mixture that does best."},
    {"name": "runs", "description": "Evaluations of one mixture at one rung."},
    {"name": "server", "description": "Health and version."},
]


def api_router() -> APIRouter:
    """All operations; ``/v1`` only ever grows by addition."""
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(refuse_cross_site)])
    v1.include_router(corpora.router)  # /v1/corpora
    v1.include_router(jobs.router)  # /v1/jobs
    v1.include_router(events.router)  # /v1/jobs/{id}/events
    v1.include_router(runs.router)  # /v1/jobs/{id}/runs, /v1/runs
    v1.include_router(health.version_router)  # /v1/version
    everything = APIRouter()
    everything.include_router(v1)
    everything.include_router(health.router)  # /healthz, /readyz
    return everything
