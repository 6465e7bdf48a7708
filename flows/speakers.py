"""Who said something, in words: for `why`, on the command line and in a chat; pure."""

from __future__ import annotations

from typing import assert_never

from storage.models import Message, Origin


def who_spoke(message: Message) -> str:
    """The author, and for our side where it was written."""
    match message.origin:
        case None:
            return str(message.author)
        case Origin.PHONE:
            return "human, on the phone"
        case Origin.DEVICE:
            return f"human, on device {message.sender_device}: Web or another"
        case Origin.CONSOLE:
            return "human, at a console"
        case Origin.COMMAND:
            return "bot, about a command"
        case Origin.API:
            return "bot, for a program"
        case Origin.BOT:
            return "bot"
        case _:
            assert_never(message.origin)
