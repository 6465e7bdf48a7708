"""Files in a bucket of an S3 server, through obstore, which is an extra; knows nothing of what they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from bot.config.models import Media
from bot.media.places import (
    SET_ASIDE,
    Entry,
    Key,
    NoSuchFile,
    PlaceRefused,
    PlaceUnavailable,
    checked,
    read_key,
)

try:
    import obstore
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
    from obstore.store import S3Store
except ImportError as exc:
    raise PlaceRefused(
        "media in an S3 store need one more library: pip install 'sidestep[s3]', or use a folder (media.dir)"
    ) from exc

if TYPE_CHECKING:
    from obstore.store import S3Config

_TIMEOUT = timedelta(seconds=60)
_CONNECT_TIMEOUT = timedelta(seconds=10)
_RETRIES = 2
_RETRY_TIMEOUT = timedelta(seconds=60)

T = TypeVar("T")


class S3Place:
    """`s3://bucket/prefix` at Amazon, or `http(s)://host/bucket/prefix` at any other server. Reaches nothing yet."""

    def __init__(self, base: str, config: Media) -> None:
        self.base = base
        parts = urlsplit(base)
        path = [step for step in parts.path.split("/") if step]
        if parts.scheme == "s3":
            path.insert(0, parts.netloc)
        if not path or not path[0] or parts.query or parts.fragment or parts.username:
            raise PlaceRefused(
                "an S3 store's address should be s3://bucket/prefix, or https://host/bucket/prefix; its keys "
                "belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        bucket, *prefix = path
        key, secret = config.access_key_id, config.secret_access_key
        endpoint = None if parts.scheme == "s3" else f"{parts.scheme}://{parts.netloc}"
        settings: S3Config = {
            "region": config.region,
            "virtual_hosted_style_request": endpoint is None,
        }
        if endpoint is not None:
            settings["endpoint"] = endpoint
        if key is not None and secret is not None:
            settings["access_key_id"] = key.get_secret_value()
            settings["secret_access_key"] = secret.get_secret_value()
        self._store = S3Store(
            bucket,
            prefix="/".join(prefix) or None,
            config=settings,
            client_options={
                "allow_http": parts.scheme == "http",
                "timeout": _TIMEOUT,
                "connect_timeout": _CONNECT_TIMEOUT,
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
        )

    async def put(self, key: Key, data: bytes) -> None:
        await self._do(obstore.put_async(self._store, checked(key), data))

    async def get(self, key: Key) -> bytes:
        found = await self._do(obstore.get_async(self._store, checked(key)))
        return bytes(await self._do(found.bytes_async()))

    async def size(self, key: Key) -> int | None:
        try:
            found = await self._do(obstore.head_async(self._store, checked(key)))
        except NoSuchFile:
            return None
        return found["size"]

    async def remove(self, key: Key) -> None:
        try:
            await self._do(obstore.delete_async(self._store, checked(key)))
        except NoSuchFile:
            return

    async def set_aside(self, key: Key) -> None:
        await self._do(
            obstore.rename_async(self._store, checked(key), f"{SET_ASIDE}/{key.rpartition('/')[2]}")
        )

    async def discard(self, entry: Entry) -> None:
        raise ValueError("an S3 server shows nothing of a write that was cut off")

    async def entries(self) -> AsyncIterator[Entry]:
        now = datetime.now(UTC)
        pages = obstore.list(self._store)
        while True:
            try:
                page = await self._do(pages.__anext__())
            except StopAsyncIteration:
                return
            for one in page:
                yield Entry(
                    name=one["path"],
                    key=read_key(one["path"]),
                    size_bytes=one["size"],
                    age_seconds=(now - one["last_modified"]).total_seconds(),
                )

    async def _do(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except FileNotFoundError as exc:
            raise NoSuchFile(f"there is no such file at {self.base}") from exc
        except (PermissionDeniedError, UnauthenticatedError) as exc:
            raise PlaceUnavailable(
                f"the S3 store at {self.base} refuses the keys: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from exc
        except (BaseError, OSError) as exc:
            # The library's own text quotes requests over many lines.
            said = str(exc).splitlines()[0][:200] if str(exc) else type(exc).__name__
            raise PlaceUnavailable(f"the S3 store at {self.base} cannot be used: {said}") from exc
