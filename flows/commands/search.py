"""/search: the staff looks for words in a chat, or in all of them; it reads and changes nothing."""

from __future__ import annotations

import re

from flows.commands.command import STAFF, Command, confirmed, misunderstood
from flows.commands.paging import LINES, split_page, turned_to
from flows.commands.target import Unclear, label, label_of, whose_chat
from flows.commands.times import ago_in_words
from flows.contract import Outcome, Turn
from storage.models import ChatSummary, MessageId
from storage.reading.models import Excerpt, Find, Page

# The blank behind the colon, so that a link is something to look for.
_IN_A_CHAT = re.compile(r"(?P<who>[^:\"]{1,60}):\s+(?P<words>.+)")


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    words, number = split_page(arguments)
    chat: ChatSummary | None = turn.meant if turn.own_chat else turn.chat
    if turn.own_chat and (match := _IN_A_CHAT.fullmatch(words)):
        meant = await whose_chat(turn, match["who"].strip(), example="/search Ana: cake")
        if isinstance(meant, Unclear):
            return meant.answer
        chat, words = meant, match["words"]
    if not words:
        example = "/search cake, or in one chat: /search Ana: cake" if turn.own_chat else "/search cake"
        return misunderstood(turn, f"Which words? For example: {example}", detail="no_words")
    chat_id = chat.chat_id if chat else None

    async def read(before: MessageId | None) -> Page[Find]:
        return await turn.reader.search(words, chat_id, LINES, before)

    page = await turned_to(number, read)
    where = f"with {label(chat)}" if chat else "in all chats"
    if not page.items:
        return confirmed(turn, await _nothing(turn, words, where, number), detail="not_found", about=chat)
    lines = [
        f"“{words}” {where}, newest first:",
        *(_line(find, turn, told=chat is None) for find in page.items),
    ]
    if page.next is not None:
        lines.append(f"More: /search {split_page(arguments)[0]} page {number + 1}")
    return confirmed(turn, "\n".join(lines), detail="search", about=chat)


async def _nothing(turn: Turn, words: str, where: str, number: int) -> str:
    if number > 1:
        return f"No more with “{words}” {where}."
    lines = [f"Nothing with “{words}” {where}. Words are looked for whole; cak* finds what begins so."]
    if not await turn.reader.folds_accents():
        lines.append("Accents count: this database lacks the extension unaccent.")
    return "\n".join(lines)


def _line(find: Find, turn: Turn, *, told: bool) -> str:
    message = find.entry.message
    head = f"{label_of(find.entry)}, " if told else ""
    return f"• {head}{ago_in_words(message.sent_at, turn.now)}, from the {message.author}: “{_bold(find.excerpt)}”"


def _bold(excerpt: Excerpt) -> str:
    """As WhatsApp shows it: what was looked for between asterisks."""
    parts, at = [], 0
    for begin, end in excerpt.marks:
        parts += [excerpt.text[at:begin], "*", excerpt.text[begin:end], "*"]
        at = end
    line = " ".join("".join([*parts, excerpt.text[at:]]).split())
    return ("…" if excerpt.has_before else "") + line + ("…" if excerpt.has_after else "")


COMMAND = Command(
    name="search",
    usage="/search [who:] words",
    summary="where something was said",
    roles=STAFF,
    answer=_answer,
)
