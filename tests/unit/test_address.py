"""Database URLs: read into parts that may be shown and one that may not."""

from __future__ import annotations

import pytest

from storage.address import read_address
from storage.errors import BadDatabaseUrl


@pytest.mark.parametrize(
    ("url", "open_url", "password", "place"),
    [
        ("postgresql://u:p%40ss@db:5432/shop", "postgresql://u@db:5432/shop", "p@ss", "db:5432/shop"),
        ("postgres://u@db/shop?sslmode=require", "postgres://u@db/shop?sslmode=require", None, "db/shop"),
        (" postgresql://db/shop?user=u&password=x \n", "postgresql://db/shop?user=u", "x", "db/shop"),
        ("postgresql://u:@/shop?host=/run/pg", "postgresql://u@/shop?host=/run/pg", "", "/run/pg/shop"),
        ("postgresql://u:p@one:1,two:2/shop", "postgresql://u@one:1,two:2/shop", "p", "one:1,two:2/shop"),
        ("postgresql://[::1]:5432/shop", "postgresql://[::1]:5432/shop", None, "[::1]:5432/shop"),
    ],
)
def test_the_password_is_taken_out(url: str, open_url: str, password: str | None, place: str) -> None:
    address = read_address(url)
    assert (address.url, address.open_url) == (url.strip(), open_url)
    assert (address.password, address.place) == (password, place)
    assert "url" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret",
        "host=db password=secret",
        "mysql://u:secret@db/shop",
        "postgresql+asyncpg://u:secret@db/shop",
        "postgresql://",
        "postgresql://u:sec#ret@db/shop",
        "postgresql://u:sec/ret@db/shop",
        "postgresql://u:sec?ret@db/shop",
        "postgresql://u:secret@[db/shop",
        "postgresql://u:secret@db:99999/shop",
        "postgresql://u:secret@db:0/shop",
        "postgresql://u:secret@db:port/shop",
        "postgresql://u:secret@[::1]:99999/shop",
        "postgresql://u:secret@one:5432,two:x/shop",
    ],
)
def test_what_cannot_be_read_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadDatabaseUrl) as caught:
        read_address(url)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None
