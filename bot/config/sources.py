"""Where configuration comes from: YAML, `.env` and environment, merged with each value's origin; it judges no value."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dotenv.parser import parse_stream

PREFIX = "SIDESTEP__"
ALIASES = (
    # In rising rank: the later name wins where both are set.
    ("VAYYARI_WA_DB_CONNECTION_STRING", ("database", "url")),
    ("DATABASE_URL", ("database", "url")),
    ("ANTHROPIC_API_KEY", ("ai", "anthropic_api_key")),
    ("OPENAI_API_KEY", ("ai", "openai_api_key")),
    ("AWS_ACCESS_KEY_ID", ("media", "access_key_id")),
    ("AWS_SECRET_ACCESS_KEY", ("media", "secret_access_key")),
)

Place = tuple[str | int, ...]


def show_place(place: Place) -> str:
    """`("flows", "keywords", 2, "match")` as a person writes it: `flows.keywords[2].match`."""
    shown = ""
    for step in place:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
    return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with the configuration. `origin` is a file with its line, or a variable's name."""

    place: str
    message: str
    hint: str = ""
    origin: str = ""

    def __str__(self) -> str:
        said = ": ".join(part for part in (self.origin, self.place, self.message) if part)
        return f"{said} ({self.hint})" if self.hint else said


