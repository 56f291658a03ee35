"""``/v1/corpora``: register text and see how its preparation goes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from cuvee.records import Corpus, Page
from cuvee.spec import CorpusSpec
from service.api import examples
from service.api.docs import answers, body_example
from service.deps import KeyDep, ListQuery, SettingsDep, TenantDep, WorkDep, keyed
from service.roots import check_paths
from service.usecases import corpora

router = APIRouter(prefix="/corpora", tags=["corpora"])


@router.post(
    "",
    operation_id="register_corpus",
    summary="Register a corpus",
    status_code=202,
    responses=answers(
        {**examples.CORPUS, "state": "registered", "manifest": None},
        409,
        413,
        status=202,
        what="Kept; it is prepared in the background. `Location` is the corpus.",
    ),
    openapi_extra=body_example(examples.CORPUS_SPEC),
)
def register(
    spec: CorpusSpec,
    response: Response,
    work: WorkDep,
    tenant: TenantDep,
    settings: SettingsDep,
    key: KeyDep,
) -> Corpus:
    """Name the text of each domain, by paths of the server.

    Preparing the same text again costs nothing: what is prepared is named by a digest of its
    content.
    """
    check_paths(spec, settings)
    with work() as session:
        corpus = corpora.register_corpus(session, tenant, spec, idempotency=keyed(key, spec))
    response.headers["Location"] = f"/v1/corpora/{corpus.id}"
    return corpus


@router.get(
    "",
    operation_id="list_corpora",
    summary="List corpora, newest first",
    responses=answers(examples.page(examples.CORPUS)),
)
def list_corpora(
    query: Annotated[ListQuery, Query()], work: WorkDep, tenant: TenantDep
) -> Page[Corpus]:
    with work() as session:
        return corpora.list_corpora(session, tenant, limit=query.limit, cursor=query.cursor)


@router.get(
    "/{corpus}",
    operation_id="get_corpus",
    summary="Read a corpus by id or name",
    responses=answers(examples.CORPUS, 404),
)
def get_corpus(corpus: str, work: WorkDep, tenant: TenantDep) -> Corpus:
    with work() as session:
        return corpora.get_corpus(session, tenant, corpus)
