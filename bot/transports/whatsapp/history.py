"""Translates what the phone tells of earlier conversations, piece by piece as it is asked for; it records nothing.

The phone sends a new device its past in parts: the newest messages of each chat first, then older ones, and
apart from them people's names. neonize has fetched, opened and unpacked a part when its event comes.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import structlog

from bot.transports.base import Deliver, History
from bot.transports.whatsapp.clients import HistoryDepth
from bot.transports.whatsapp.content import Said, clean, read_content
from bot.transports.whatsapp.convert import Place, answers_me, moment, target_sender
from bot.transports.whatsapp.ids import People, is_person, parse_jid, server_of
from bot.transports.whatsapp.link import Handlers
from bot.transports.whatsapp.raw import raw_json
from storage.models import GROUP_SERVER, Address, ExternalId, InboundMessage, Jid, MessageType

_log = structlog.get_logger(__name__)

_DOWNLOAD_SECONDS = 2.0
_WHATSAPP = Jid("0@s.whatsapp.net")


class HistoryEars:
    """Hears one account's history events; the pairs of number and LID in them are known at once."""

    def __init__(
        self, account: str, people: People, clock: Callable[[], datetime], depth: HistoryDepth
    ) -> None:
        self._account = account
        self._people = people
        self._clock = clock
        self._depth = depth
        self._announced = 0
        self._changed = asyncio.Event()

    def beside(self, handlers: Handlers, deliver: Deliver) -> Handlers:
        """These handlers and ours; where nothing is wanted, these: what nobody hears neonize does not pass on."""
        if self._depth == "none":
            return handlers
        self._announced, on_message = 0, handlers["MessageEv"]

        def on_message_or_notice(event: Any) -> None:
            if event.Message.protocolMessage.HasField("historySyncNotification"):
                self._announce(1)
            on_message(event)

        def on_history(event: Any) -> None:
            self._announce(-1)
            deliver(self._hear(event.Data))

        return {**handlers, "MessageEv": on_message_or_notice, "HistorySyncEv": on_history}

    async def all_come(self) -> None:
        """Returns when what was announced is here, or will not come: the phone sends no part twice."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DOWNLOAD_SECONDS):
                while self._announced > 0:
                    self._changed.clear()
                    await self._changed.wait()

    def _announce(self, number: int) -> None:
        # Below zero when a part comes before the notice of it, as one that travels within the notice may.
        self._announced += number
        self._changed.set()

    def _hear(self, data: Any) -> History:
        _learn(data, self._people)
        kind = data.HistorySyncType.Name(data.syncType)
        _log.info(
            "whatsapp_history_arrived", account=self._account, kind=kind, part=data.chunkOrder,
            progress=data.progress, chats=len(data.conversations),
        )  # fmt: skip
        return History(messages=self._messages(data), names=_names(data))

    def _messages(self, data: Any) -> Iterator[InboundMessage]:
        for conversation in data.conversations:
            for told in _in_order(conversation):
                try:
                    yield from to_past(told, conversation.ID, self._people, self._clock())
                except Exception as exc:  # noqa: BLE001 - one message that nobody has foreseen must not cost the rest
                    _log.error("whatsapp_history_failed", account=self._account, exc_info=exc)


def to_past(told: Any, conversation: str, people: People, now: datetime) -> Iterator[InboundMessage]:
    """The message of a WebMessageInfo, if a person said it, and the reactions that the phone keeps with it."""
    place = _place(told, conversation, people)
    said = read_content(told.message) if told.HasField("message") else None
    external_id = clean(told.key.ID)
    # A stub stands for what the phone itself has noted, such as who joined, or for what it could not read.
    if (
        place is None
        or said is None
        or external_id is None
        or told.messageStubType
        or not told.messageTimestamp
    ):
        return
    yield _spoken(told, external_id, _settled(said, external_id), place, people, now)
    for reaction in told.reactions:
        if (by := _place(reaction, conversation, people)) and (reaction_id := clean(reaction.key.ID)):
            yield InboundMessage(
                external_id=ExternalId(reaction_id),
                chat=by.chat,
                sender=by.sender,
                sent_at=moment(reaction.senderTimestampMS, per_second=1000, now=now),
                from_me=reaction.key.fromMe,
                is_group=by.is_group,
                type=MessageType.REACTION,
                text=clean(reaction.text) or "",
                reply_to=ExternalId(external_id),
                reply_to_me=told.key.fromMe,
                reply_to_sender=place.sender.jid,
                is_history=True,
            )


def _spoken(
    told: Any, external_id: str, said: Said, place: Place, people: People, now: datetime
) -> InboundMessage:
    from_me = told.key.fromMe
    return InboundMessage(
        external_id=ExternalId(external_id),
        chat=place.chat,
        sender=place.sender,
        sent_at=moment(told.messageTimestamp, per_second=1, now=now),
        from_me=from_me,
        to_self=not place.is_group and people.is_mine(place.chat),
        is_group=place.is_group,
        push_name=None if from_me else clean(told.pushName),
        type=said.type,
        text=said.text,
        reply_to=said.reply_to,
        reply_to_me=answers_me(said, place, people, from_me=from_me),
        reply_to_sender=target_sender(said, place),
        mentions_me=any(people.is_me(parse_jid(mention)) for mention in said.mentions),
        is_history=True,
        metadata=said.metadata,
        raw=raw_json(told),
    )


def _settled(said: Said, external_id: str) -> Said:
    """What was edited long ago comes in the place of what it was: under its id, and as an edit of itself."""
    if said.type is MessageType.EDIT and said.reply_to in (None, external_id):
        return Said(type=MessageType.TEXT, text=said.text)
    return said


def _place(told: Any, conversation: str, people: People) -> Place | None:
    key = told.key
    jid = parse_jid(clean(key.remoteJID) or conversation)
    if jid is None or jid == _WHATSAPP:
        return None
    is_group = server_of(jid) == GROUP_SERVER
    if not is_group and not is_person(jid):
        return None
    chat = Address(jid=jid) if is_group else people.address(jid)
    if key.fromMe:
        sender = people.own[0] if people.own else None
    elif is_group:
        sender = parse_jid(clean(getattr(told, "participant", "")) or clean(key.participant) or "")
    else:
        sender = jid
    if sender is None or not is_person(sender):
        return None
    return Place(chat=chat, sender=people.address(sender), is_group=is_group)


def _in_order(conversation: Any) -> list[Any]:
    """As it was said: the phone sends the newest first, and its times are in seconds."""
    listed = sorted(conversation.messages, key=lambda m: (m.message.messageTimestamp, m.msgOrderID))
    return [entry.message for entry in listed]


def _learn(data: Any, people: People) -> None:
    pairs = [(m.pnJID, m.lidJID) for m in data.phoneNumberToLidMappings]
    pairs += [(c.ID, c.lidJID or c.pnJID) for c in data.conversations]
    for one, other in ((parse_jid(one), parse_jid(other)) for one, other in pairs):
        if one is not None and other is not None and one != other and is_person(one) and is_person(other):
            people.pair(one, other)


def _names(data: Any) -> dict[Jid, str]:
    """What people call themselves: with each message, and in a part of its own."""
    told = [
        (entry.message.participant or conversation.ID, entry.message.pushName)
        for conversation in data.conversations
        for entry in conversation.messages
        if not entry.message.key.fromMe
    ]
    told += [(entry.ID, entry.pushname) for entry in data.pushnames]
    named = ((parse_jid(person), clean(name)) for person, name in told)
    return {jid: name for jid, name in named if jid is not None and name is not None and is_person(jid)}
