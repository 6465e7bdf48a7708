"""The routes and what they answer; every answer but the metrics is JSON, and none tells an internal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from bot.http.guard import RequestGuard, SecurityHeaders, demand_token, is_authorised
from bot.http.health import HealthPort, read_readiness
from bot.metrics import Metrics
from storage.models import ChatId


@dataclass(frozen=True, slots=True, kw_only=True)
class CronResult:
    """What one round did: the chats in which the bot speaks again, and how many old rows it cleaned away."""

    resumed: tuple[ChatId, ...]
    cleaned: int


def build_app(
    *,
    health: HealthPort,
    metrics: Metrics,
    cron: Callable[[], Awaitable[CronResult]],
    token: SecretStr | None = None,
    routes: Sequence[BaseRoute] = (),
) -> ASGIApp:
    """The whole app. With a token, `/livez` alone is open, and `/readyz` tells strangers only yes or no."""

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def readyz(request: Request) -> Response:
        readiness = await read_readiness(health)
        content = readiness.as_json()
        if not is_authorised(request.headers, token):
            content = {"ready": readiness.ready}
        return JSONResponse(content, status_code=200 if readiness.ready else 503)

    async def show_metrics(request: Request) -> Response:
        demand_token(request.headers, token)
        return Response(metrics.render(), media_type=metrics.content_type)

    async def auto_resume(request: Request) -> Response:
        demand_token(request.headers, token)
        result = await cron()
        return JSONResponse({"resumed": list(result.resumed), "cleaned": result.cleaned})

    app = Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", show_metrics),
            Route("/cron/auto-resume", auto_resume, methods=["POST"]),
            *routes,
        ],
        middleware=[Middleware(RequestGuard)],
        exception_handlers={HTTPException: _answer_refusal, Exception: _answer_crash},
    )
    return SecurityHeaders(app)


async def _answer_refusal(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101 - as registered above; the signature is Starlette's
    return JSONResponse({"error": exc.detail}, status_code=exc.status_code, headers=exc.headers)


async def _answer_crash(_: Request, __: Exception) -> Response:
    # Starlette raises it again after this answer, and the server logs it.
    return JSONResponse({"error": "internal error"}, status_code=500)
