"""How operations are documented: the errors each may answer with, and examples."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service.api.examples import PROBLEM
from service.errors import PROBLEM_JSON, ProblemDocument

__all__ = ["answers", "body_example", "build_openapi"]

_MEANINGS = {
    403: "Sent by the page of another site.",
    404: "There is no such corpus, job or run.",
    409: "Not possible in the present state.",
    413: "The body is too large.",
    422: "The request is wrong; `errors` and `details` say where.",
    503: "The server cannot answer now; nothing is lost, try again.",
}


def answers(example: Any, *errors: int, status: int = 200, what: str = "") -> dict[int | str, Any]:
    """The documented responses of an operation.

    Args:
        example: Body of the successful answer.
        errors: Statuses of the errors that the operation is expected to give.
        status: Of the successful answer.
        what: Describes the successful answer.
    """
    success: dict[str, Any] = {"content": {"application/json": {"example": example}}}
    if what:
        success["description"] = what
    documented: dict[int | str, Any] = {status: success}
    documented.update({code: _error(code) for code in (*errors, 422, 503)})
    return documented


def body_example(example: Any) -> dict[str, Any]:
    """An example of the request's body."""
    return {"requestBody": {"content": {"application/json": {"example": example}}}}


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """The API document; made once, then kept on the application.

    FastAPI's own error schemas are taken out: no answer has their shape.
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        _, errors = models_json_schema(
            [(ProblemDocument, "serialization")], ref_template="#/components/schemas/{model}"
        )
        schemas.update(errors["$defs"])
        app.openapi_schema = document
    return app.openapi_schema


def _error(code: int) -> dict[str, Any]:
    example = PROBLEM if code == 422 else None
    content: dict[str, Any] = {
        "schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    }
    if example is not None:
        content["example"] = example
    return {"description": _MEANINGS[code], "content": {PROBLEM_JSON: content}}
