from __future__ import annotations

import json
import socket

import httpx
import pytest

from service.app import MAX_BODY_BYTES

JOB = {"corpus": "text", "rungs": [{"kind": "ngram"}]}
TARGET = {"kind": "proxy", "parameters": 100_000, "tokens": 100_000}


def with_(**changes):
    return {**JOB, **changes}


BAD_JOBS = {
    "no corpus": (with_(corpus="nowhere"), 404, "not_found", "there is no corpus 'nowhere'", None),
    "unknown field": (
        with_(constrains={}), 422, "spec_invalid", "there is no such field", "/constrains",
    ),
    "unknown field of a rung": (
        with_(rungs=[{"kind": "ngram"}, {**TARGET, "token": 1}]), 422, "spec_invalid",
        "there is no such field", "/rungs/1/token",
    ),
    "missing field": (
        with_(rungs=[{"kind": "proxy", "parameters": 10_000}]), 422, "spec_invalid",
        "this field is needed", "/rungs/0/tokens",
    ),
    "unknown rung": (
        with_(rungs=[{"kind": "magic"}]), 422, "spec_invalid", "'ngram', 'proxy'", "/rungs/0",
    ),
    "no rungs": (with_(rungs=[]), 422, "spec_invalid", "at least 1 item", "/rungs"),
    "wrong type": (with_(seed="one"), 422, "spec_invalid", "valid integer", "/seed"),
    "out of range": (
        with_(rungs=[{"kind": "ngram", "runs": 0}]), 422, "spec_invalid",
        "greater than or equal to 1", "/rungs/0/runs",
    ),
    "both shapes": (
        with_(rungs=[{**TARGET, "parameters": None}]), 422, "spec_invalid",
        "either `parameters`", "/rungs/0",
    ),
    "shares that do not sum to one": (
        with_(baseline={"a": 0.5, "b": 0.4}), 422, "spec_invalid", "shares sum to 0.9", "/baseline",
    ),
    "baseline of an unknown domain": (
        with_(baseline={"a": 0.5, "z": 0.5}), 422, "spec_invalid", "unknown domains ['z']", None,
    ),
    "weights of an unknown evaluation set": (
        with_(objective={"weights": {"a": 1, "news": 1}}), 422, "spec_invalid",
        "unknown evaluation sets ['news']", None,
    ),
    "bounds of an unknown domain": (
        with_(constraints={"bounds": {"z": {"min": 0.1}}}), 422, "spec_invalid",
        "unknown domains ['z']", None,
    ),
    "bounds that cross": (
        with_(constraints={"bounds": {"a": {"min": 0.6, "max": 0.5}}}), 422, "spec_invalid",
        "min 0.6 is greater than max 0.5", "/constraints/bounds/a",
    ),
    "constraints that nothing satisfies": (
        with_(constraints={"bounds": {"a": {"min": 0.7}, "b": {"min": 0.6}}}), 422,
        "spec_infeasible", "lower bounds sum to 1.3", None,
    ),
    "a name that is no name": (
        with_(name="my job/1"), 422, "spec_invalid", "not a valid name", "/name",
    ),
    "a corpus name that no database can hold": (
        with_(corpus="a\x00b"), 404, "not_found", "there is no corpus", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(BAD_JOBS))
def test_a_bad_job_is_refused_with_place_and_reason(http, corpus, case):
    body, status, code, words, pointer = BAD_JOBS[case]
    answer = http.post("/v1/jobs", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert words in problem["detail"]
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer
    assert http.get("/v1/jobs").json()["items"] == []


def test_all_wrong_fields_are_named(http, corpus):
    body = {"rungs": [{"kind": "ngram", "runs": 0, "order": 99}], "seed": -1}
    problem = http.post("/v1/jobs", json=body).json()
    assert {e["pointer"] for e in problem["errors"]} == {
        "/corpus", "/seed", "/rungs/0/runs", "/rungs/0/order",
    }  # fmt: skip
    assert "and 3 more" in problem["detail"]


def test_infeasible_constraints_come_with_those_that_clash(http, corpus):
    bounds = {"a": {"min": 0.7}, "b": {"min": 0.6}}
    problem = http.post("/v1/jobs", json=with_(constraints={"bounds": bounds})).json()
    assert problem["details"]["conflict"] == ["bounds.a.min = 0.7", "bounds.b.min = 0.6"]


def test_input_is_never_sent_back(http, corpus):
    body = with_(seed="hunter2", budget={"max_seconds": ["hunter2"]}, name={"password": "hunter2"})
    answer = http.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 3
    assert "hunter2" not in answer.text


def test_a_long_value_in_a_message_is_cut(http, corpus):
    answer = http.post("/v1/jobs", json=with_(name="!" * 100_000))
    assert answer.status_code == 422
    assert len(answer.content) < 2000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"corpus": ', "not JSON"),
        (b"", "a JSON body is needed"),
        (b"[1, 2]", "valid dictionary"),
        (b"[" * 100_000, "parsing the body"),
        (b'{"corpus": "\xff"}', "parsing the body"),
    ],
)
def test_a_body_that_is_no_specification_is_refused(http, content, words):
    answer = http.post("/v1/jobs", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] == "spec_invalid"
    assert words in answer.json()["detail"]


