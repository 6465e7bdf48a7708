"""/why: the staff asks what became of a message; it tells the record and changes nothing."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed, misunderstood
from flows.commands.paging import shortened
from flows.commands.target import label
from flows.commands.times import ago_in_words
from flows.contract import Outcome, Turn
from flows.speakers import who_spoke
from storage.models import Action, Author, Change, Explanation, MessageType, OutboxEntry, Quarantined

_TOLD = 3  # the platform's ids are unique within a chat only
_QUOTED = 60


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    # WhatsApp shows nobody a message's id: quoting the message is how people point at it.
    reference = arguments or turn.messages[-1].reply_to
    if not reference:
        text = "Which message? Quote it and send /why, or give its id, for example: /why 3EB0A1B2C3"
        return misunderstood(turn, text, detail="no_reference")
    stories = await turn.reader.explain(reference)
    told = [_story(story, turn) for story in stories]
    told += [_lost(lost, turn) for lost in await turn.reader.in_quarantine(reference)]
    if not told:
        return confirmed(turn, f"I have no record of a message {reference}.", detail="not_found")
    chats = {story.chat.chat_id: story.chat for story in stories}
    about = chats.popitem()[1] if len(chats) == 1 else None
    return confirmed(turn, "\n\n".join(told[:_TOLD]), detail="why", about=about)


def _story(story: Explanation, turn: Turn) -> str:
    message = story.message
    head = f"{label(story.chat)}, {ago_in_words(message.sent_at, turn.now)}, from: {who_spoke(message)}"
    if message.text:
        head += f": “{shortened(message.text, _QUOTED)}”"
    lines = [head, *(_happened(change, turn) for change in story.changes)]
    if story.action is None and message.author is not Author.BOT:
        return "\n".join([*lines, "Not decided yet."])
    if story.action is not None:
        lines.append(f"Decided: {story.action}" + (f" ({story.detail})" if story.detail else ""))
    return "\n".join([*lines, *(_fate(reply, story, turn) for reply in story.replies)])


def _lost(lost: Quarantined, turn: Turn) -> str:
    return (
        f"{lost.external_id}, {ago_in_words(lost.received_at, turn.now)}\n"
        f"Decided: {Action.QUARANTINED}. I could not keep it as it is, so I have put it aside and not answered it."
    )


def _happened(change: Change, turn: Turn) -> str:
    what = {MessageType.EDIT: "Edited", MessageType.REVOKE: "Revoked"}.get(
        change.type, f"Reaction {change.text}"
    )
    return f"{what} by the {change.author}, {ago_in_words(change.at, turn.now)}"


def _fate(reply: OutboxEntry, story: Explanation, turn: Turn) -> str:
    moment = reply.read_at or reply.delivered_at or reply.sent_at or reply.queued_at
    name = "Revoke" if reply.type is MessageType.REVOKE else "Reply"
    if reply.id == story.message.id:
        name = "Itself"
    words = [f"{name}: {reply.status}, {ago_in_words(moment, turn.now)}"]
    if reply.inferred:
        words.append("as far as receipts tell")
    if reply.overlapped:
        words.append("it was already on its way when a person wrote")
    words += [each for each in (reply.waited, reply.error) if each]
    words += [_happened(change, turn).lower() for change in reply.changes]
    return ", ".join(words)


COMMAND = Command(
    name="why",
    usage="/why [id]",
    summary="what became of a message (quote it, or give its id)",
    roles=STAFF,
    answer=_answer,
)
