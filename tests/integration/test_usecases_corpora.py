"""Registering a corpus, and preparing it under a lease."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from builders import a_corpus_spec, a_manifest

from cuvee.errors import ConflictError, FencedError, IdempotencyError, NotFoundError, SpecError
from cuvee.records import Problem
from cuvee.states import CorpusState, JobState
from service.queue import ADVANCE, CPU, PREPARE, Message
from service.usecases import corpora, jobs, sweep

PROBLEM = Problem(code="corpus_invalid", message="verse has no documents", details={"domain": "v"})


def test_registering_rings_for_the_preparation(desk: Any) -> None:
    corpus = desk.corpus()
    assert corpus.state is CorpusState.REGISTERED
    assert desk.sent == [Message(PREPARE, corpus.id, CPU)]


def test_a_corpus_is_found_by_id_and_by_name_and_keeps_the_order_of_its_domains(desk: Any) -> None:
    corpus = desk.corpus(name="texts", domains=("zebra", "ant", "longer-name", "b"))
    by_name = desk.do(corpora.get_corpus, desk.tenant, "texts")
    assert by_name == desk.do(corpora.get_corpus, desk.tenant, corpus.id)
    assert by_name.spec == a_corpus_spec(("zebra", "ant", "longer-name", "b"), name="texts")


def test_another_tenants_corpus_is_not_there(desk: Any) -> None:
    other = "00000000-0000-7000-8000-000000000002"
    corpus = desk.corpus()
    for reference in (corpus.id, "corpus"):
        with pytest.raises(NotFoundError):
            desk.do(corpora.get_corpus, other, reference)
    assert desk.do(corpora.list_corpora, other).items == ()


def test_a_taken_name_is_refused_with_the_id_of_who_has_it(desk: Any) -> None:
    corpus = desk.corpus()
    with pytest.raises(ConflictError, match="same specification") as same:
        desk.corpus()
    assert same.value.details["id"] == corpus.id
    assert same.value.details["same_spec"] is True
    with pytest.raises(ConflictError, match="another specification") as other:
        desk.corpus(domains=("a", "b"))
    assert other.value.details["same_spec"] is False


def test_corpora_without_a_name_never_collide(desk: Any) -> None:
    assert desk.corpus(name=None).id != desk.corpus(name=None).id


def test_a_failed_corpus_gives_its_name_back_and_the_name_means_the_newest(desk: Any) -> None:
    first = desk.corpus()
    lease = desk.do(corpora.claim_preparation, first.id, "w")
    desk.do(corpora.fail_preparation, first.id, lease.attempt, PROBLEM)
    second = desk.corpus()
    assert desk.do(corpora.get_corpus, desk.tenant, "corpus").id == second.id
    assert desk.do(corpora.get_corpus, desk.tenant, first.id).error == PROBLEM


def test_one_key_makes_one_corpus_however_often_and_concurrently_it_is_sent(desk: Any) -> None:
    def register(_: int) -> str:
        spec = a_corpus_spec(name="once")
        return desk.do(corpora.register_corpus, desk.tenant, spec, idempotency=("key", "hash")).id

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(register, range(12)))
    assert len(ids) == 1
    assert len(desk.do(corpora.list_corpora, desk.tenant).items) == 1


def test_a_key_used_for_another_request_is_refused(desk: Any) -> None:
    desk.do(corpora.register_corpus, desk.tenant, a_corpus_spec(), idempotency=("key", "one"))
    with pytest.raises(IdempotencyError, match="new key"):
        desk.do(corpora.register_corpus, desk.tenant, a_corpus_spec(), idempotency=("key", "two"))


def test_a_key_whose_request_was_refused_can_be_used_again(desk: Any) -> None:
    desk.corpus(name="taken")
    taken, free = a_corpus_spec(name="taken"), a_corpus_spec(name="free")
    with pytest.raises(ConflictError, match="taken"):
        desk.do(corpora.register_corpus, desk.tenant, taken, idempotency=("key", "one"))
    made = desk.do(corpora.register_corpus, desk.tenant, free, idempotency=("key", "two"))
    assert made.name == "free"


def test_the_same_key_means_another_thing_for_another_operation(desk: Any) -> None:
    desk.do(
        corpora.register_corpus, desk.tenant, a_corpus_spec(name="corpus"), idempotency=("k", "h")
    )
    from builders import a_spec

    job = desk.do(jobs.create_job, desk.tenant, a_spec(), idempotency=("k", "h"))
    again = desk.do(jobs.create_job, desk.tenant, a_spec(), idempotency=("k", "h"))
    assert job.id == again.id


def test_pages_cover_everything_once_newest_first(desk: Any) -> None:
    made = [desk.corpus(name=f"c{number}").id for number in range(5)]
    seen, cursor = [], None
    while True:
        page = desk.do(corpora.list_corpora, desk.tenant, limit=2, cursor=cursor)
        seen += [corpus.id for corpus in page.items]
        if (cursor := page.next_cursor) is None:
            break
        desk.corpus(name=f"late{len(seen)}")  # does not shift what is still to come
    assert seen == made[::-1]


@pytest.mark.parametrize("cursor", ["", "nonsense", "WzEsMl0=", "WyJqb2JzOiIsICJ4Il0="])
def test_a_cursor_of_another_list_is_refused(desk: Any, cursor: str) -> None:
    with pytest.raises(SpecError, match="cursor"):
        desk.do(corpora.list_corpora, desk.tenant, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_limit_out_of_range_is_refused(desk: Any, limit: int) -> None:
    with pytest.raises(SpecError, match="1 to 200"):
        desk.do(corpora.list_corpora, desk.tenant, limit=limit)


# ------------------------------------------------------------------------------------------------
# Preparation


def test_of_several_workers_one_prepares(desk: Any) -> None:
    corpus = desk.corpus()
    with ThreadPoolExecutor(6) as pool:
        leases = list(
            pool.map(lambda n: desk.do(corpora.claim_preparation, corpus.id, f"w{n}"), range(6))
        )
    assert len([lease for lease in leases if lease is not None]) == 1


def test_progress_is_told_in_words(desk: Any) -> None:
    corpus = desk.corpus()
    lease = desk.do(corpora.claim_preparation, corpus.id, "w")
    assert lease.spec == corpus.spec
    assert desk.do(corpora.renew_preparation, corpus.id, lease.attempt, "packing verse: 40 %")
    assert desk.do(corpora.renew_preparation, corpus.id, lease.attempt)
    job = desk.accept()
    assert desk.do(corpora.get_corpus, desk.tenant, corpus.id).progress == "packing verse: 40 %"
    assert job.progress.phase == "preparing"
    assert "packing verse: 40 %" in job.progress.message


def test_a_ready_corpus_rings_for_the_jobs_that_wait(desk: Any) -> None:
    corpus = desk.corpus()
    job = desk.accept()
    assert job.progress.phase == "waiting"
    assert Message(ADVANCE, job.id, CPU) not in desk.sent
    desk.prepare(corpus.id)
    assert Message(ADVANCE, job.id, CPU) in desk.sent
    ready = desk.do(corpora.get_corpus, desk.tenant, corpus.id)
    assert ready.state is CorpusState.READY
    assert ready.manifest == a_manifest()
    assert ready.progress is None


def test_completing_twice_is_completing_once(desk: Any) -> None:
    corpus = desk.corpus()
    lease = desk.do(corpora.claim_preparation, corpus.id, "w")
    for _ in range(3):
        desk.do(corpora.complete_preparation, corpus.id, lease.attempt, a_manifest())
    assert desk.do(corpora.get_corpus, desk.tenant, corpus.id).manifest == a_manifest()


def test_a_failed_corpus_fails_the_jobs_that_wait_and_says_why(desk: Any) -> None:
    corpus = desk.corpus()
    job = desk.accept()
    lease = desk.do(corpora.claim_preparation, corpus.id, "w")
    desk.do(corpora.fail_preparation, corpus.id, lease.attempt, PROBLEM)
    failed = desk.job(job.id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert "verse has no documents" in failed.error.message
    assert failed.error.details == {"domain": "v", "corpus_id": corpus.id}
    assert desk.event_types(job.id)[-1] == "job.failed"
    with pytest.raises(ConflictError, match="verse has no documents"):
        desk.accept()


def test_a_superseded_preparation_can_write_nothing(desk: Any) -> None:
    corpus = desk.corpus()
    old = desk.do(corpora.claim_preparation, corpus.id, "old", 60)
    desk.sql("UPDATE corpus SET lease_until = now() - interval '1 second'")
    assert desk.do(sweep.expire_leases) == 1
    new = desk.do(corpora.claim_preparation, corpus.id, "new")
    assert new.attempt == old.attempt + 1
    assert not desk.do(corpora.renew_preparation, corpus.id, old.attempt, "still here")
    for late in (
        lambda s: corpora.complete_preparation(s, corpus.id, old.attempt, a_manifest()),
        lambda s: corpora.fail_preparation(s, corpus.id, old.attempt, PROBLEM),
        lambda s: corpora.release_preparation(s, corpus.id, old.attempt),
    ):
        with pytest.raises(FencedError):
            desk.do(late)
    desk.do(corpora.complete_preparation, corpus.id, new.attempt, a_manifest())
    with pytest.raises(FencedError):
        desk.do(corpora.complete_preparation, corpus.id, old.attempt, a_manifest())


def test_a_released_preparation_can_be_taken_again_and_is_not_counted(desk: Any) -> None:
    corpus = desk.corpus()
    for _ in range(5):
        lease = desk.do(corpora.claim_preparation, corpus.id, "w")
        desk.do(corpora.release_preparation, corpus.id, lease.attempt)
    assert desk.do(corpora.get_corpus, desk.tenant, corpus.id).state is CorpusState.REGISTERED


def test_a_preparation_that_kills_its_workers_fails_in_the_end(desk: Any) -> None:
    corpus = desk.corpus()
    job = desk.accept()
    for _ in range(3):
        assert desk.do(corpora.claim_preparation, corpus.id, "victim") is not None
        desk.sql("UPDATE corpus SET lease_until = now() - interval '1 second'")
        desk.do(sweep.expire_leases, max_attempts=3)
    failed = desk.do(corpora.get_corpus, desk.tenant, corpus.id)
    assert failed.state is CorpusState.FAILED
    assert "victim" in failed.error.message
    assert desk.job(job.id).state is JobState.FAILED
