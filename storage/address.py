"""Reads a database URL and takes its password out; the one room that looks at passwords."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from storage.errors import BadDatabaseUrl

_FORM = "postgresql://user:password@host:5432/database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`url` opens the database, `place` names it in messages; `open_url` and `password` are the URL in two parts."""

    url: str = field(repr=False)
    open_url: str = field(repr=False)
    password: str | None = field(repr=False)
    place: str


def read_address(url: str) -> Address:
    """Raises BadDatabaseUrl, which never quotes the URL: a misread one has its password anywhere."""
    scheme, _, rest = url.strip().partition("://")
    if scheme not in ("postgresql", "postgres") or not rest:
        raise BadDatabaseUrl(f"must look like {_FORM}")
    try:
        parts = urlsplit(url.strip())
    except ValueError:  # it quotes what it could not read, hence `from None`
        raise BadDatabaseUrl(f"has a broken host; it must look like {_FORM}") from None
    if parts.fragment or "@" in parts.path or "@" in parts.query.partition("&")[0].partition("=")[0]:
        raise BadDatabaseUrl(
            "has a special character in its user or password: write # as %23, / as %2F, ? as %3F, @ as %40"
        )
    login, at, hosts = parts.netloc.rpartition("@")
    if not all(_has_a_port_or_none(host) for host in hosts.split(",")):
        raise BadDatabaseUrl(f"has a port that is no number from 1 to 65535; it must look like {_FORM}")
    user, colon, password = login.partition(":")
    options = parse_qsl(parts.query, keep_blank_values=True)
    secret = unquote(password) if colon else dict(options).get("password")
    shown = [(name, value) for name, value in options if name != "password"]
    open_url = urlunsplit((scheme, f"{user}{at}{hosts}", parts.path, urlencode(shown, safe="/"), ""))
    where = hosts or dict(options).get("host", "localhost")
    return Address(url=url.strip(), open_url=open_url, password=secret, place=f"{where}{unquote(parts.path)}")


def _has_a_port_or_none(host: str) -> bool:
    port = host.rpartition("]")[2].partition(":")[2]
    return not port or (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535)
