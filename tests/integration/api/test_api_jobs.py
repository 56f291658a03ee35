from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cuvee.client import Client
from cuvee.errors import (
    ConflictError,
    IdempotencyError,
    InfeasibleError,
    NotFoundError,
    SpecError,
    TransitionError,
)
from cuvee.spec import Constraints, JobSpec, NgramRung
from cuvee.states import JobState
from service.queue import ADVANCE, PREPARE

RUNGS = (NgramRung(runs=5),)


def spec(**changes) -> JobSpec:
    return JobSpec(**{"corpus": "text", "rungs": RUNGS, **changes})


def test_a_corpus_is_accepted_and_rings_for_its_preparation(http, corpus_spec, rung_bells):
    sent = corpus_spec("text").model_dump(mode="json")
    answer = http.post("/v1/corpora", json=sent)
    assert answer.status_code == 202
    corpus = answer.json()
    assert answer.headers["location"] == f"/v1/corpora/{corpus['id']}"
    assert corpus["state"] == "registered"
    assert rung_bells() == [(PREPARE, corpus["id"])]
    for reference in (corpus["id"], "text"):
        assert http.get(f"/v1/corpora/{reference}").json() == corpus
    assert http.get("/v1/corpora").json() == {"items": [corpus], "next_cursor": None}


def test_a_corpus_outside_the_data_roots_is_refused(client, corpus_spec):
    outside = corpus_spec("text", folder="/etc")
    with pytest.raises(SpecError, match="outside") as caught:
        client.register_corpus(outside)
    assert caught.value.details["pointer"] == "/domains/0/paths/0"
    assert client.list_corpora().items == ()


def test_a_job_is_accepted_before_its_corpus_is_ready(http, client, corpus, rung_bells):
    rung_bells()
    answer = http.post("/v1/jobs", json=spec(name="first").model_dump(mode="json"))
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert job["state"] == "accepted"
    assert job["corpus_id"] == corpus.id
    assert rung_bells() == []
    for reference in (job["id"], "first"):
        assert http.get(f"/v1/jobs/{reference}").json() == job
    assert [event.type for event in client.list_events("first").items] == ["job.accepted"]


def test_a_job_on_a_ready_corpus_rings_at_once(client, ready_corpus, rung_bells):
    rung_bells()
    job = client.submit(spec())
    assert rung_bells() == [(ADVANCE, job.id)]


def test_twenty_requests_with_one_key_make_one_job(server, corpus, client):
    def submit(_: int) -> str:
        with Client(server) as one:
            return one.submit(spec(), idempotency_key="the-key").id

    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(submit, range(20)))
    assert len(set(ids)) == 1
    assert [job.id for job in client.list_jobs().items] == ids[:1]


def test_a_key_answers_with_the_job_as_it_now_is(client, corpus):
    first = client.submit(spec(), idempotency_key="k")
    client.cancel(first.id)
    again = client.submit(spec(), idempotency_key="k")
    assert (again.id, again.state) == (first.id, JobState.CANCELLED)


