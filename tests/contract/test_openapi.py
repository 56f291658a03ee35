"""The API's document: as committed, complete, and covered by the client.

``python tests/contract/test_openapi.py`` writes docs/openapi.json anew.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cuvee.answer import Report
from cuvee.client import Client
from cuvee.errors import error_classes
from cuvee.records import Corpus, Event, Job, Page, Readiness, Run, ServerVersion
from cuvee.spec import CorpusSpec, JobSpec
from service.api import examples
from service.app import create_app
from service.errors import STATUS, ProblemDocument
from service.settings import Settings

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "openapi.json"
METHODS = {"get", "post", "put", "patch", "delete"}


def make_document() -> dict[str, Any]:
    settings = Settings(database_url="postgresql://nobody@localhost/none", environment="embedded")
    return create_app(settings).openapi()


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


DOCUMENT = make_document()
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method in METHODS
}
each_operation = pytest.mark.parametrize("name", sorted(OPERATIONS))


def test_the_committed_document_is_the_servers() -> None:
    assert COMMITTED.read_text() == as_text(DOCUMENT), (
        "the API has changed: if that is meant, run `python tests/contract/test_openapi.py`"
    )


def test_operation_ids_are_unique() -> None:
    count = sum(len(METHODS & set(operations)) for operations in DOCUMENT["paths"].values())
    assert len(OPERATIONS) == count


@each_operation
def test_the_client_has_a_method_for_each_operation(name: str) -> None:
    method = getattr(Client, name)
    in_path = re.findall(r"{(\w+)}", OPERATIONS[name][1])
    assert [p for p in in_path if p not in inspect.signature(method).parameters] == []


@each_operation
def test_each_operation_is_explained_and_has_an_example(name: str) -> None:
    method, _, operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["tags"]
    success = [r for status, r in operation["responses"].items() if status in ("200", "202")]
    assert len(success) == 1
    assert "example" in success[0]["content"]["application/json"]
    if method == "post" and "requestBody" in operation:
        assert "example" in operation["requestBody"]["content"]["application/json"]


@each_operation
def test_each_operation_documents_its_errors_as_problems(name: str) -> None:
    _, path, operation = OPERATIONS[name]
    errors = {status: r for status, r in operation["responses"].items() if status >= "400"}
    for status, response in errors.items():
        schema = response["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ProblemDocument"}, status
    if "{" in path:
        assert "404" in errors
    if name not in ("live", "version"):
        assert {"422", "503"} <= set(errors)


def test_no_schema_of_the_frameworks_own_errors_is_left() -> None:
    assert "HTTPValidationError" not in as_text(DOCUMENT)
    assert "ProblemDocument" in DOCUMENT["components"]["schemas"]


def test_every_reference_leads_somewhere() -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', as_text(DOCUMENT)))
    assert named <= set(DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize(
    ("record", "example"),
    [
        (CorpusSpec, examples.CORPUS_SPEC),
        (JobSpec, examples.JOB_SPEC),
        (Corpus, examples.CORPUS),
        (Job, examples.JOB),
        (Run, examples.RUN),
        (Event, examples.EVENT),
        (Report, examples.REPORT),
        (Readiness, examples.READINESS),
        (ServerVersion, examples.VERSION),
        (ProblemDocument, examples.PROBLEM),
        (Page[Job], examples.page(examples.JOB)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_examples_are_what_they_are_examples_of(
    record: type[BaseModel], example: dict[str, Any]
) -> None:
    record.model_validate(example)


def test_every_operation_and_every_error_is_in_the_handbook() -> None:
    handbook = (ROOT / "docs" / "api.md").read_text()
    for name, (method, path, _) in OPERATIONS.items():
        assert f"| `{method.upper()} {path}` | `{name}` |" in handbook, name
    for code, cls in error_classes().items():
        assert f"`{code}`" in handbook, code
        assert f"`{cls.__name__}`" in handbook, code
        assert re.search(rf"`{code}`[^\n]*\b{STATUS[cls]}\b", handbook), code


if __name__ == "__main__":
    COMMITTED.write_text(as_text(make_document()))
