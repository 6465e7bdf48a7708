"""The flow with a model, and the asking: a stand-in for the model, real time kept out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from flows.ai.chat import ChatFlow
from flows.ai.failures import from_status, retry_after
from flows.ai.model import Answer, Call, Model, Prompt, PromptTurn, Stop, Usage, ask
from flows.ai.providers import build_model
from flows.contract import Pause
from flows.errors import (
    AIError,
    BadCredentials,
    ConfigError,
    ContextTooLong,
    EmptyAnswer,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    Unreachable,
)
from storage.models import Action, Author, PauseReason
from storage.notify import NoticeKind
from tests.unit.flow_world import ANA, NOW, TENANT, MemoryReader, Result, outcome_of, said, turn

AT_ONCE = (timedelta(), timedelta())
USAGE = Usage(input_tokens=10, cached_tokens=3, output_tokens=5)


def answer(text: str, stop: Stop = Stop.END) -> Answer:
    return Answer(text=text, stop=stop, usage=USAGE, provider="anthropic", model="claude-x-20260101")


@dataclass(slots=True)
class ScriptedModel:
    """Answers, or raises, what it is given, one after another; keeps what it was asked."""

    script: list[Answer | AIError]
    asked: list[Prompt] = field(default_factory=list)
    provider: str = "anthropic"
    name: str = "claude-x"
    knows_tools: bool = True
    deadline: timedelta = timedelta(seconds=20)

    async def complete(self, prompt: Prompt, *, max_tokens: int) -> Answer:
        self.asked.append(prompt)
        match self.script.pop(0):
            case AIError() as trouble:
                raise trouble
            case Answer() as given:
                return given

    async def aclose(self) -> None:
        pass


async def flow_over(*script: Answer | AIError) -> Result:
    return await outcome_of(ChatFlow(model=ScriptedModel(list(script)), backoff=AT_ONCE), turn("Open?"))


async def test_an_answer_is_one_reply_with_its_origin() -> None:
    result = await flow_over(answer("**Yes**, until six."))
    (reply,) = result.replies
    assert reply.text == "*Yes*, until six."
    assert not reply.unfenced
    assert result.action is Action.AI_REPLIED
    assert reply.metadata == {
        "provider": "anthropic",
        "model": "claude-x-20260101",
        "usage": {"input_tokens": 10, "cached_tokens": 3, "cache_write_tokens": 0, "output_tokens": 5},
    }


async def test_a_very_long_answer_is_parted_and_its_usage_counted_once() -> None:
    result = await flow_over(answer("One sentence. " * 700))
    assert len(result.replies) == 3
    assert ["usage" in reply.metadata for reply in result.replies] == [True, False, False]


async def test_an_answer_that_was_cut_off_ends_with_a_sentence() -> None:
    assert (await flow_over(answer("Yes. Until si", Stop.LENGTH))).text == "Yes."


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        (RateLimited("429", retry_after=200), "rate_limited"),
        (QuotaExhausted("402"), "quota_exhausted"),
        (answer(""), "empty_answer"),
        (answer("[staff]"), "empty_answer"),
        (answer("I cannot.", Stop.REFUSED), "refused"),
    ],
)
async def test_in_trouble_the_customer_gets_the_fallback_or_nothing_and_it_is_recorded(
    script: Answer | AIError, detail: str
) -> None:
    for fallback, instead in (("", "nothing"), ("Soon.", "flows.default")):
        model = ScriptedModel([script])
        result = await outcome_of(ChatFlow(model=model, backoff=AT_ONCE, fallback=fallback), turn("Open?"))
        assert [(reply.text, reply.unfenced) for reply in result.replies] == [(fallback, False)] * bool(
            fallback
        )
        assert (result.notices, result.effects, result.action) == ((), (), Action.FAILED)
        assert result.detail == f"{detail}: anthropic gave no answer, {instead} was said instead"


@pytest.mark.parametrize("trouble", [QuotaExhausted("402"), BadCredentials("401")])
async def test_an_owner_who_alone_can_mend_it_is_told_once_a_day(trouble: AIError) -> None:
    [told] = (await flow_over(trouble)).tells
    assert (told.kind, told.subject) == (NoticeKind.PROVIDER, f"anthropic:{trouble.code}:2026-03-10")
    assert (await flow_over(RateLimited("429", retry_after=200))).tells == ()


async def subjects(*script: tuple[int, Answer | AIError]) -> list[str | None]:
    """What an owner was told of after each of these, so many minutes after the first."""
    flow = ChatFlow(model=ScriptedModel([each for _, each in script]), backoff=())
    told = []
    for minutes, _ in script:
        asked = replace(turn("Open?"), now=NOW + timedelta(minutes=minutes))
        tells = (await outcome_of(flow, asked)).tells
        told.append(tells[0].subject if tells else None)
    return told


DOWN, FINE = Unreachable(), answer("Ok.")


async def test_an_outage_is_told_of_at_the_third_message_or_after_a_while_until_there_is_an_answer() -> None:
    first, second = (f"anthropic:outage:{(NOW + timedelta(minutes=m)).isoformat()}" for m in (0, 3))
    row = ((0, DOWN), (0, DOWN), (1, Overloaded()), (2, DOWN), (3, FINE), (3, DOWN), (4, DOWN), (5, DOWN))
    assert await subjects(*row) == [None, None, first, first, None, None, None, second]
    assert await subjects((0, DOWN), (4, DOWN), (5, FINE), (6, DOWN)) == [None] * 4
    assert await subjects((0, DOWN), (5, DOWN)) == [None, first]


async def test_what_a_provider_will_not_answer_is_no_outage() -> None:
    assert await subjects(*((0, Refused()), (9, ContextTooLong()), (9, Refused()))) == [None] * 3


def called(name: str, arguments: Mapping[str, object], text: str = "") -> Answer:
    return replace(answer(text), calls=(Call(name=name, arguments=arguments),))


async def test_a_model_hands_over_with_its_own_words_and_the_owner_hears_why() -> None:
    result = await flow_over(
        called("hand_off", {"reason": "wants  a\nrefund" + "!" * 999}, "Um momento, por favor.")
    )
    (reply,) = result.replies
    assert (reply.text, reply.unfenced) == ("Um momento, por favor.", True)
    assert result.effects == (Pause(chat_id=ANA.chat_id, reason=PauseReason.AI_HANDOFF),)
    [told] = result.tells
    assert (told.kind, told.chat_id) == (NoticeKind.HANDOFF, ANA.chat_id)
    assert told.text.startswith("I hand Ana Souza (+5511999990001) over to you: wants a refund!")
    assert len(told.text) < 400
    assert (result.action, result.detail) == (Action.HANDED_OFF, "model")


@pytest.mark.parametrize("arguments", [{}, {"reason": None}, {"reason": ["x"]}, {"why": "?"}])
async def test_a_model_that_hands_over_without_a_word_promises_a_person(arguments: dict[str, object]) -> None:
    result = await flow_over(called("hand_off", arguments))
    assert [reply.text for reply in result.replies] == ["A person will answer you here as soon as possible."]
    assert result.action is Action.HANDED_OFF


async def test_a_tool_that_there_is_not_says_nothing() -> None:
    result = await flow_over(called("delete_everything", {}))
    assert (result.replies, result.effects, result.action) == ((), (), Action.FAILED)


@pytest.mark.parametrize(("allowed", "is_group"), [(True, False), (True, True), (False, False)])
async def test_handing_over_is_offered_where_it_is_wanted_and_to_no_group(
    allowed: bool, is_group: bool
) -> None:
    model = ScriptedModel([answer("Ok.")])
    asked = turn("Open?", chat=replace(ANA, is_group=is_group))
    await outcome_of(ChatFlow(model=model, hand_off=allowed), asked)
    (prompt,) = model.asked
    assert [tool.name for tool in prompt.tools] == (["hand_off"] if allowed and not is_group else [])


async def test_the_model_is_told_the_tenants_words_and_the_history() -> None:
    model = ScriptedModel([answer("Ok.")])
    history = [said("Hi"), said("I am Rita", Author.HUMAN)]
    asked = turn(
        "Open?", reader=MemoryReader(messages=history), tenant=replace(TENANT, system_prompt="You are Ana.")
    )
    await outcome_of(ChatFlow(model=model), asked)
    (prompt,) = model.asked
    assert prompt.system.startswith("You are Ana.")
    assert [turn.text for turn in prompt.turns] == [
        "Hi",
        "[staff came]\n[staff] I am Rita\n[staff left]",
        "Open?",
    ]


async def test_tokens_are_counted_for_useless_answers_too() -> None:
    heard: list[tuple[str, str, Usage]] = []
    flow = ChatFlow(model=ScriptedModel([answer("")]), on_usage=lambda *usage: heard.append(usage))
    await outcome_of(flow, turn("Open?"))
    assert heard == [("anthropic", "claude-x", USAGE)]


def conversation(count: int) -> Prompt:
    roles = ("user", "assistant")
    turns = tuple(PromptTurn(role=roles[number % 2], text=str(number)) for number in range(count))  # type: ignore[arg-type]  # one of two literals
    return Prompt(system="s", turns=turns, user="u")


@pytest.mark.parametrize(
    ("count", "kept"), [(1, None), (3, ["2"]), (5, ["4"]), (7, ["4", "5", "6"]), (9, ["6", "7", "8"])]
)
def test_shortening_keeps_the_newer_half_and_the_question(count: int, kept: list[str] | None) -> None:
    shorter = conversation(count).shortened()
    assert (shorter and [turn.text for turn in shorter.turns]) == kept


async def test_shortening_does_not_use_up_the_retries() -> None:
    model = ScriptedModel([Overloaded(), ContextTooLong(), Unreachable(), answer("Ok.")])
    assert (await ask(model, conversation(5), backoff=AT_ONCE)).text == "Ok."
    assert [len(prompt.turns) for prompt in model.asked] == [5, 5, 1, 1]


async def test_it_is_shortened_only_once() -> None:
    model = ScriptedModel([ContextTooLong(), ContextTooLong(), answer("Ok.")])
    with pytest.raises(ContextTooLong):
        await ask(model, conversation(9))
    assert len(model.asked) == 2


async def test_a_single_question_that_is_too_long_is_given_up() -> None:
    model = ScriptedModel([ContextTooLong()])
    with pytest.raises(ContextTooLong):
        await ask(model, conversation(1))


async def test_an_empty_answer_is_not_asked_for_again() -> None:
    model = ScriptedModel([answer(" "), answer("Ok.")])
    with pytest.raises(EmptyAnswer):
        await ask(model, conversation(1), backoff=AT_ONCE)


async def test_cancellation_goes_through() -> None:
    begun = asyncio.Event()

    class Endless(ScriptedModel):
        async def complete(self, prompt: Prompt, *, max_tokens: int) -> Answer:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

    asking = asyncio.create_task(ask(Endless([]), conversation(1)))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_nothing(
    headers: Mapping[str, str], seconds: float | None
) -> None:
    assert retry_after(headers) == seconds


def test_an_error_names_codes_and_keeps_no_body() -> None:
    error = from_status(
        400, codes=("invalid_request_error", None, "my number is 5511"), said="5511", headers={}
    )
    assert str(error) == "400 invalid_request_error"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"provider": "anthropic", "api_key": None}, "ANTHROPIC_API_KEY"),
        ({"provider": "openai", "api_key": "  "}, "OPENAI_API_KEY"),
        ({"provider": "openai", "api_key": None, "base_url": "https://api.openai.com/v1"}, "OPENAI_API_KEY"),
        ({"provider": "none", "api_key": "k"}, "llm_provider"),
        ({"provider": "anthropic", "api_key": "k", "effort": "minimal"}, "ai.effort"),
        ({"provider": "openai", "api_key": "k", "api": "soap"}, "ai.api"),
        ({"provider": "openai", "api_key": "k", "base_url": "localhost:11434"}, "ai.base_url"),
        ({"provider": "openai", "api_key": "k", "deadline": timedelta()}, "ai.deadline"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(settings: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build_model(**settings)  # type: ignore[arg-type]  # wrong on purpose


def test_a_stand_in_is_a_model() -> None:
    model: Model = ScriptedModel([])
    assert model.provider == "anthropic"
