"""/failed: the staff asks what could not be sent, has it sent again, or gives it up."""

from __future__ import annotations

from dataclasses import dataclass

from flows.commands.command import STAFF, Command, confirmed, misunderstood
from flows.commands.paging import LINES, shortened, split_page, turned_to
from flows.commands.target import Unclear, label, label_of, whose_chat
from flows.commands.times import ago_in_words
from flows.contract import DropFailed, Outcome, SendAgain, Turn
from storage.models import ChatSummary, MessageId, MessageType
from storage.reading.models import Entry, Page

_QUOTED = 60
_READ_AT_ONCE = 100


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    verb, _, which = arguments.partition(" ")
    if (remedy := _REMEDIES.get(verb.lower())) is not None:
        return await _remedied(turn, remedy, which.strip())
    who, number = split_page(arguments)
    chat: ChatSummary | None = None
    if who or turn.meant or not turn.own_chat:
        meant = await whose_chat(turn, who, example="/failed Ana")
        if isinstance(meant, Unclear):
            return meant.answer
        chat = meant
    chat_id = chat.chat_id if chat else None

    async def read(before: MessageId | None) -> Page[Entry]:
        return await turn.reader.failed(chat_id, LINES, before)

    page = await turned_to(number, read)
    where = f" to {label(chat)}" if chat else ""
    if not page.items:
        text = (
            f"There is no more that I could not send{where}."
            if number > 1
            else f"I could send everything{where}."
        )
        return confirmed(turn, text, detail="not_found", about=chat)
    lines = [f"What I could not send{where}, newest first:"]
    lines += [_line(entry, turn, told=chat is None) for entry in page.items]
    lines.append("To try again: /failed retry all, or a number in [ ]; to give up: /failed drop all.")
    if page.next is not None:
        lines.append(f"More: /failed {f'{who} ' if who else ''}page {number + 1}")
    return confirmed(turn, "\n".join(lines), detail="failed", about=chat)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remedy:
    """What can be done with failed messages: the effect, and the words for it, with {count}."""

    effect: type[SendAgain] | type[DropFailed]
    done: str
    example: str


_REMEDIES = {
    "retry": _Remedy(
        effect=SendAgain,
        done="I try again to send {count}, unless I am silent in that chat, or you have written there since.",
        example="/failed retry all",
    ),
    "drop": _Remedy(effect=DropFailed, done="I have given up {count}.", example="/failed drop all"),
}


async def _remedied(turn: Turn, remedy: _Remedy, which: str) -> tuple[Outcome, ...]:
    failed = await _all_of_them(turn)
    meant = [entry for entry in failed if which.lower() in ("all", str(entry.message.id))]
    if not which:
        text = f"Which? Write {remedy.example}, or the number that /failed shows instead of “all”."
        return misunderstood(turn, text, detail="which")
    if not meant:
        text = f"Nothing that could not be sent is called “{shortened(which, _QUOTED)}”."
        return confirmed(turn, text if failed else "I could send everything.", detail="not_found")
    effects = [remedy.effect(chat_id=e.message.chat_id, message_id=e.message.id) for e in meant]
    count = "one message" if len(meant) == 1 else f"{len(meant)} messages"
    return *effects, *confirmed(turn, remedy.done.format(count=count), detail="failed")


async def _all_of_them(turn: Turn) -> list[Entry]:
    page = await turn.reader.failed(None, _READ_AT_ONCE)
    found = list(page.items)
    while page.next is not None:
        page = await turn.reader.failed(None, _READ_AT_ONCE, page.next)
        found += page.items
    return found


def _line(entry: Entry, turn: Turn, *, told: bool) -> str:
    message = entry.message
    head = f"{label_of(entry)}, " if told else ""
    if message.type is MessageType.REVOKE:
        said = "the deletion of a command of yours"
    else:
        said = f"“{shortened(message.text, _QUOTED)}”" if message.text else f"a message with {message.type}"
    why = f" ({entry.error})" if entry.error else ""
    when = ago_in_words(entry.failed_at or message.sent_at, turn.now)
    return f"• {head}{when}: {said}{why} [{message.id}]"


COMMAND = Command(
    name="failed",
    usage="/failed [who], /failed retry|drop all",
    summary="what I could not send",
    roles=STAFF,
    answer=_answer,
)
