"""What a provider's refusal means, from the plain facts of an HTTP answer; pure, and it knows no SDK."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from flows.errors import (
    AIError,
    BadCredentials,
    BadRequest,
    ContextTooLong,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Transient,
)

_QUOTA = {"billing_error", "insufficient_quota", "billing_hard_limit_reached"}
_QUOTA_SAID = re.compile(r"credit balance is too low|spend_limit")
_CONTEXT = {"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"}
# Anthropic has no code of its own for it; compatible servers differ. The wording is all there is.
_CONTEXT_SAID = re.compile(
    rf"prompt is too long|maximum context length|context window|{'|'.join(sorted(_CONTEXT))}", re.IGNORECASE
)
_CODE = re.compile(r"[\w.-]{1,60}")


def from_status(
    status: int, *, codes: Iterable[str | None], said: str, headers: Mapping[str, str]
) -> AIError:
    """The typed error for a refusal.

    `codes` are the machine-readable words of the answer, `said` is its whole body: it is looked at and never
    kept, since a provider may quote the conversation in it.
    """
    known = {code for code in codes if code and _CODE.fullmatch(code)}
    kind = _kind(status, known, said)
    return kind(" ".join([str(status), *sorted(known)]), retry_after=retry_after(headers))


def _kind(status: int, codes: set[str], said: str) -> type[AIError]:
    if status == 402 or codes & _QUOTA or _QUOTA_SAID.search(said):
        return QuotaExhausted  # before 429, which OpenAI sends for both
    if status in (401, 403):
        return BadCredentials
    if status == 429:
        return RateLimited
    if status in (503, 529) or "overloaded_error" in codes:
        return Overloaded
    if status in (408, 409) or status >= 500:
        return Transient
    if status == 413 or codes & _CONTEXT or _CONTEXT_SAID.search(said):
        return ContextTooLong
    return BadRequest


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, when the provider names a number; a date is not worth parsing for one deadline."""
    for header, seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait = float(headers[header]) * seconds
        except (KeyError, ValueError):
            continue
        if math.isfinite(wait) and wait >= 0:
            return wait
    return None
