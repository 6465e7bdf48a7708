"""Everything a flow may raise, in one tree; texts carry no message bodies, numbers or keys.

FlowError
|- ConfigError            a setting is missing or wrong: raised while the flows are being built
`- AIError                no answer came of it; `code` is what a decision records
   |- Transient           worth another try within the deadline
   |  |- RateLimited      too many requests; `retry_after` says when
   |  |- Overloaded       the provider is busy
   |  |- Unreachable      no connection, or one that broke
   |  `- Malformed        an answer that cannot be read
   |- QuotaExhausted      the account must be paid: a person's job, never retried
   |- BadCredentials      the key is wrong or may not do this
   |- ContextTooLong      the conversation does not fit the model
   |- BadRequest          the provider refuses what was asked
   |- EmptyAnswer         an answer without words
   |- Refused             the model would not answer
   `- DeadlineExceeded    no answer in time
"""

from __future__ import annotations

from typing import ClassVar


class FlowError(Exception):
    """A flow could not do its work."""


class ConfigError(FlowError):
    """A setting is missing or wrong; the text names it."""


class AIError(FlowError):
    """A model gave no usable answer. `retry_after` is in seconds, None when the provider named none."""

    code: ClassVar[str] = "ai_error"

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message or self.code)
        self.retry_after = retry_after


class Transient(AIError):
    """The provider is in trouble that may pass."""

    code = "provider_trouble"


class RateLimited(Transient):
    """Too many requests or tokens for now."""

    code = "rate_limited"


class Overloaded(Transient):
    """The provider is too busy."""

    code = "overloaded"


class Unreachable(Transient):
    """No connection, or one that broke before the answer was complete."""

    code = "unreachable"


class Malformed(Transient):
    """The answer is not what the API promises."""

    code = "malformed_answer"


class QuotaExhausted(AIError):
    """Credit or budget is used up."""

    code = "quota_exhausted"


class BadCredentials(AIError):
    """The key is not accepted."""

    code = "bad_credentials"


class ContextTooLong(AIError):
    """The conversation is longer than the model can read."""

    code = "context_too_long"


class BadRequest(AIError):
    """The provider refuses the request as it stands; an unknown model is one cause."""

    code = "bad_request"


class EmptyAnswer(AIError):
    """The model answered without a word; thinking may have used up the tokens."""

    code = "empty_answer"


class Refused(AIError):
    """The model or the provider's filter would not answer."""

    code = "refused"


class DeadlineExceeded(AIError):
    """No answer came within the time that one reply may take."""

    code = "deadline_exceeded"