def test_a_body_of_another_type_is_refused(http):
    answer = http.post("/v1/jobs", content=json.dumps(JOB), headers={"content-type": "text/plain"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "spec_invalid"


def chunks():
    for _ in range(1 + MAX_BODY_BYTES // 65536):
        yield b" " * 65536


def test_a_body_that_is_too_large_is_refused_with_and_without_a_length(http):
    headers = {"content-type": "application/json"}
    for content in (b" " * (MAX_BODY_BYTES + 1), chunks()):
        answer = http.post("/v1/jobs", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["code"] == "body_too_large"
    almost = http.post("/v1/jobs", content=b" " * MAX_BODY_BYTES, headers=headers)
    assert almost.status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v2/jobs", 404, "not_found"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
        ("PUT", "/v1/jobs/x", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/x", 404, "not_found"),
        ("GET", "/v1/jobs/00000000-0000-7000-8000-000000000009", 404, "not_found"),
        ("GET", "/v1/jobs/%00", 404, "not_found"),
        ("GET", "/v1/jobs/x/runs", 404, "not_found"),
        ("GET", "/v1/jobs/x/events", 404, "not_found"),
        ("GET", "/v1/jobs/x/report", 404, "not_found"),
        ("POST", "/v1/jobs/x/cancel", 404, "not_found"),
        ("GET", "/v1/corpora/x", 404, "not_found"),
        ("GET", "/v1/runs/x", 404, "not_found"),
        ("GET", "/v1/jobs?limit=0", 422, "spec_invalid"),
        ("GET", "/v1/jobs?limit=201", 422, "spec_invalid"),
        ("GET", "/v1/jobs?state=asleep", 422, "spec_invalid"),
        ("GET", "/v1/jobs?sate=running", 422, "spec_invalid"),
        ("GET", "/docs", 404, "not_found"),
    ],
)
def test_every_error_is_a_problem_document(http, method, path, status, code):
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:cuvee:problem:{code}"
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_a_misspelt_parameter_is_named(http):
    problem = http.get("/v1/jobs?sate=running").json()
    assert problem["errors"] == [{"pointer": "?sate", "message": "there is no such field"}]


def test_an_idempotency_key_has_a_sensible_length(http, corpus):
    for key in ("", "k" * 256):
        answer = http.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": key})
        assert answer.status_code == 422


def test_a_page_of_another_site_cannot_steer(http, corpus):
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert http.post("/v1/jobs/x/cancel", headers=cross).status_code == 403
    assert http.get("/v1/jobs", headers=cross).status_code == 200
    same = {"Sec-Fetch-Site": "same-origin"}
    assert http.post("/v1/jobs/x/cancel", headers=same).status_code == 404


@pytest.mark.parametrize("path", ["/", "/v1/jobs", "/nothing", "/healthz"])
def test_every_answer_carries_the_security_headers(http, path):
    headers = http.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_a_request_id_is_passed_through_if_it_is_harmless(http):
    assert (
        http.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    )
    made = http.get("/healthz", headers={"X-Request-ID": "a b\tc"}).headers["x-request-id"]
    assert len(made) == 32


def test_an_unexpected_error_is_a_problem_that_tells_nothing(make_app, serve):
    async def broken() -> None:
        raise RuntimeError("the hidden cause")

    app = make_app()
    app.add_api_route("/broken", broken)
    with serve(app) as url:
        answer = httpx.get(f"{url}/broken")
    assert answer.status_code == 500
    assert answer.json()["code"] == "error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "hidden" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_database_that_is_away_is_503_and_worth_trying_again(broken_server):
    with httpx.Client(base_url=broken_server) as http:
        answer = http.get("/v1/jobs")
        assert answer.status_code == 503
        assert answer.json()["code"] == "unavailable"
        assert int(answer.headers["retry-after"]) > 0
        assert "secret" not in answer.text


def test_a_malformed_request_does_not_stop_the_server(server, http):
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n")
        assert b" 400 " in raw.recv(4096)
    assert http.get("/healthz").status_code == 200
