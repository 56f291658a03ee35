"""One table from error class to HTTP status, and one body for every error: RFC 9457.

::

    {"type": "urn:cuvee:problem:not_found", "title": "Not found", "status": 404,
     "detail": "no job 'mixture-1'", "code": "not_found", "request_id": "…",
     "errors": [{"pointer": "/rungs/0/tokens", "message": "…"}], "details": {…}}

``code`` is what programs branch on and never changes its meaning; ``detail`` is for people.
``errors`` is there when fields of the request are wrong, ``details`` when the error carries facts.
Input is named by its place and never sent back whole.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from cuvee.errors import (
    CheckpointError,
    ConflictError,
    CorpusError,
    CuveeError,
    EngineError,
    EpochCapError,
    FencedError,
    IdempotencyError,
    InfeasibleError,
    MissingExtraError,
    NotFoundError,
    SpecError,
    TransitionError,
    UnavailableError,
    error_classes,
)
from cuvee.spec import Record
from service.middleware import SECURITY_HEADERS, request_id_of

__all__ = [
    "BODY_TOO_LARGE",
    "PROBLEM_JSON",
    "STATUS",
    "FieldError",
    "ProblemDocument",
    "add_error_handlers",
    "problem_response",
    "status_of",
]

PROBLEM_JSON = "application/problem+json"

BODY_TOO_LARGE = "body_too_large"

STATUS: Mapping[type[CuveeError], int] = {
    CuveeError: 500,
    SpecError: 422,
    InfeasibleError: 422,
    CorpusError: 422,
    EpochCapError: 422,
    EngineError: 500,
    CheckpointError: 500,
    NotFoundError: 404,
    ConflictError: 409,
    TransitionError: 409,
    # Not 409: waiting does not help, the request itself is wrong (draft-ietf-httpapi-idempotency).
    IdempotencyError: 422,
    FencedError: 409,
    UnavailableError: 503,
    MissingExtraError: 500,
}

_TITLES: Mapping[type[CuveeError], str] = {
    CuveeError: "The server failed",
    SpecError: "The request is not valid",
    InfeasibleError: "No mixture satisfies the constraints",
    CorpusError: "The text cannot be used",
    EpochCapError: "A domain would be repeated too often",
    EngineError: "The numerics failed",
    CheckpointError: "A checkpoint cannot be used",
    NotFoundError: "Not found",
    ConflictError: "Not possible in the present state",
    TransitionError: "Not possible in the present state",
    IdempotencyError: "The idempotency key belongs to another request",
    FencedError: "Another attempt has taken over",
    UnavailableError: "Not available now",
    MissingExtraError: "Something is not installed on the server",
}

_CODES_BY_STATUS: Mapping[int, str] = {
    400: SpecError.code,
    404: NotFoundError.code,
    405: "method_not_allowed",
    406: "not_acceptable",
    413: BODY_TOO_LARGE,
    415: "unsupported_media_type",
    422: SpecError.code,
    503: UnavailableError.code,
}

_MESSAGE_LIMIT = 400
"""Messages may name a short value, such as a misspelt domain; a long one is cut."""

_RETRY_AFTER_SECONDS = "2"

log = logging.getLogger(__name__)


class FieldError(Record):
    """One wrong field."""

    pointer: str = Field(description="JSON pointer into the body, or `?name` for the query.")
    message: str


class ProblemDocument(Record):
    """An error, as RFC 9457 lays it down, with a code for programs."""

    type: str = Field(description="`urn:cuvee:problem:` and the code.")
    title: str
    status: int
    detail: str = Field(description="What was wrong, where, and what to do.")
    code: str
    request_id: str | None = Field(None, description="Finds the request in the server's log.")
    errors: tuple[FieldError, ...] | None = None
    details: dict[str, Any] | None = None


def status_of(error: CuveeError) -> int:
    """The HTTP status of an error."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def problem_response(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldError] | None = None,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response of one error."""
    cls = error_classes().get(code)
    title = HTTPStatus(status).phrase if cls is None else _TITLES[cls]
    document = ProblemDocument(
        type=f"urn:cuvee:problem:{code}",
        title=title,
        status=status,
        detail=_cut(detail),
        code=code,
        request_id=request_id_of(request.scope),
        errors=tuple(errors) if errors else None,
        details=dict(details) if details else None,
    )
    sent = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        sent.setdefault("Retry-After", _RETRY_AFTER_SECONDS)
    return Response(
        document.model_dump_json(exclude_none=True), status, headers=sent, media_type=PROBLEM_JSON
    )


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error, the framework's too, with a problem document."""
    app.add_exception_handler(CuveeError, _cuvee_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    for database_error in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(database_error, _database_error)
    app.add_exception_handler(DataError, _unstorable_value)
    app.add_exception_handler(Exception, _unexpected_error)


async def _cuvee_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CuveeError)
    status = status_of(error)
    if status >= 500:
        log.error("request failed: %s", error, exc_info=error)
    return problem_response(request, status, error.code, error.message, details=error.details)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = _field_errors(error)
    first = fields[0]
    detail = f"{first.pointer or 'the body'}: {first.message}"
    if len(fields) > 1:
        detail += f" (and {len(fields) - 1} more, see errors)"
    return problem_response(request, 422, SpecError.code, detail, errors=fields)


