"""/automatic: the staff says whether a text that went out from the phone is WhatsApp's own, or a person's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flows.commands.command import STAFF, Command, confirmed, misunderstood
from flows.commands.paging import shortened
from flows.contract import Automatic, Outcome, Turn
from storage.models import AutomaticText

_ARGUMENTS = re.compile(r"(?:(yes|no)(?:\s+(\d{1,2}))?)?", re.IGNORECASE)
_QUOTED = 60
_HINT = "Say for example /automatic yes 1 or /automatic no 2."


async def _answer(turn: Turn, arguments: str) -> tuple[Outcome, ...]:
    texts = await turn.reader.automatic_texts()
    match = _ARGUMENTS.fullmatch(arguments)
    if match is None:
        return misunderstood(turn, f"I cannot read that. {_HINT} Nothing has changed.", detail="bad_argument")
    if match[1] is None:
        return confirmed(turn, _listed(texts), detail="automatic")
    found = await _which(turn, texts, match[2])
    if found is None:
        text = f"Which text? Reply to my question about it, or give its number. {_HINT}\n{_listed(texts)}"
        return misunderstood(turn, text, detail="which_text")
    is_automatic = match[1].lower() == "yes"
    told = (
        "Automatic: I never step aside for it."
        if is_automatic
        else "Yours: I step aside where it went out just now, and wherever you send it."
    )
    said = f"“{shortened(found.text, _QUOTED)}”\n{told}"
    effect = Automatic(text_id=found.text_id, is_automatic=is_automatic)
    return effect, *confirmed(turn, said, detail=f"automatic {match[1].lower()}")


async def _which(turn: Turn, texts: Sequence[AutomaticText], number: str | None) -> AutomaticText | None:
    """The one with that number, or whose question is replied to, or the only one that waits for an answer."""
    if number is not None:
        return texts[int(number) - 1] if 1 <= int(number) <= len(texts) else None
    reference = turn.messages[-1].reply_to
    # What is replied to may be too new to be known by its id: then the only open question is meant, as without it.
    if reference is not None and (told := await turn.reader.told(turn.chat.chat_id, reference)) is not None:
        return next((t for t in texts if t.text_id == told[0].text_id), None)
    waiting = [t for t in texts if t.is_automatic is None]
    return waiting[0] if len(waiting) == 1 else None


def _listed(texts: Sequence[AutomaticText]) -> str:
    if not texts:
        return "I have seen no text that looked automatic."
    names = {True: "automatic", False: "yours", None: "not answered yet"}
    lines = (
        f"{n}. “{shortened(t.text, _QUOTED)}”: {names[t.is_automatic]}" for n, t in enumerate(texts, start=1)
    )
    return "\n".join(["Texts that looked automatic:", *lines])


COMMAND = Command(
    name="automatic",
    usage="/automatic [yes | no] [number]",
    summary="whether a text of your phone's is automatic",
    roles=STAFF,
    answer=_answer,
)
