"""/resume-after: the staff sets after how much silence of theirs the bot is back in one chat."""

from __future__ import annotations

from datetime import timedelta

from flows.commands.command import STAFF, Command, confirmed, misunderstood
from flows.commands.target import Unclear, label, whose_chat
from flows.commands.times import parse_span, span_in_words
from flows.contract import Outcome, ResumeAfter, Turn

_NEVER, _DEFAULT = "never", "default"
_LONGEST_SPAN_WORDS = 4  # "2 hours 30 minutes"


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    who, after, is_read = _split(arguments)
    if not is_read:
        text = (
            "I cannot read that time. Say for example /resume-after 4h, /resume-after never, or /resume-after default. "
            "Nothing has changed."
        )
        return misunderstood(turn, text, detail="bad_time")
    chat = await whose_chat(turn, who, example="/resume-after Ana 4h")
    if isinstance(chat, Unclear):
        return chat.answer
    told = f"In the chat with {label(chat)} {_told(after, turn.tenant.auto_resume_after)}."
    return ResumeAfter(chat_id=chat.chat_id, silence=after), *confirmed(
        turn, told, detail="resume-after", about=chat
    )


def _split(arguments: str) -> tuple[str, timedelta | None, bool]:
    """Part `Ana 4h` into who and what; the last is False where it ends in no time. None is the business's default."""
    words = arguments.split()
    last = words[-1].lower() if words else ""
    if last == _NEVER:
        return " ".join(words[:-1]), timedelta(), True
    if last == _DEFAULT:
        return " ".join(words[:-1]), None, True
    for count in range(min(len(words), _LONGEST_SPAN_WORDS), 0, -1):
        if span := parse_span(" ".join(words[-count:])):
            return " ".join(words[:-count]), span, True
    return "", None, False


def _told(after: timedelta | None, tenants: timedelta | None) -> str:
    after = tenants if after is None else after
    if not after:
        return "I am back only when you send /resume"
    return f"I am back when you have been quiet for {span_in_words(after)}"


COMMAND = Command(
    name="resume-after",
    usage="/resume-after [who] 4h | never | default",
    summary="after how much silence of yours I am back in a chat",
    roles=STAFF,
    answer=_answer,
)
