"""What stands before every request: size, origin and token; and the headers of every answer. It knows no route."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 1024 * 1024

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_TOO_LARGE = "the body is too large"


class SecurityHeaders:
    """Outermost, so that an answer to a crash has them too. A page may set its own policy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class RequestGuard:
    """Refuses what is too large, and what another site's page sends from the owner's browser."""

    def __init__(self, app: ASGIApp, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        app: ASGIApp = self._app
        if scope["method"] not in _SAFE_METHODS and _is_cross_site(headers):
            app = JSONResponse({"error": "requests from other sites are refused"}, 403)
        elif declared.isdecimal() and int(declared) > self._max_body_bytes:
            app = JSONResponse({"error": _TOO_LARGE}, 413)
        await app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        left = self._max_body_bytes

        async def receive_counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, _TOO_LARGE)
            return message

        return receive_counted


def is_authorised(headers: Headers, token: SecretStr | None) -> bool:
    """Whether the bearer token is ours; always, when none is configured."""
    if token is None:
        return True
    scheme, _, given = headers.get("authorization", "").partition(" ")
    # Compared as bytes: compare_digest refuses text beyond ASCII.
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode(), token.get_secret_value().encode()
    )


def demand_token(headers: Headers, token: SecretStr | None) -> None:
    """Raises HTTPException(401) when the request is not authorised."""
    if not is_authorised(headers, token):
        raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})


def _is_cross_site(headers: Headers) -> bool:
    # Only browsers send these two; an older one sends Origin alone.
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")
