"""Error responses turned back into the exceptions that the server raised."""

from __future__ import annotations

from typing import Any

import httpx

from cuvee.errors import (
    ConflictError,
    CuveeError,
    NotFoundError,
    SpecError,
    UnavailableError,
    error_classes,
)

__all__ = ["error_from", "unreachable"]

_BY_STATUS: dict[int, type[CuveeError]] = {
    404: NotFoundError,
    409: ConflictError,
    413: SpecError,
    422: SpecError,
    429: UnavailableError,
}


def error_from(response: httpx.Response) -> CuveeError:
    """The exception behind an error response whose body has been read.

    The code of the problem document decides. A response without one comes from a proxy, or from a
    server that is not Cuvée, and the status decides; the details then hold the start of the body.
    """
    body = _problem(response)
    if body is None:
        return _without_code(response)
    details = dict(body.get("details") or {})
    if body.get("errors"):
        details["errors"] = body["errors"]
    message = str(body.get("detail") or body.get("title") or response.reason_phrase)
    cls = error_classes().get(str(body.get("code"))) or _by_status(response.status_code)
    error = cls(message)
    error.details = details
    return error


def unreachable(url: str, error: httpx.TransportError) -> UnavailableError:
    """What to tell someone whose server does not answer."""
    if isinstance(error, httpx.ConnectError):
        return UnavailableError(
            f"no Cuvée server answers at {url}. Start one with `cuvee up`, or name another with "
            f"--url or CUVEE_URL ({error})",
            url=url,
        )
    if isinstance(error, httpx.TimeoutException):
        return UnavailableError(
            f"the server at {url} did not answer in time; it may be busy, try again", url=url
        )
    reason = str(error) or type(error).__name__
    return UnavailableError(f"the connection to {url} broke: {reason}", url=url)


def _problem(response: httpx.Response) -> dict[str, Any] | None:
    media_type = response.headers.get("content-type", "").partition(";")[0].strip()
    if media_type != "application/problem+json":
        return None
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _without_code(response: httpx.Response) -> CuveeError:
    cls = _by_status(response.status_code)
    return cls(
        f"{response.request.method} {response.request.url} answered {response.status_code} "
        f"{response.reason_phrase}, which is no answer of a Cuvée server: is the address right?",
        status=response.status_code,
        body=response.text[:200],
    )


def _by_status(status: int) -> type[CuveeError]:
    if status >= 500:
        return UnavailableError
    return _BY_STATUS.get(status, CuveeError)
