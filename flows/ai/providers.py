"""A Model from settings: checks them all, then loads the one SDK that is configured; asks nothing yet."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from flows.ai.model import Model
from flows.errors import ConfigError

ApiSetting = Literal["auto", "responses", "chat"]

DEFAULT_MODELS = {"anthropic": "claude-haiku-5-5", "openai": "gpt-6-luna"}
DEADLINE = timedelta(seconds=45)

_EFFORTS = {
    "anthropic": ("low", "medium", "high", "xhigh", "max"),
    "openai": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
}
_KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
_OPENAI_HOST = "api.openai.com"


def build_model(
    provider: str,
    *,
    api_key: str | None,
    model: str | None = None,
    base_url: str | None = None,
    api: ApiSetting = "auto",
    effort: str | None = None,
    deadline: timedelta = DEADLINE,
) -> Model:
    """Build at start, never while a message waits: loading an SDK blocks for a second or two.

    `base_url` carries the path as each provider's own does: none for Anthropic, `/v1` for OpenAI and
    compatible servers. `effort` None leaves it to the provider. Raises ConfigError, naming the setting.
    """
    if provider not in DEFAULT_MODELS:
        raise ConfigError(f"llm_provider: {provider!r} is not one of {', '.join(DEFAULT_MODELS)}")
    if effort is not None and effort not in _EFFORTS[provider]:
        raise ConfigError(
            f"ai.effort: {effort!r} is not one of {', '.join(_EFFORTS[provider])} for {provider}"
        )
    if api not in get_args(ApiSetting):
        raise ConfigError(f"ai.api: {api!r} is not one of {', '.join(get_args(ApiSetting))}")
    if deadline <= timedelta():
        raise ConfigError("ai.deadline: must be longer than nothing")
    is_compatible = provider == "openai" and _host(base_url) not in (None, _OPENAI_HOST)
    key = _key(provider, api_key, may_be_absent=is_compatible)
    name = model or DEFAULT_MODELS[provider]
    if provider == "anthropic":
        from flows.ai import claude

        return claude.ClaudeModel(
            api_key=key,
            name=name,
            base_url=base_url,
            effort=cast(claude.Effort | None, effort),
            deadline=deadline,
        )

    from flows.ai import openai

    if api == "auto":
        api = "chat" if is_compatible else "responses"
    return openai.OpenAIModel(
        api_key=key,
        name=name,
        base_url=base_url,
        api=api,
        is_compatible=is_compatible,
        effort=cast(openai.Effort | None, effort),
        deadline=deadline,
    )


def _host(base_url: str | None) -> str | None:
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("ai.base_url: must look like http://host:port or https://host/path")
    return parts.hostname


def _key(provider: str, api_key: str | None, *, may_be_absent: bool) -> str:
    key = (api_key or "").strip()
    if key:
        return key
    if may_be_absent:
        return "none"  # a model on one's own machine asks for no key; the SDK insists on some text
    raise ConfigError(f"{_KEYS[provider]} is not set, and llm_provider is {provider}")
