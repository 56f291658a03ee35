from __future__ import annotations

import json

import httpx
import pytest

from cuvee.client import Client
from cuvee.errors import CuveeError, UnavailableError
from cuvee.spec import JobSpec, NgramRung

SPEC = JobSpec(corpus="c", rungs=(NgramRung(),))
REFUSED = httpx.ConnectError("[Errno 111] Connection refused")


def test_the_address_comes_from_the_argument_then_the_environment_then_the_default(monkeypatch):
    monkeypatch.delenv("CUVEE_URL", raising=False)
    assert Client().url == "http://127.0.0.1:8321"
    monkeypatch.setenv("CUVEE_URL", "http://there:1/")
    assert Client().url == "http://there:1"
    assert Client("http://here:2").url == "http://here:2"


def test_every_post_carries_an_idempotency_key_that_survives_retries(
    client, script, answer, job_json
):
    script.answers = [REFUSED, httpx.Response(503), answer(job_json), answer(job_json)]
    client.submit(SPEC)
    client.cancel("j1")
    keys = [request.headers["idempotency-key"] for request in script.requests]
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


def test_a_given_idempotency_key_is_sent(client, script, answer, job_json):
    script.answers = [answer(job_json)]
    client.submit(SPEC, idempotency_key="mine")
    assert script.requests[0].headers["idempotency-key"] == "mine"


def test_the_specification_is_sent_whole(client, script, answer, job_json):
    script.answers = [answer(job_json)]
    client.submit(SPEC)
    sent = JobSpec.model_validate_json(script.requests[0].content)
    assert sent == SPEC
    assert json.loads(script.requests[0].content)["rungs"][0]["kind"] == "ngram"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_failure_is_tried_again(client, script, answer, job_json, status):
    script.answers = [httpx.Response(status), answer(job_json)]
    assert client.get_job("j1").id == "j1"


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500])
def test_a_lasting_failure_is_not_tried_again(client, script, status):
    script.answers = [httpx.Response(status)]
    with pytest.raises(CuveeError):
        client.get_job("j1")
    assert len(script.requests) == 1


def test_trying_again_ends_with_an_error_that_names_the_address_and_the_remedy(client, script):
    script.answers = [REFUSED] * 3
    with pytest.raises(UnavailableError, match=r"http://cuvee.test.*`cuvee up`"):
        client.get_job("j1")
    assert len(script.requests) == 3


def test_a_slow_server_is_told_from_a_missing_one(client, script):
    script.answers = [httpx.ReadTimeout("timed out")] * 3
    with pytest.raises(UnavailableError, match="in time"):
        client.get_job("j1")


def test_readiness_is_asked_once(client, script, problem):
    checks = {"database": "does not answer"}
    script.answers = [problem(503, "unavailable", details={"checks": checks})]
    with pytest.raises(UnavailableError) as caught:
        client.ready()
    assert caught.value.details["checks"] == checks
    assert len(script.requests) == 1


def test_names_are_escaped_in_paths(client, script, answer, job_json):
    script.answers = [answer(job_json)]
    client.get_job("a/b?c")
    assert script.requests[0].url.raw_path == b"/v1/jobs/a%2Fb%3Fc"


def test_runs_reads_page_after_page(client, script, answer):
    run = {
        "job_id": "j1",
        "rung": 0,
        "kind": "ngram",
        "purpose": "search",
        "label": None,
        "state": "queued",
        "mixture": {"a": 1.0},
        "seed": 1,
        "attempt": 0,
        "created_at": "2026-11-24T08:00:00Z",
    }
    script.answers = [
        answer({"items": [{**run, "id": "r1"}, {**run, "id": "r2"}], "next_cursor": "next"}),
        answer({"items": [{**run, "id": "r3"}], "next_cursor": None}),
    ]
    assert [r.id for r in client.runs("j1", state="queued")] == ["r1", "r2", "r3"]
    assert script.requests[1].url.params["cursor"] == "next"
    assert script.requests[1].url.params["state"] == "queued"


def test_fields_of_a_newer_server_are_ignored(client, script, answer, job_json):
    job_json["progress"] = {**job_json["progress"], "of_tomorrow": 1}
    script.answers = [answer({**job_json, "new": {"a": 1}})]
    assert client.get_job("j1").progress.runs_planned == 1


def test_an_answer_that_cannot_be_read_names_the_place(client, script, answer, job_json):
    script.answers = [answer({**job_json, "state": "dreaming"})]
    with pytest.raises(CuveeError, match="at state"):
        client.get_job("j1")


def test_live_tells_without_raising(client, script, answer):
    script.answers = [answer({"status": "live"}), REFUSED]
    assert client.live()
    assert not client.live()
