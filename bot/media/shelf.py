"""All places that files may lie in: the one where new ones go, and whichever an address names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bot.config import Config
from bot.media.folder import FolderPlace
from bot.media.places import Place, PlaceRefused, split
from storage.embedded import default_folder

_FOLDER = "media"


class Shelf:
    """The places of one configuration. Each is made when it is first asked for, and reaches nothing by itself."""

    def __init__(self, config: Config) -> None:
        self._config = config.media
        self._places: dict[str, Place] = {}
        self.home = self.at(config.media.url) if config.media.url else self._folder(_folder_of(config))

    def at(self, where: str) -> Place:
        """The place of a URL, or of a folder's path. Raises PlaceRefused."""
        parts = urlsplit(where)
        if parts.scheme in ("s3", "http", "https"):
            base = where.rstrip("/")
            if base not in self._places:
                from bot.media.s3 import S3Place  # its library is an extra

                self._places[base] = S3Place(base, self._config)
            return self._places[base]
        if parts.scheme == "file":
            return self._folder(Path(url2pathname(parts.path)))
        if "://" in where:
            raise PlaceRefused(f"media cannot lie at {parts.scheme}://: give a folder, or s3://bucket/prefix")
        return self._folder(Path(where))

    def _folder(self, path: Path) -> Place:
        place = FolderPlace(path)
        return self._places.setdefault(place.base, place)

    async def get(self, url: str) -> bytes:
        base, key = split(url)
        return await self.at(base).get(key)

    async def size(self, url: str) -> int | None:
        base, key = split(url)
        return await self.at(base).size(key)

    async def remove(self, url: str) -> None:
        base, key = split(url)
        await self.at(base).remove(key)


def _folder_of(config: Config) -> Path:
    return config.media.dir or (config.database.dir or default_folder()) / _FOLDER
