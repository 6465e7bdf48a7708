"""Who is who in an export: which names are the owner's, whose chat it is; asks where it cannot tell, never guesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bot.importing.addresses import (
    conversation_of,
    named_jid,
    phone_jid,
    read_number,
    region_of,
    variants,
    whatsapp_jid,
)
from bot.importing.errors import ImportRefused
from bot.importing.scan import Scan
from storage.imported import Conversation
from storage.imports import ImportStore
from storage.models import GROUP_SERVER, Account, Channel, Jid, Tenant

_SHOWN = 12
_BEFORE_NAME = (
    "whatsapp chat with ", "whatsapp chat - ", "conversa do whatsapp com ", "chat de whatsapp con ",
    "whatsapp-chat mit ", "whatsapp chat mit ", "discussion whatsapp avec ", "chat whatsapp con ", "whatsapp-chat met ",
    "чат whatsapp с ", "chat do whatsapp com ", "whatsapp sohbeti - ", "czat whatsapp z ", "chat whatsapp dengan ",
)  # fmt: skip


class Asker(Protocol):
    """Somebody who can be asked; None where nobody is there."""

    def choose(self, question: str, options: Sequence[str]) -> str | None: ...

    def say(self, question: str) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line says of who is who."""

    chat: str | None = None
    me: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who speaks in an export: the conversation, and the names of the owner in it."""

    conversation: Conversation
    mine: frozenset[str]
    region: str | None

    def address(self, name: str) -> Jid:
        """The address of whoever has this name in the file."""
        if self.conversation.participant is not None:
            return self.conversation.participant
        digits = read_number(name, self.region)
        return phone_jid(digits) if digits else named_jid(name, self.conversation.jid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Casting:
    """What is needed to find out who is who. `title` is the file's name without an ending."""

    store: ImportStore
    tenant: Tenant
    account: Account
    wishes: Wishes
    asker: Asker

    async def cast(self, found: Scan, title: str) -> Cast:
        """Raises ImportRefused where it cannot be told and nobody can be asked."""
        region = region_of(self.tenant.owner)
        senders = [name for name, _ in found.senders.most_common()]
        partner = _in_title(title, senders)
        chat = None
        if self.wishes.chat is not None:
            chat = whatsapp_jid(self.wishes.chat, region)
            if chat is None:
                raise ImportRefused(f"--chat {self.wishes.chat} is no phone number, and no group's id")
        is_group = chat.endswith(f"@{GROUP_SERVER}") if chat else None
        mine = await self._owner(senders, partner, chat, region)
        others = [name for name in senders if name not in mine]
        if is_group is None:
            is_group = len(others) > 1
        elif not is_group and len(others) > 1:
            raise ImportRefused(
                f"{len(others)} people besides you write here ({_listed(others)}): a group's chat is its id, such as "
                "--chat 120363000000000001@g.us, or leave --chat out. If one of them is you, say so with --me"
            )
        if is_group:
            return Cast(conversation=await self._group(chat, title), mine=mine, region=region)
        jid = chat or await self._person(others, partner, title, region)
        return Cast(
            conversation=Conversation(channel=Channel.WHATSAPP, jid=jid, participant=jid),
            mine=mine,
            region=region,
        )

    async def _owner(
        self, senders: Sequence[str], partner: str | None, chat: Jid | None, region: str | None
    ) -> frozenset[str]:
        wanted = {name.casefold() for name in self.wishes.me}
        mine = frozenset(name for name in senders if name.casefold() in wanted)
        if mine or (wanted and len(senders) == 1):
            return mine
        if wanted:
            raise ImportRefused(
                f"nobody here is called {', '.join(self.wishes.me)}; there is: {_listed(senders)}"
            )
        own = {self.tenant.owner.removeprefix("+"), (self.account.jid or "").partition("@")[0]}
        called = {self.tenant.instance_name.casefold(), self.account.name.casefold()}
        mine = frozenset(n for n in senders if read_number(n, region) in own or n.casefold() in called)
        if mine:
            return mine
        other = partner or await self._other(senders, chat, region)
        if other is not None and len(senders) <= 2:
            return frozenset(senders) - {other}
        chosen = self.asker.choose("Which of these is you?", [*senders[:_SHOWN], "none of them"])
        if chosen is None:
            raise ImportRefused(
                f"which of these is you? Say it with --me NAME; the names are: {_listed(senders)}"
            )
        return frozenset({chosen} & set(senders))

    async def _other(self, senders: Sequence[str], chat: Jid | None, region: str | None) -> str | None:
        """The customer of a private chat, told by the number or by the name that is recorded for it."""
        if chat is None or chat.endswith(f"@{GROUP_SERVER}"):
            return None
        name = await self.store.name_of(self.account.tenant_id, chat)
        for sender in senders:
            digits = read_number(sender, region)
            if (digits and phone_jid(digits) == chat) or (name and sender.casefold() == name.casefold()):
                return sender
        return None

    async def _person(
        self, others: Sequence[str], partner: str | None, title: str, region: str | None
    ) -> Jid:
        name = partner or next(iter(others), None) or _chat_name(title)
        digits = read_number(name, region)
        if digits is not None:
            known = await self.store.known_phone(self.account.tenant_id, variants(digits))
            return phone_jid(known or digits)
        if jid := await self.store.person_named(self.account.tenant_id, name):
            return jid
        said = self.asker.say(f"The phone number of {name}, with its country code")
        jid = whatsapp_jid(said, region) if said else None
        if jid is None:
            raise ImportRefused(f"whose chat is it? Say the number of {name} with --chat NUMBER")
        return jid

    async def _group(self, chat: Jid | None, title: str) -> Conversation:
        name = _chat_name(title)
        jid = chat or await self.store.group_named(self.account, name)
        if jid is not None:
            return Conversation(channel=Channel.WHATSAPP, jid=jid, participant=None, name=name)
        return conversation_of(Channel.WHATSAPP, name, is_group=True, name=name)


def _chat_name(title: str) -> str:
    """What a chat is called, from the name that WhatsApp gives its export."""
    title = title.strip()
    for before in _BEFORE_NAME:
        if title.casefold().startswith(before):
            return title[len(before) :].strip() or title
    return title


def _in_title(title: str, senders: Sequence[str]) -> str | None:
    """The sender after whom the file is called: in every language the name of the chat comes last."""
    ends = title.casefold().strip()
    named = [name for name in senders if ends == name.casefold() or ends.endswith((f" {name.casefold()}",))]
    return max(named, key=len, default=None)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