async def _http_error(request: Request, error: Exception) -> Response:
    """Errors of the framework itself: no such path, method or media type; too large a body."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    detail = str(error.detail)
    if status == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = "there is nothing at this path; /openapi.json lists what there is"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.method} is not possible here" + (f", only {allowed}" if allowed else "")
    elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = "the body is larger than the server accepts"
    code = _CODES_BY_STATUS.get(status, f"http_{status}")
    return problem_response(request, status, code, detail, headers=error.headers)


async def _database_error(request: Request, error: Exception) -> Response:
    log.error("database not available: %s", error)
    detail = "the database does not answer now; nothing is lost, try again in a moment"
    return problem_response(request, 503, UnavailableError.code, detail)


async def _unstorable_value(request: Request, error: Exception) -> Response:
    """What passed every check and is no value for the database: a number too great, say."""
    log.warning("the database refused a value", exc_info=error)
    detail = "a value of the request is too great, or holds a character that cannot be stored"
    return problem_response(request, 422, SpecError.code, detail)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    log.error("request failed unexpectedly", exc_info=error)
    request_id = request_id_of(request.scope)
    detail = f"an unexpected error; the server's log has it under request {request_id}"
    # Starlette sends this one past the middleware, so the headers are added here.
    headers = {"X-Request-ID": request_id or "", **SECURITY_HEADERS}
    return problem_response(request, 500, CuveeError.code, detail, headers=headers)


# ------------------------------------------------------------------------------------------------
# Wrong fields


def _field_errors(error: RequestValidationError) -> list[FieldError]:
    found = [(e["type"], _field_error(e, error.body)) for e in error.errors()]
    pointers = [field.pointer for _, field in found]
    # Pydantic also calls a list too short when the items in it are wrong: that is said already.
    return [
        field
        for kind, field in found
        if kind != "too_short" or not any(p.startswith(f"{field.pointer}/") for p in pointers)
    ]


def _field_error(error: Mapping[str, Any], body: Any) -> FieldError:
    place, *path = error["loc"]
    kind, message = error["type"], str(error["msg"])
    if kind == "json_invalid":
        position = path[0] if path else 0
        reason = (error.get("ctx") or {}).get("error", "")
        return FieldError(
            pointer="", message=f"the body is not JSON: {reason} at character {position}"
        )
    if kind == "missing" and place == "body" and not path:
        message = "a JSON body is needed"
    elif kind == "missing":
        message = "this field is needed"
    elif kind == "extra_forbidden":
        message = "there is no such field"
    message = _cut(message.removeprefix("Value error, "))
    if place == "body":
        return FieldError(pointer=_pointer(path, body, kind), message=message)
    name = ".".join(str(part) for part in path)
    return FieldError(
        pointer=f"?{name}" if place == "query" else f"{place} {name}", message=message
    )


def _pointer(path: Sequence[int | str], body: Any, kind: str) -> str:
    """A JSON pointer (RFC 6901) to the wrong place in the body.

    Pydantic puts the tag of a tagged union into the path (``rungs, 0, proxy, tokens``); the tag is
    no place in the body, so parts that lead nowhere are left out, except the name of a missing
    field.
    """
    here, parts = body, []
    for i, part in enumerate(path):
        inside = range(len(here)) if isinstance(here, list) else here
        if isinstance(inside, dict | range) and part in inside:
            here = here[part]
        elif not (kind == "missing" and i == len(path) - 1):
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
    return _cut("".join(f"/{part}" for part in parts))


def _cut(text: str) -> str:
    return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"
