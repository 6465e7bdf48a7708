"""config.yaml, `.env` and the environment become one frozen Config, or one error that names every problem.

ConfigError   the configuration was refused; `problems` has each reason with its place
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import phonenumbers
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bot.config.models import Config, Tenant
from bot.config.sources import Place, Problem, Sources, show_place

__all__ = ["Config", "ConfigError", "Problem", "Tenant", "load", "warnings"]

DEFAULT_FILE = Path("config.yaml")

_SAMPLE_OWNER = "+5511999990000"
_SAMPLE_ADMIN = "+5511999990001"

_PROVIDER_KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}

# pydantic's own words speak of inputs and dictionaries; for other kinds they do.
_MESSAGES = {
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "extra_forbidden": "is no key of the configuration",
    "int_from_float": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "missing": "is missing",
    "model_type": "should be a section with keys of its own",
    "string_too_short": "should not be empty",
    "string_type": "should be text",
    "too_short": "should have at least one item",
    "tuple_type": "should be a list",
}


class ConfigError(Exception):
    """The configuration was refused. Its text has one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    dotenv: Path = Path(".env"),
) -> Config:
    """Defaults, then the file, then `.env`, then the environment: the later one wins, key by key.

    Without a path it is `config.yaml` here, which may be missing when variables say it all.
    Raises ConfigError with all problems at once.
    """
    sources = Sources()
    file = path if path is not None else DEFAULT_FILE if DEFAULT_FILE.exists() else None
    if file is not None:
        sources.read_yaml(file)
    readable = not sources.problems
    sources.read_dotenv(dotenv)
    sources.read_environment(os.environ if environ is None else environ)
    problems = [*sources.problems, *_repeated_names(sources)]
    try:
        config = Config.model_validate(sources.values)
    except ValidationError as exc:
        # What a broken file did not get to say would only be reported as missing.
        told = [error for error in _own_errors(exc) if readable or error["type"] != "missing"]
        problems += [_problem(error, sources, file) for error in told]
    if problems:
        raise ConfigError(problems)
    return config


def warnings(config: Config) -> Iterator[Problem]:
    """What is allowed, and yet probably not meant; said once at the start."""
    for at, tenant in enumerate(config.tenants):
        if tenant.owner == _SAMPLE_OWNER:
            yield Problem(
                place=f"tenants[{at}].owner",
                message="is still the sample's number: its owner is told what is yours to know",
                hint="put the number there that you link",
            )
        if _SAMPLE_ADMIN in tenant.admins:
            yield Problem(
                place=f"tenants[{at}].admins",
                message="still has the sample's number: whoever has it may command your bot",
                hint="put your own people there, or nobody: []",
            )
        for key, number in _numbers(tenant):
            if not phonenumbers.is_valid_number(phonenumbers.parse(number)):
                yield Problem(
                    place=f"tenants[{at}].{key}",
                    message=f"is read as {number}, which nobody can have",
                    hint="write it with its country code, like +5511999990000",
                )
        if tenant.hours and "timezone" not in tenant.model_fields_set:
            yield Problem(
                place=f"tenants[{at}].hours",
                message="is taken as UTC, as no time zone is given",
                hint=f"set tenants[{at}].timezone, such as America/Sao_Paulo, or UTC if that is meant",
            )
        variable = _PROVIDER_KEYS.get(tenant.llm_provider)
        if variable and not config.ai.is_usable(tenant.llm_provider):
            yield Problem(
                place=f"tenants[{at}].llm_provider",
                message=f"is {tenant.llm_provider}, but there is no {variable}: customers get flows.default",
                hint=f"set {variable} in the environment or in .env",
            )


def _numbers(tenant: Tenant) -> Iterator[tuple[str, str]]:
    """All numbers of a tenant, each with its key."""
    yield "owner", tenant.owner
    yield from ((f"admins[{at}]", number) for at, number in enumerate(tenant.admins))
    if tenant.notify.to is not None:
        yield "notify.to", tenant.notify.to


def _repeated_names(sources: Sources) -> Iterator[Problem]:
    """Names that two tenants share. Read from the raw values, so that no other problem hides it."""
    tenants = sources.values.get("tenants")
    seen: set[str] = set()
    for at, tenant in enumerate(tenants if isinstance(tenants, list) else ()):
        name = tenant.get("instance_name") if isinstance(tenant, dict) else None
        if isinstance(name, str) and name in seen:
            place = ("tenants", at, "instance_name")
            message = "is another tenant's name already"
            yield Problem(place=show_place(place), message=message, origin=sources.origin(place))
        seen.add(str(name))


def _own_errors(exc: ValidationError) -> list[ErrorDetails]:
    """pydantic's errors but those that only follow from others: a list whose one item is bad is not empty too."""
    errors = exc.errors(include_input=False, include_url=False)
    around = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
    return [error for error in errors if not (error["type"] == "too_short" and error["loc"] in around)]


def _problem(error: ErrorDetails, sources: Sources, file: Path | None) -> Problem:
    place: Place = error["loc"]
    kind = error["type"]
    message = _MESSAGES.get(kind) or error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    hint = ""
    if kind == "extra_forbidden":
        hint = _suggest(place)
    elif kind == "tuple_type":
        hint = "in a variable: as JSON"
    elif place == ("tenants",) and not sources.origin(place):
        nowhere = f"there is no {DEFAULT_FILE} in this folder: name one with --config"
        hint = nowhere if file is None else f"{file.name} says nothing"
    return Problem(place=show_place(place), message=message, hint=hint, origin=sources.origin(place))


def _suggest(place: Place) -> str:
    """The key that an unknown one was probably meant to be."""
    unknown = str(place[-1])
    siblings = _model_at(place[:-1]).model_fields
    if close := difflib.get_close_matches(unknown, siblings, n=1):
        return f"did you mean {show_place((*place[:-1], close[0]))}?"
    elsewhere = [
        name for name, section in Config.model_fields.items() if unknown in _fields(section.annotation)
    ]
    if elsewhere:
        return f"did you mean {elsewhere[0]}.{unknown}?"
    return f"known here: {', '.join(siblings)}"


def _model_at(place: Place) -> type[BaseModel]:
    model: Any = Config
    for step in place:
        if not isinstance(step, int):
            model = model.model_fields[step].annotation
            model = (get_args(model) or (model,))[0]
    found: type[BaseModel] = model
    return found


def _fields(annotation: Any) -> Mapping[str, object]:
    model = (get_args(annotation) or (annotation,))[0]
    return model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
