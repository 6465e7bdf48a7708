"""The flow that answers with a language model: reads the history, asks, yields; of a failure no customer hears why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any

from flows.ai.model import BACKOFF, MAX_TOKENS, Answer, Call, Model, OnUsage, Stop, Tool, ask, unheard
from flows.ai.outage import Outage
from flows.ai.prompt import MAX_MESSAGES, build_prompt
from flows.ai.wording import finished, parted, tidied
from flows.commands.target import label
from flows.contract import Decided, Outcome, Reply, Tell, Turn
from flows.errors import AIError, BadCredentials, ContextTooLong, EmptyAnswer, QuotaExhausted, Refused
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
    """One answer of one model. Failing, it says `fallback`, or nothing where that is empty, and decides FAILED.

    `history` is how many messages the model reads; with `hand_off` it may call a person into the chat. The first
    reply's metadata carries the usage of them all. `outage` remembers whether the provider answers at all.
    """

    model: Model
    on_usage: OnUsage = unheard
    max_tokens: int = MAX_TOKENS
    history: int = MAX_MESSAGES
    hand_off: bool = False
    backoff: Sequence[timedelta] = BACKOFF
    fallback: str = ""
    outage: Outage = field(default_factory=Outage)

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
            for outcome in self._without_an_answer(exc, turn):
                yield outcome
            return
        self.outage.is_over()
        for number, text in enumerate(texts):
            # The promise of a person goes out into the silence that comes with it.
            metadata = _metadata(answer, is_first=number == 0)
            yield Reply(text=text, metadata=metadata, unfenced=call is not None)
        if call is not None:
            yield pause(turn, PauseReason.AI_HANDOFF)
            yield notice(turn, _handed_over(turn, call))
            yield Decided(action=Action.HANDED_OFF, detail="model")

    def _without_an_answer(self, exc: AIError, turn: Turn) -> Iterator[Outcome]:
        said = "flows.default" if self.fallback else "nothing"
        if self.fallback:
            yield Reply(text=self.fallback)
        yield Decided(
            action=Action.FAILED,
            detail=f"{exc.code}: {self.model.provider} gave no answer, {said} was said instead",
        )
        if (trouble := self._trouble(exc, turn)) is None:
            return
        subject, why = trouble
        text = (
            f"I cannot answer with {self.model.provider}: {why}. Until that is mended customers get "
            f"{'flows.default' if self.fallback else 'no answer'} in place of the model's answers."
        )
        yield Tell(kind=NoticeKind.PROVIDER, subject=f"{self.model.provider}:{subject}", text=text)

    def _trouble(self, exc: AIError, turn: Turn) -> tuple[str, str] | None:
        """What the owner is to be told, and in words why: once for each subject. None: nothing, or not yet."""
        now, zone = turn.now, turn.tenant.zone
        match exc:
            # A person's job, told at once, and once a day.
            case QuotaExhausted():
                return f"{exc.code}:{now.astimezone(zone).date()}", "its credit is used up"
            case BadCredentials():
                return f"{exc.code}:{now.astimezone(zone).date()}", "it does not accept the key"
            case Refused() | ContextTooLong():
                return None  # this conversation's trouble, not the provider's
            case _:
                if (since := self.outage.failed(now)) is None:
                    return None
                why = f"it has given no answer since {_at(since, now, zone)} ({exc.code.replace('_', ' ')})"
                return f"outage:{since.isoformat()}", why


def _handed_over(turn: Turn, call: Call) -> str:
    why = " ".join(str(call.arguments.get("reason") or "").split())[:_REASON]
    return f"I hand {label(turn.chat)} over to you" + (f": {why}" if why else ".")


def _at(moment: datetime, now: datetime, zone: tzinfo) -> str:
    shown = moment.astimezone(zone)
    return f"{shown:%H:%M}" if shown.date() == now.astimezone(zone).date() else f"{shown:%d %b %H:%M}"


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
