"""Whose chat a command is about: this one, or one named by name or number; it looks up and changes nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flows.commands.command import misunderstood
from flows.contract import Decided, Notice, Outcome, Turn
from flows.words import words_of
from storage.models import Action, ChatId, ChatSummary, Topic
from storage.reading.models import Entry

CANDIDATES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """No one chat is meant; `answer` asks back, and nothing else happens."""

    answer: tuple[Outcome, ...]


async def whose_chat(turn: Turn, who: str, *, example: str) -> ChatSummary | Unclear:
    """The chat that `who` names, or the turn's own; `example` shows how the command is given with a name."""
    if turn.chosen is not None:
        return turn.chosen
    if not who:
        if turn.meant is not None:
            return turn.meant
        if not turn.own_chat:
            return turn.chat
        text = f"Whose chat? Add a name or a number, for example: {example}"
        return Unclear(answer=misunderstood(turn, text, detail="no_name"))
    found = [
        chat
        for chat in await turn.reader.find_chats(who, CANDIDATES)
        if not (turn.own_chat and chat.chat_id == turn.chat.chat_id)
    ]
    if turn.meant is not None and any(chat.chat_id == turn.meant.chat_id for chat in found):
        return turn.meant
    exact = [chat for chat in found if _is_named(chat, who)]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    if not found:
        text = f"I know no chat with “{who}”. Check the name, or use the full number. Nothing has changed."
        return Unclear(answer=misunderstood(turn, text, detail="not_found"))
    topic = Topic(text=turn.messages[-1].text, choices=tuple(chat.chat_id for chat in found))
    asked = Notice(text=_which(found, who), role=turn.role, topic=topic)
    return Unclear(answer=(asked, Decided(action=Action.COMMAND_REFUSED, detail="ambiguous")))


def label(chat: ChatSummary) -> str:
    """How a chat is called towards the staff: name and number, as far as known."""
    return called(chat.name, chat.phone, chat.is_group, chat.chat_id)


def label_of(entry: Entry) -> str:
    """The same, of the chat in which something was said."""
    message = entry.message
    return called(entry.chat_name, entry.chat_phone, message.is_group, message.chat_id)


def called(name: str | None, phone: str | None, is_group: bool, chat_id: ChatId) -> str:
    """A chat of which this is known, as `label` calls it."""
    number = f"+{phone.removeprefix('+')}" if phone else None
    if name and number:
        return f"{name} ({number})"
    return name or number or f"{'a group' if is_group else 'somebody without a number'} (chat {chat_id})"


def _is_named(chat: ChatSummary, who: str) -> bool:
    if chat.name and words_of(chat.name) == words_of(who):
        return True
    return bool(chat.phone) and _digits(chat.phone or "") == _digits(who)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _told_apart(found: list[ChatSummary]) -> list[str]:
    """One customer may write to two numbers of ours: then only these differ."""
    labels = [label(chat) for chat in found]
    return [
        f"{name}, who writes to {chat.account}" if labels.count(name) > 1 else name
        for name, chat in zip(labels, found, strict=True)
    ]


def _which(found: list[ChatSummary], who: str) -> str:
    listed = (f"{n}. {line}" for n, line in enumerate(_told_apart(found), start=1))
    lines = [f"Several chats match “{who}”. Which one?", *listed]
    if len(found) >= CANDIDATES:
        lines.append("… and maybe more.")
    hint = "Reply to this message with the number in the list, or send the command again with the full name or number."
    return "\n".join([*lines, hint, "Nothing has changed."])
