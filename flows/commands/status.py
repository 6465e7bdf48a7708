"""/status: the staff asks whether the bot speaks, in one chat or everywhere; it changes nothing."""

from __future__ import annotations

from flows.commands.command import STAFF, Command, confirmed
from flows.commands.target import Unclear, label, whose_chat
from flows.commands.times import ago_in_words, until_in_words
from flows.contract import Outcome, Turn
from storage.models import ChatSummary, PauseReason, Session

_WHY = {
    PauseReason.HUMAN_TAKEOVER: "one of you wrote there",
    PauseReason.MANUAL_PAUSE: "by command",
    PauseReason.AI_HANDOFF: "I handed it over to you",
    PauseReason.CUSTOMER_REQUEST: "they asked for a person",
    PauseReason.BOT_LOOP: "another bot answers there",
}
_LISTED = 20


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    if turn.own_chat and not arguments and turn.meant is None:
        return confirmed(turn, await _everywhere(turn), detail="status")
    chat = await whose_chat(turn, arguments, example="/status Ana")
    if isinstance(chat, Unclear):
        return chat.answer
    lines = _state(chat, turn)
    if await turn.reader.global_pause():
        lines.insert(0, "All chats are paused (/global resume ends it).")
    return confirmed(turn, "\n".join([f"{label(chat)}:", *lines]), detail="status", about=chat)


async def _everywhere(turn: Turn) -> str:
    lines = [
        "All chats are paused (/global resume ends it)."
        if await turn.reader.global_pause()
        else "I am answering."
    ]
    lines += _closed(turn)
    paused = await turn.reader.paused_chats(_LISTED)
    if not paused:
        return "\n".join([*lines, "No single chat is paused."])
    lines.append("Paused chats:")
    lines += [f"• {label(chat)}: {_pause(chat.session, turn)}" for chat in paused]
    if len(paused) == _LISTED:
        lines.append("… and maybe more.")
    return "\n".join(lines)


def _closed(turn: Turn) -> list[str]:
    if (closed := turn.closed) is None:
        return []
    until = (
        until_in_words(closed.until, turn.now, turn.tenant.zone)
        if closed.until
        else "and not open again soon"
    )
    return [f"We are closed {until}: customers get the away message."]


def _state(chat: ChatSummary, turn: Turn) -> list[str]:
    session = chat.session
    lines = []
    if session.is_excluded:
        lines.append("Excluded: I never answer there (/include takes it back).")
    if session.opted_out_at:
        lines.append(f"They asked for no automatic messages {ago_in_words(session.opted_out_at, turn.now)}.")
    if session.is_paused:
        lines.append(f"Paused {_pause(session, turn)}.")
    return lines or ["I am answering."]


def _pause(session: Session, turn: Turn) -> str:
    words = [f"since {ago_in_words(session.paused_at, turn.now)}"] if session.paused_at else []
    if session.pause_reason:
        words.append(_WHY[session.pause_reason])
    back = session.returns_at
    if back is None:
        words.append("until you send /resume")
    else:
        words.append(
            until_in_words(back, turn.now, turn.tenant.zone) if back > turn.now else "I return any moment"
        )
    return ", ".join(words)


COMMAND = Command(
    name="status",
    usage="/status [who]",
    summary="whether I speak, and when I return",
    roles=STAFF,
    answer=_answer,
)
