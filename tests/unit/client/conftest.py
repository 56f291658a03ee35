"""A scripted server behind httpx's own transport: the network is an argument."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from cuvee.client import Client

Answer = httpx.Response | Exception
NOW = "2026-11-24T08:00:00Z"
JOB = {
    "id": "j1",
    "name": None,
    "state": "accepted",
    "spec": {"corpus": "c", "rungs": [{"kind": "ngram"}]},
    "corpus_id": "c1",
    "progress": {
        "phase": "waiting",
        "runs_done": 0,
        "runs_planned": 1,
        "runs_failed": 0,
        "runs_active": 0,
    },
    "created_at": NOW,
    "updated_at": NOW,
}


class Script:
    """Gives the answers in order and keeps the requests."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def client(script: Script) -> Iterator[Client]:
    with Client(
        "http://cuvee.test",
        transport=httpx.MockTransport(script),
        retry_delays=(0.0, 0.0),
        reconnect_seconds=5,
    ) as made:
        yield made


@pytest.fixture
def answer() -> Callable[..., httpx.Response]:
    def make(body: Any, status: int = 200, **headers: str) -> httpx.Response:
        return httpx.Response(status, json=body, headers=headers)

    return make


@pytest.fixture
def problem() -> Callable[..., httpx.Response]:
    def make(status: int, code: str, detail: str = "it went wrong", **more: Any) -> httpx.Response:
        body = {"title": "t", "status": status, "detail": detail, "code": code, **more}
        return httpx.Response(
            status,
            content=json.dumps(body).encode(),
            headers={"content-type": "application/problem+json"},
        )

    return make


@pytest.fixture
def job_json() -> dict[str, Any]:
    return dict(JOB)


@pytest.fixture
def stream() -> Callable[..., httpx.Response]:
    """A stream of the given events, which then stops."""

    def make(*events: tuple[int, str]) -> httpx.Response:
        text = "retry: 1000\n\n"
        for seq, kind in events:
            event = {"job_id": "j1", "seq": seq, "type": kind, "payload": {}, "created_at": NOW}
            text += f"event: {kind}\nid: {seq}\ndata: {json.dumps(event)}\n\n: ping\n\n"
        return httpx.Response(
            200, content=text.encode(), headers={"content-type": "text/event-stream"}
        )

    return make
