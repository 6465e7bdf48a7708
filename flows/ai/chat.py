"""The flow that answers with a language model: reads the history, asks, yields; a failure says nothing to anyone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from flows.ai.model import BACKOFF, MAX_TOKENS, Answer, Call, Model, OnUsage, Stop, Tool, ask, unheard
from flows.ai.prompt import MAX_MESSAGES, build_prompt
from flows.ai.wording import finished, parted, tidied
from flows.commands.target import label
from flows.contract import Decided, Outcome, Reply, Tell, Turn
from flows.errors import AIError, BadCredentials, EmptyAnswer, QuotaExhausted
from flows.handoff import notice, pause, promise
from storage.models import Action, PauseReason
from storage.notify import NoticeKind

HAND_OFF = Tool(
    name="hand_off",
    description=(
        "Call a person of the business into this chat, and fall silent yourself until that person has left. Use it "
        "when the customer asks for a person, is upset, or needs what you cannot do or do not know. Tell the customer "
        "in the same answer, in their language, that a person will write to them here."
    ),
    parameters={
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "For that person: what it is about, in a sentence."}
        },
        "required": ["reason"],
    },
)
_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFlow:
    """One answer of one model. Failing, it yields only Decided(FAILED) with the error's code, for the daemon to log.

    `history` is how many messages the model reads; with `hand_off` it may call a person into the chat. The first
    reply's metadata carries the usage of them all.
    """

    model: Model
    on_usage: OnUsage = unheard
    max_tokens: int = MAX_TOKENS
    history: int = MAX_MESSAGES
    hand_off: bool = False
    backoff: Sequence[timedelta] = BACKOFF

    @property
    def name(self) -> str:
        return "ai"

    @property
    def action(self) -> Action:
        return Action.AI_REPLIED

    async def run(self, turn: Turn) -> AsyncIterator[Outcome]:
        """Answer the burst."""
        prompt = build_prompt(
            tenant_id=turn.tenant.tenant_id,
            chat_id=turn.chat.chat_id,
            system=turn.tenant.system_prompt,
            history=await turn.reader.history(turn.chat.chat_id, self.history),
            burst=turn.messages,
            most=self.history,
            # One member of a group does not call a person into it, and silence the bot, for all.
            tools=(HAND_OFF,) if self.hand_off and not turn.chat.is_group else (),
        )
        try:
            answer = await ask(
                self.model, prompt, on_usage=self.on_usage, max_tokens=self.max_tokens, backoff=self.backoff
            )
            call = next((call for call in answer.calls if call.name == HAND_OFF.name), None)
            texts = _texts(answer, or_else=promise(turn) if call else "")
        except AIError as exc:
            yield Decided(action=Action.FAILED, detail=exc.code)
            if isinstance(exc, QuotaExhausted | BadCredentials):
                yield _for_the_owner(exc, self.model.provider, turn)
            return
        for number, text in enumerate(texts):
            # The promise of a person goes out into the silence that comes with it.
            metadata = _metadata(answer, is_first=number == 0)
            yield Reply(text=text, metadata=metadata, unfenced=call is not None)
        if call is not None:
            yield pause(turn, PauseReason.AI_HANDOFF)
            yield notice(turn, _handed_over(turn, call))
            yield Decided(action=Action.HANDED_OFF, detail="model")


def _handed_over(turn: Turn, call: Call) -> str:
    why = " ".join(str(call.arguments.get("reason") or "").split())[:_REASON]
    return f"I hand {label(turn.chat)} over to you" + (f": {why}" if why else ".")


def _for_the_owner(exc: AIError, provider: str, turn: Turn) -> Tell:
    """A person's job, told once a day."""
    why = "its credit is used up" if isinstance(exc, QuotaExhausted) else "it does not accept the key"
    return Tell(
        kind=NoticeKind.PROVIDER,
        subject=f"{provider}:{exc.code}:{turn.now.astimezone(turn.tenant.zone).date()}",
        text=f"I cannot answer with {provider}: {why}. Until that is mended customers get no answer of the model's.",
    )


def _texts(answer: Answer, *, or_else: str) -> list[str]:
    text = tidied(answer.text) or or_else
    if answer.stop is Stop.LENGTH:
        text = finished(text)
    if not text:
        raise EmptyAnswer("nothing but marks")
    return parted(text)


def _metadata(answer: Answer, *, is_first: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {"provider": answer.provider, "model": answer.model}
    if is_first:
        metadata["usage"] = asdict(answer.usage)
    return metadata
