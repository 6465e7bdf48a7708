"""/stats: the staff asks how much was said, in one chat or in all; it reads and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from flows.commands.command import STAFF, Command, confirmed
from flows.commands.target import Unclear, label, whose_chat
from flows.commands.times import parse_span, span_in_words
from flows.contract import Outcome, Turn
from storage.models import Author, ChatSummary
from storage.reading.models import By, Stats

_LONGEST_SPAN_WORDS = 4  # "2 hours 30 minutes"
_KINDS = 6


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    who, span = _split_span(arguments)
    chat: ChatSummary | None = None
    if who or turn.meant or not turn.own_chat:
        meant = await whose_chat(turn, who, example="/stats Ana 7d")
        if isinstance(meant, Unclear):
            return meant.answer
        chat = meant
    since = None if span is None else turn.now - span
    found = await turn.reader.stats(chat.chat_id if chat else None, since)
    head = label(chat) if chat else "All chats"
    when = "since the beginning" if span is None else f"the last {span_in_words(span)}"
    lines = [f"{head}, {when}:", *_told(found, everywhere=chat is None)]
    return confirmed(turn, "\n".join(lines), detail="stats", about=chat)


def _split_span(arguments: str) -> tuple[str, timedelta | None]:
    """Part `Ana 7d` into who and how far back."""
    words = arguments.split()
    for count in range(min(len(words), _LONGEST_SPAN_WORDS), 0, -1):
        if span := parse_span(" ".join(words[-count:])):
            return " ".join(words[:-count]), span
    return arguments, None


def _told(stats: Stats, *, everywhere: bool) -> list[str]:
    if not stats.tallies:
        return ["Nothing was said."]
    by_author, context = stats.split(By.AUTHOR), stats.split(By.CONTEXT)
    lines = [
        f"{stats.total} messages: {stats.incoming} in, {stats.outgoing} out "
        f"({by_author.get(Author.BOT, 0)} by me, {by_author.get(Author.HUMAN, 0)} by one of you)",
        f"With media: {stats.with_media}, commands: {stats.commands}, failed: {stats.failed}",
        f"Kinds: {_list(stats.split(By.TYPE))}",
    ]
    if stats.commands:
        lines.append(f"Commands: {_list(stats.split(By.COMMAND))}")
    if everywhere and context.get("group"):
        lines.append(f"In groups: {context['group']}, in private: {context.get('private', 0)}")
    return lines


def _list(numbers: Mapping[str, int]) -> str:
    shown = [f"{name} {number}" for name, number in list(numbers.items())[:_KINDS]]
    return ", ".join([*shown, "…"] if len(numbers) > _KINDS else shown)


COMMAND = Command(
    name="stats",
    usage="/stats [who] [7d]",
    summary="how much was said",
    roles=STAFF,
    answer=_answer,
)
