"""The bot's own words to customers, which an owner may put in their own; pure. What it answers is not here.

Answers are `flows.keywords`, `flows.default` and a model's; what is said when it is closed is a part of the hours.
"""

from __future__ import annotations

from dataclasses import dataclass

_HELP = """\
You can send:
/help – this list
/human – talk to a person
/stop – no more automatic messages
/start – automatic messages again, after /stop"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """When each is said stands in config.yaml. In `person_closed`, `{time}` and `{date}` are the next opening's."""

    person: str = "A person will answer you here as soon as possible."
    person_closed: str = "We are closed just now. A person will answer you here when we are open again."
    goodbye: str = "You will get no more automatic messages here. Send /start if you change your mind."
    welcome: str = "Hello! How can we help you?"
    welcome_back: str = "Welcome back! How can we help you?"
    help: str = _HELP
    help_in_group: str = "Mention me, or reply to a message of mine, and I answer you here."
