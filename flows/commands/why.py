"""/why: the staff asks what became of a message; it tells the record and changes nothing."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed
from flows.commands.target import label
from flows.commands.times import ago_in_words
from flows.contract import Outcome, Turn
from storage.models import Explanation, OutboxEntry

_TOLD = 3  # the platform's ids are unique within a chat only
_QUOTED = 60


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    # WhatsApp shows nobody a message's id: quoting the message is how people point at it.
    reference = arguments or turn.messages[-1].reply_to
    if not reference:
        text = "Which message? Quote it and send /why, or give its id, for example: /why 3EB0A1B2C3"
        return confirmed(turn, text, detail="no_reference")
    stories = await turn.reader.explain(reference)
    if not stories:
        return confirmed(turn, f"I have no record of a message {reference}.", detail="not_found")
    return confirmed(turn, "\n\n".join(_story(story, turn) for story in stories[:_TOLD]), detail="why")


def _story(story: Explanation, turn: Turn) -> str:
    message = story.message
    head = f"{label(story.chat)}, {ago_in_words(message.sent_at, turn.now)}, from the {message.author}"
    if message.text:
        head += f": “{_shortened(message.text)}”"
    if story.action is None:
        return f"{head}\nNot decided yet."
    lines = [head, f"Decided: {story.action}" + (f" ({story.detail})" if story.detail else "")]
    return "\n".join([*lines, *(_fate(reply, turn) for reply in story.replies)])


def _fate(reply: OutboxEntry, turn: Turn) -> str:
    moment = reply.read_at or reply.delivered_at or reply.sent_at or reply.queued_at
    words = [f"Reply: {reply.status}, {ago_in_words(moment, turn.now)}"]
    if reply.inferred:
        words.append("as far as receipts tell")
    if reply.overlapped:
        words.append("it was already on its way when a person wrote")
    if reply.error:
        words.append(reply.error)
    return ", ".join(words)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUOTED else f"{line[:_QUOTED]}…"


COMMAND = Command(
    name="why",
    usage="/why [id]",
    summary="what became of a message (quote it, or give its id)",
    roles=STAFF,
    answer=_answer,
)
