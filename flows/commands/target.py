"""Whose chat a command is about: this one, or one named by name or number; it looks up and changes nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flows.commands.command import confirmed
from flows.contract import Outcome, Turn
from storage.models import ChatSummary

CANDIDATES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """No one chat is meant; `answer` asks back, and nothing else happens."""

    answer: tuple[Outcome, ...]


async def whose_chat(turn: Turn, who: str, *, example: str) -> ChatSummary | Unclear:
    """The chat that `who` names, or the turn's own; `example` shows how the command is given with a name."""
    if not who:
        if not turn.own_chat:
            return turn.chat
        text = f"Whose chat? Add a name or a number, for example: {example}"
        return Unclear(answer=confirmed(turn, text, detail="no_name"))
    found = [
        chat
        for chat in await turn.reader.find_chats(who, CANDIDATES)
        if not (turn.own_chat and chat.chat_id == turn.chat.chat_id)
    ]
    exact = [chat for chat in found if _is_named(chat, who)]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    if not found:
        text = f"I know no chat with “{who}”. Check the name, or use the full number. Nothing has changed."
        return Unclear(answer=confirmed(turn, text, detail="not_found"))
    return Unclear(answer=confirmed(turn, _which(found, who), detail="ambiguous"))


def label(chat: ChatSummary) -> str:
    """How a chat is called towards the staff: name and number, as far as known."""
    number = _number(chat)
    if chat.name and number:
        return f"{chat.name} ({number})"
    return (
        chat.name
        or number
        or f"{'a group' if chat.is_group else 'somebody without a number'} (chat {chat.chat_id})"
    )


def _number(chat: ChatSummary) -> str | None:
    if not chat.phone:
        return None
    return chat.phone if chat.phone.startswith("+") else f"+{chat.phone}"


def _is_named(chat: ChatSummary, who: str) -> bool:
    if chat.name and chat.name.casefold() == who.casefold():
        return True
    return bool(chat.phone) and _digits(chat.phone or "") == _digits(who)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _which(found: list[ChatSummary], who: str) -> str:
    lines = [f"Several chats match “{who}”. Which one?", *(f"• {label(chat)}" for chat in found)]
    if len(found) >= CANDIDATES:
        lines.append("… and maybe more.")
    return "\n".join([*lines, "Send the command again with the full name or number. Nothing has changed."])
