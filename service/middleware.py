"""What every response gets: a request id, and headers that keep browsers strict.

Plain ASGI, without Starlette's BaseHTTPMiddleware: that one puts a task and a buffer in front of
each stream.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PAGE_POLICY", "SECURITY_HEADERS", "ResponseHeaders", "request_id_of"]

PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy of all pages: own files only, nothing inline, no evaluation of text."""

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_REQUEST_ID = re.compile(r"^[A-Za-z0-9_.\-]{1,64}$")


def request_id_of(scope: Scope) -> str | None:
    """The id of the request that is being answered."""
    state: dict[str, object] = scope.get("state") or {}
    value = state.get("request_id")
    return value if isinstance(value, str) else None


class ResponseHeaders:
    """Takes the caller's ``X-Request-ID`` or makes one, and adds the security headers.

    A response that sets one of the headers itself keeps its own: the report page carries a policy
    that allows its inline style.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)
