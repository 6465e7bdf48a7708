"""The flow that answers with a language model: reads the history, asks, yields; a failure says nothing to anyone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from flows.ai.model import BACKOFF, MAX_TOKENS, Answer, Model, OnUsage, Stop, ask, unheard
from flows.ai.prompt import MAX_MESSAGES, build_prompt
from flows.ai.wording import finished, parted, tidied
from flows.contract import Decided, Outcome, Reply, Turn
from flows.errors import AIError, EmptyAnswer
from storage.models import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFlow:
    """One answer of one model. Failing, it yields only Decided(FAILED) with the error's code, for the daemon to log.

    `history` is how many messages the model reads. The first reply's metadata carries the usage of them all.
    """

    model: Model
    on_usage: OnUsage = unheard
    max_tokens: int = MAX_TOKENS
    history: int = MAX_MESSAGES
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
        )
        try:
            answer = await ask(
                self.model, prompt, on_usage=self.on_usage, max_tokens=self.max_tokens, backoff=self.backoff
            )
            texts = _texts(answer)
        except AIError as exc:
            yield Decided(action=Action.FAILED, detail=exc.code)
            return
        for number, text in enumerate(texts):
            yield Reply(text=text, metadata=_metadata(answer, is_first=number == 0))


def _texts(answer: Answer) -> list[str]:
    text = tidied(answer.text)
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
