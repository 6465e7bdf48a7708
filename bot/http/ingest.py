"""`POST /api/messages`: batches from other systems, behind the token; what they mean is the business of its port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.http.guard import demand_token
from bot.importing.batch import BatchRefused
from storage.errors import StoreUnavailable

PATH = "/api/messages"
_RETRY_SECONDS = "5"


class Taken(Protocol):
    """What became of a batch; `errors` by the numbers of its messages, from 0."""

    @property
    def accepted(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def errors(self) -> Mapping[int, str]: ...
    @property
    def conversations(self) -> Sequence[Mapping[str, Any]]: ...


class IngestPort(Protocol):
    """Who records batches. Raises BatchRefused and StoreUnavailable."""

    async def take(self, body: object) -> Taken: ...


def ingest_route(port: IngestPort, token: SecretStr | None) -> Route:
    """The route. Without a token it is refused: whoever reaches the port could write into the store."""

    async def take(request: Request) -> Response:
        if token is None:
            raise HTTPException(
                403, "this needs a token: set SIDESTEP__HTTP__TOKEN, and send it as Authorization: Bearer …"
            )
        demand_token(request.headers, token)
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError as exc:
            raise HTTPException(400, f"the body is not JSON: {exc.msg}") from None
        try:
            taken = await port.take(body)
        except BatchRefused as exc:
            raise HTTPException(400, str(exc)) from exc
        except StoreUnavailable as exc:
            raise HTTPException(
                503, "the database is unavailable now: send the same again", {"Retry-After": _RETRY_SECONDS}
            ) from exc
        return JSONResponse(
            {
                "accepted": taken.accepted,
                "duplicates": taken.duplicates,
                "errors": [{"index": n, "reason": taken.errors[n]} for n in sorted(taken.errors)],
                "conversations": list(taken.conversations),
            },
            status_code=207 if taken.errors else 200,
        )

    return Route(PATH, take, methods=["POST"])