@dataclass(slots=True)
class Sources:
    """Everything that was configured, not yet judged. A later source overrides an earlier one key by key."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Place, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def origin(self, place: Place) -> str:
        """The origin of the value at a place, else of the nearest value around it."""
        while place and place not in self.origins:
            place = place[:-1]
        return self.origins.get(place, "")

    def read_yaml(self, path: Path) -> None:
        """Take the file's values; what cannot be read becomes a problem."""
        text = self._text(path)
        if text is None:
            return
        try:
            node = _Loader(text).get_single_node()
        except yaml.MarkedYAMLError as exc:
            self._refuse(path, exc.problem_mark or exc.context_mark, _in_our_words(exc))
        except yaml.YAMLError:
            self.problems.append(
                Problem(place="", message="holds a character that YAML forbids", origin=path.name)
            )
        else:
            if isinstance(node, yaml.MappingNode):
                self.values = self._plain(node, (), path)
            elif node is not None:
                self._refuse(path, node.start_mark, "should consist of sections, like `http:`")

    def read_dotenv(self, path: Path) -> None:
        """Take our variables from a `.env` file, if there is one; the others in it are not ours to judge."""
        if not path.is_file():
            return
        found: dict[str, tuple[str, str]] = {}
        for binding in parse_stream(io.StringIO(self._text(path) or "")):
            said = binding.original.string  # begins with the blank lines above it
            blank_lines = said[: len(said) - len(said.lstrip())].count("\n")
            origin = f"{path.name}:{binding.original.line + blank_lines}"
            if binding.error:
                self.problems.append(
                    Problem(place="", message="is not of the form NAME=value", origin=origin)
                )
            elif binding.key and binding.value:
                found[binding.key] = (binding.value, f"{origin}: {binding.key}")
        self._read_variables(found)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        """Take our variables from the environment. An empty one counts as not set."""
        self._read_variables({name: (value, name) for name, value in environ.items() if value})

    def _read_variables(self, variables: Mapping[str, tuple[str, str]]) -> None:
        for name, place in ALIASES:
            if name in variables:
                value, origin = variables[name]
                self._set(place, value, origin)
        # Sorted, so that a whole list comes before one of its items, and item 0 before item 1.
        for name in sorted(name for name in variables if name.upper().startswith(PREFIX)):
            value, origin = variables[name]
            steps = name.upper().removeprefix(PREFIX).lower().split("__")
            self._set(
                tuple(int(step) if step.isdecimal() else step for step in steps), _decoded(value), origin
            )

    def _set(self, place: Place, value: Any, origin: str) -> None:
        if not _put(self.values, place, value):
            message = "does not fit what stands around it"
            self.problems.append(Problem(place=show_place(place), message=message, origin=origin))
            return
        for covered in [known for known in self.origins if known[: len(place)] == place]:
            del self.origins[covered]
        self.origins[place] = origin

    def _plain(self, node: yaml.Node, place: Place, path: Path) -> Any:
        self.origins.setdefault(place, _line(path, node.start_mark))
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*place, at), path) for at, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return _SCALARS[node.tag](node.value)
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(path, key.start_mark, "a key should be a word", place)
                continue
            inner = (*place, key.value)
            if key.value in values:
                self._refuse(path, key.start_mark, "is given twice", inner)
                continue
            self.origins[inner] = _line(path, key.start_mark)
            values[key.value] = self._plain(value, inner, path)
        return values

    def _refuse(self, path: Path, mark: yaml.Mark | None, message: str, place: Place = ()) -> None:
        self.problems.append(Problem(place=show_place(place), message=message, origin=_line(path, mark)))

    def _text(self, path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            message = "there is no such file"
        except OSError as exc:
            message = f"cannot be read: {(exc.strerror or 'unknown error').lower()}"
        except UnicodeDecodeError:
            message = "is not UTF-8 text"
        self.problems.append(Problem(place="", message=message, origin=str(path)))
        return None


def _line(path: Path, mark: yaml.Mark | None) -> str:
    return f"{path.name}:{mark.line + 1}" if mark else path.name


# What people get wrong most, by the parser's words for it.
_YAML_MISTAKES = (
    ("',' or ']'", "a bracket [ is not closed, or a comma is missing"),
    ("',' or '}'", "a brace { is not closed, or a comma is missing"),
    ("flow node", "a bracket [ or a brace { is not closed, or has a comma too many"),
    (
        "mapping values are not allowed",
        "a colon stands where none fits: quote a text that has one, or look at the indent",
    ),
    ("could not find expected ':'", "a key has no colon behind it, as in `port: 8080`"),
    ("'\\t' that cannot start", "a tab stands at the beginning: indent by spaces"),
    ("cannot start any token", "a text that begins with such a sign has to be quoted"),
    ("unexpected end of stream", "a quote is not closed"),
    ("unknown escape character", "a backslash in double quotes means something else: use single quotes"),
    (
        "<block end>, but found '<scalar>'",
        "a text goes on behind its closing quote: put the whole into the other kind of quotes",
    ),
    ("<block end>", "the indent fits nothing above it"),
    ("another document", "there is a second document: only one `---` may stand, at the top"),
)


def _in_our_words(error: yaml.MarkedYAMLError) -> str:
    # Of the parser's words only the short ones: its full text quotes the file, which may hold a secret.
    said = ", ".join(part for part in (error.context, error.problem) if part)
    meant = (ours for theirs, ours in _YAML_MISTAKES if theirs in said)
    return next(meant, said)


def _decoded(value: str) -> Any:
    """A variable's value: JSON where it looks like a list or an object, else text for the models to read."""
    if value == "null":
        return None
    if value[0] not in "[{":
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value  # A text may begin with a bracket; where a list is due, the models say so.


def _put(values: Any, place: Place, value: Any) -> bool:
    """Set the value at a place, making what is missing on the way; False if something else stands there."""
    step, rest = place[0], place[1:]
    if isinstance(values, list) and isinstance(step, int) and step <= len(values):
        values.extend([None] * (step + 1 - len(values)))
    elif isinstance(values, dict):
        values.setdefault(step, None)
    else:
        return False
    if not rest:
        values[step] = value
        return True
    if values[step] is None:
        values[step] = [] if isinstance(rest[0], int) else {}
    return _put(values[step], rest, value)


class _Loader(yaml.SafeLoader):
    """Reads plain scalars as YAML 1.2 does: `no` and `+5511…` stay the text that a person meant.

    Aliases and tags are refused: nothing here needs them, and without them a small file stays small.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the base class's shape

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call] # the stubs leave it out
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            problem = "aliases (*) and tags (!) are not supported: quote a text that begins so"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, Callable[[str], object]] = {
    f"{_TAG}str": str,
    f"{_TAG}null": lambda text: None,
    f"{_TAG}bool": lambda text: text.lower() == "true",
    f"{_TAG}int": int,
    f"{_TAG}float": float,
}
for _name, _pattern, _first in (
    ("null", r"(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"-?(0|[1-9][0-9]*)$", list("-0123456789")),
    ("float", r"-?[0-9]+\.[0-9]+$", list("-0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)
