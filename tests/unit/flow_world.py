"""A small business in memory for the tests of flows: chats, messages, a Reader over them, and turns to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from flows.contract import Decided, Flow, Notice, Outcome, Reply, Tell, Turn
from flows.registry import recognise
from flows.texts import Texts
from storage.models import (
    AccountId,
    Action,
    Author,
    AutomaticText,
    ChatId,
    ChatSummary,
    Direction,
    Explanation,
    ExternalId,
    Jid,
    Message,
    MessageId,
    MessageType,
    PauseReason,
    Quarantined,
    Role,
    Session,
    Status,
    Tenant,
    TenantId,
    ThreadId,
    Topic,
)
from storage.reading.models import Entry, Excerpt, Find, Page, Stats, T

NOW = datetime(2026, 3, 10, 14, 0, tzinfo=UTC)
TENANT = Tenant(
    tenant_id=TenantId(1), instance_name="shop", owner="+5511999990000", auto_resume_after=timedelta(hours=2)
)

_ids = count(1)


def chat(
    number: int, name: str | None, *, session: Session | None = None, phone: str | None = None
) -> ChatSummary:
    phone = phone or f"551199999{number:04}"
    return ChatSummary(
        chat_id=ChatId(number),
        jid=Jid(f"{phone}@s.whatsapp.net"),
        name=name,
        phone=phone,
        is_group=False,
        account="+5511999990000",
        session=session or Session(chat_id=ChatId(number), epoch=1, idle_after=TENANT.auto_resume_after),
        last_message_at=NOW,
    )


ANA = chat(1, "Ana Souza")
BEN = chat(2, "Ben")
OWN = chat(9, "Me")


def said(
    text: str | None,
    author: Author = Author.CUSTOMER,
    *,
    kind: MessageType = MessageType.TEXT,
    reply_to: str | None = None,
    command: str | None = None,
) -> Message:
    """A message of Ana's chat; each call is a later one."""
    return Message(
        tenant_id=TENANT.tenant_id,
        account_id=AccountId(1),
        chat_id=ANA.chat_id,
        chat_jid=ANA.jid,
        id=MessageId(next(_ids)),
        thread_id=ThreadId(1),
        direction=Direction.INBOUND if author is Author.CUSTOMER else Direction.OUTBOUND,
        author=author,
        type=kind,
        sent_at=NOW - timedelta(minutes=5),
        text=text,
        reply_to=ExternalId(reply_to) if reply_to else None,
        command=command,
    )


@dataclass(slots=True)
class MemoryReader:
    """A Reader over what it is given; a name is found by a part of it, a number by its digits."""

    chats: Sequence[ChatSummary] = (ANA, BEN)
    messages: Sequence[Message] = ()
    is_globally_paused: bool = False
    automatic: Sequence[AutomaticText] = ()
    notices: Mapping[ExternalId, tuple[Topic, datetime]] = field(default_factory=dict)
    explanations: Mapping[str, Sequence[Explanation]] = field(default_factory=dict)
    quarantine: Sequence[Quarantined] = ()
    statistics: Mapping[ChatId | None, Stats] = field(default_factory=dict)
    asked_since: list[datetime | None] = field(default_factory=list)
    has_unaccent: bool = True

    async def history(self, chat_id: ChatId, limit: int) -> Sequence[Message]:
        return [message for message in self.messages if message.chat_id == chat_id][-limit:]

    async def chat(self, chat_id: ChatId) -> ChatSummary:
        return next(chat for chat in self.chats if chat.chat_id == chat_id)

    async def find_chats(self, query: str, limit: int = 5) -> Sequence[ChatSummary]:
        digits = "".join(sign for sign in query if sign.isdigit())
        return [
            chat
            for chat in self.chats
            if (digits and digits in (chat.phone or "")) or query.casefold() in (chat.name or "").casefold()
        ][:limit]

    async def paused_chats(self, limit: int = 20) -> Sequence[ChatSummary]:
        return [chat for chat in self.chats if chat.session.is_paused][:limit]

    async def global_pause(self) -> bool:
        return self.is_globally_paused

    async def global_since(self) -> datetime | None:
        return None

    async def automatic_texts(self) -> Sequence[AutomaticText]:
        return self.automatic

    async def told(self, chat_id: ChatId, reference: ExternalId) -> tuple[Topic, datetime] | None:
        return self.notices.get(reference)

    async def asked(self, chat_id: ChatId, since: datetime) -> tuple[Topic, datetime] | None:
        return next((told for told in self.notices.values() if told[0].choices and told[1] >= since), None)

    async def explain(self, reference: str) -> Sequence[Explanation]:
        return self.explanations.get(reference, ())

    async def in_quarantine(self, reference: str) -> Sequence[Quarantined]:
        return [lost for lost in self.quarantine if lost.external_id == reference]

    async def search(
        self, query: str, chat_id: ChatId | None, limit: int, before: MessageId | None = None
    ) -> Page[Find]:
        """What has all of the query in it; marked in its whole text."""
        found = [
            Find(entry=entry, excerpt=Excerpt(text=text, marks=((at, at + len(query)),)))
            for entry in self._entries(chat_id)
            if (at := (text := entry.message.text or "").find(query)) >= 0
        ]
        return _page(found, limit, before, lambda find: find.entry.message.id)

    async def folds_accents(self) -> bool:
        return self.has_unaccent

    async def stats(self, chat_id: ChatId | None, since: datetime | None = None) -> Stats:
        self.asked_since.append(since)
        return self.statistics.get(chat_id, Stats(tallies=()))

    async def failed(
        self, chat_id: ChatId | None, limit: int, before: MessageId | None = None
    ) -> Page[Entry]:
        failed = [replace(e, status=Status.FAILED, error="no such number") for e in self._entries(chat_id)]
        return _page(failed, limit, before, lambda entry: entry.message.id)

    def _entries(self, chat_id: ChatId | None) -> list[Entry]:
        """Newest first."""
        called = {chat.chat_id: (chat.name, chat.phone) for chat in self.chats}
        return [
            Entry(message=m, chat_name=called[m.chat_id][0], chat_phone=called[m.chat_id][1])
            for m in reversed(self.messages)
            if chat_id in (None, m.chat_id)
        ]