def test_a_key_is_for_one_request_whatever_the_order_of_its_fields(http, corpus):
    headers = {"Idempotency-Key": "k"}
    short = {"corpus": "text", "rungs": [{"kind": "ngram", "runs": 5}]}
    long = {"seed": 0, "rungs": [{"runs": 5, "order": 5, "kind": "ngram"}], "corpus": "text"}
    first = http.post("/v1/jobs", json=short, headers=headers)
    assert http.post("/v1/jobs", json=long, headers=headers).json() == first.json()
    other = http.post("/v1/jobs", json={**long, "seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_a_key_of_another_request_is_refused_with_the_same_class(client, corpus):
    client.submit(spec(), idempotency_key="k")
    with pytest.raises(IdempotencyError, match="another request"):
        client.submit(spec(seed=1), idempotency_key="k")


def test_a_refused_request_does_not_use_up_its_key(client, corpus, corpus_spec):
    with pytest.raises(NotFoundError):
        client.submit(spec(corpus="later"), idempotency_key="k")
    client.register_corpus(corpus_spec("later"))
    assert client.submit(spec(corpus="later"), idempotency_key="k").state == JobState.ACCEPTED


def test_a_name_belongs_to_one_job_until_that_is_cancelled(client, corpus):
    first = client.submit(spec(name="mine"))
    with pytest.raises(ConflictError, match="exists already") as caught:
        client.submit(spec(name="mine", seed=1))
    assert caught.value.details["id"] == first.id
    client.cancel("mine")
    assert client.submit(spec(name="mine")).id == client.get_job("mine").id != first.id


def test_pages_cover_the_list_once_newest_first(client, corpus):
    made = [client.submit(spec(seed=i)).id for i in range(7)]
    seen, cursor = [], None
    for expected in (3, 3, 1):
        page = client.list_jobs(limit=3, cursor=cursor)
        assert len(page.items) == expected
        seen += [job.id for job in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert seen == made[::-1]


def test_a_page_stays_where_it_was_while_jobs_arrive(client, corpus):
    made = [client.submit(spec(seed=i)).id for i in range(4)]
    first = client.list_jobs(limit=2)
    client.submit(spec(seed=9))
    second = client.list_jobs(limit=2, cursor=first.next_cursor)
    assert [job.id for job in (*first.items, *second.items)] == made[::-1]


def test_jobs_are_listed_by_state(client, corpus):
    kept, gone = client.submit(spec()), client.submit(spec())
    client.cancel(gone.id)
    assert [job.id for job in client.list_jobs(state=JobState.CANCELLED).items] == [gone.id]
    assert [job.id for job in client.list_jobs(state="accepted").items] == [kept.id]


def test_a_cursor_of_another_list_is_refused(client, corpus):
    for seed in range(2):
        client.submit(spec(seed=seed))
    cursor = client.list_jobs(limit=1).next_cursor
    with pytest.raises(SpecError, match="cursor"):
        client.list_jobs(state="accepted", limit=1, cursor=cursor)
    with pytest.raises(SpecError, match="cursor"):
        client.list_corpora(cursor=cursor)


@pytest.mark.parametrize("cursor", ["x", "bm90IGpzb24=", "WyJqb2JzOiIsICJ4Il0=", "%00"])
def test_a_forged_cursor_is_refused(http, corpus, cursor):
    answer = http.get("/v1/jobs", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "spec_invalid")


STEPS = {"pause": "paused", "resume": "running", "cancel": "cancelled"}


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        (["pause"], "paused"),
        (["pause", "pause"], "paused"),
        (["pause", "resume"], "running"),
        (["resume"], "accepted"),
        (["cancel"], "cancelled"),
        (["cancel", "cancel"], "cancelled"),
        (["pause", "cancel"], "cancelled"),
    ],
)
def test_steps_that_are_allowed(client, corpus, steps, state):
    job = client.submit(spec())
    for step in steps:
        answer = getattr(client, step)(job.id)
    assert answer == client.get_job(job.id)
    assert answer.state == state


@pytest.mark.parametrize("step", ["pause", "resume"])
def test_a_job_that_has_ended_cannot_be_steered(http, client, corpus, step):
    job = client.submit(spec())
    client.cancel(job.id)
    with pytest.raises(TransitionError, match="cancelled") as caught:
        getattr(client, step)(job.id)
    assert caught.value.details == {"state": "cancelled", "allowed": []}
    answer = http.post(f"/v1/jobs/{job.id}/{step}")
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")


def test_a_report_that_is_not_there_says_why(client, corpus):
    job = client.submit(spec())
    with pytest.raises(ConflictError, match="not ready yet"):
        client.report(job.id)
    client.cancel(job.id)
    with pytest.raises(ConflictError, match="was cancelled"):
        client.report_html(job.id)


def test_what_needs_the_supply_is_refused_at_once_when_it_is_known(client, ready_corpus):
    with pytest.raises(InfeasibleError) as caught:
        client.submit(spec(constraints=Constraints(target_tokens=10**12)))
    assert len(caught.value.details["conflict"]) == 2


def test_and_fails_the_job_with_the_same_error_when_it_becomes_known(
    client, corpus, make_ready, begin
):
    job = client.submit(spec(constraints=Constraints(target_tokens=10**12)))
    make_ready(corpus)
    begin(job.id)
    failed = client.get_job(job.id)
    assert failed.state == JobState.FAILED
    with pytest.raises(InfeasibleError) as caught:
        client.submit(spec(constraints=Constraints(target_tokens=10**12)))
    assert failed.error is not None
    assert failed.error.code == caught.value.code
    assert failed.error.message == caught.value.message
    assert failed.error.details == dict(caught.value.details)
