"""The limit on the size of a request's body."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import BODY_TOO_LARGE, problem_response

__all__ = ["DeclaredLength"]


class DeclaredLength:
    """Refuses a body that is too large by its own ``Content-Length``, before reading any of it.

    Starlette's limit counts what arrives, and so holds for bodies without a length too; but its
    answer to a declared one is plain text.
    """

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self.app = app
        self.max_body_size = max_body_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        if length.isdigit() and int(length) > self.max_body_size:
            detail = f"the body has {int(length):,} bytes; at most {self.max_body_size:,} are taken"
            response = problem_response(Request(scope), 413, BODY_TOO_LARGE, detail)
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)