def _page(found: Sequence[T], limit: int, before: MessageId | None, key: Callable[[T], MessageId]) -> Page[T]:
    left = [one for one in found if before is None or key(one) < before][:limit]
    return Page(items=tuple(left), next=key(left[-1]) if len(left) == limit else None)


def turn(
    *messages: Message | str,
    role: Role = Role.CUSTOMER,
    chat: ChatSummary = ANA,
    reader: MemoryReader | None = None,
    own_chat: bool = False,
    tenant: Tenant = TENANT,
) -> Turn:
    author = Author.HUMAN if role is Role.OWNER else Author.CUSTOMER
    burst = tuple(said(message, author) if isinstance(message, str) else message for message in messages)
    return Turn(
        tenant=tenant,
        chat=chat,
        session=chat.session,
        messages=burst,
        role=role,
        now=NOW,
        reader=reader or MemoryReader(),
        own_chat=own_chat,
    )


def paused(chat: ChatSummary, **session: object) -> ChatSummary:
    """The chat with the bot silent in it since a quarter of an hour."""
    state = replace(chat.session, is_paused=True, paused_at=NOW - timedelta(minutes=15))
    return replace(chat, session=replace(state, **session))  # type: ignore[arg-type]  # fields by name, checked when run


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All that a flow yielded, sorted."""

    replies: tuple[Reply, ...]
    notices: tuple[Notice, ...]
    tells: tuple[Tell, ...]
    effects: tuple[Outcome, ...]
    action: Action
    detail: str | None

    @property
    def text(self) -> str:
        """The one thing that was said, to whomever."""
        told: tuple[Reply | Notice | Tell, ...] = (*self.replies, *self.notices, *self.tells)
        texts = [one.text for one in told]
        assert len(texts) == 1
        return texts[0]


async def outcome_of(flow: Flow, turn: Turn) -> Result:
    outcomes = [outcome async for outcome in flow.run(turn)]
    decided = [outcome for outcome in outcomes if isinstance(outcome, Decided)]
    assert len(decided) <= 1
    return Result(
        replies=tuple(outcome for outcome in outcomes if isinstance(outcome, Reply)),
        notices=tuple(outcome for outcome in outcomes if isinstance(outcome, Notice)),
        tells=tuple(outcome for outcome in outcomes if isinstance(outcome, Tell)),
        effects=tuple(
            outcome for outcome in outcomes if not isinstance(outcome, Reply | Notice | Tell | Decided)
        ),
        action=decided[0].action if decided else flow.action,
        detail=decided[0].detail if decided else None,
    )


TAKEN_OVER = paused(
    ANA,
    pause_reason=PauseReason.HUMAN_TAKEOVER,
    last_human_at=NOW - timedelta(minutes=30),
    returns_at=NOW + timedelta(minutes=90),
)
OPTED_OUT = replace(ANA, session=replace(ANA.session, opted_out_at=NOW - timedelta(days=3)))


async def given(
    text: str,
    role: Role = Role.OWNER,
    *,
    chat: ChatSummary = ANA,
    reader: MemoryReader | None = None,
    own_chat: bool = False,
    reply_to: str | None = None,
    written_at: datetime = NOW,
    texts: Texts = Texts(),  # noqa: B008  frozen
    tenant: Tenant = TENANT,
) -> Result:
    """What comes of a command that somebody gave."""
    command = recognise(text, role, own_chat=own_chat)
    assert command is not None
    author = Author.CUSTOMER if role is Role.CUSTOMER else Author.HUMAN
    message = replace(said(text, author, reply_to=reply_to), sent_at=written_at)
    asked = turn(message, role=role, chat=chat, reader=reader, own_chat=own_chat, tenant=tenant)
    return await outcome_of(command, replace(asked, texts=texts))


async def given_at_home(text: str, role: Role = Role.OWNER, reader: MemoryReader | None = None) -> Result:
    """The same in message-yourself, or in an admin's own chat."""
    return await given(text, role, chat=OWN, reader=reader, own_chat=True)
