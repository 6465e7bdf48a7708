"""What a person can write, a verb for each kind of message; they go out through the person's phone."""

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from bot.lab import messages, protobuf
from bot.lab.audience import STATUS
from bot.lab.directory import Account, Addressing
from bot.lab.errors import LabError
from bot.lab.groups import Group
from bot.lab.heard import Heard
from bot.lab.linked import LinkedDevice
from bot.lab.media import Attachment, MediaKind
from bot.lab.messages import Card
from bot.lab.nodes import Jid
from bot.lab.phone import Phone
from bot.lab.server import Server


class Reader(Protocol):
    """Whoever can be written to."""

    @property
    def account(self) -> Account: ...


class Writer(ABC):
    """All verbs return the message's id, and take what `sends` takes."""

    _server: Server
    account: Account
    phone: Phone

    async def says(
        self,
        text: str,
        *,
        to: Reader | Group | None = None,
        addressed: Addressing = "lid",
        with_alt: bool = True,
        id: str | None = None,  # noqa: A002 - the word that tests read
        quoted: Heard | None = None,
        mentions: Sequence[Reader] = (),
        at: dt.datetime | None = None,
        damaged: bool = False,
        disappears_after: dt.timedelta | None = None,
    ) -> str:
        """`addressed` and `with_alt`: which ids of this person are shown.

        A `damaged` message first arrives undecryptable; the bot's client asks for it again.
        """
        details: dict[str, Any] = {"addressed": addressed, "alt": with_alt, "message_id": id, "at": at}
        message = messages.text(text)
        if mentions:
            message = messages.mentioning(message, [_seen_in(to, person.account) for person in mentions])
        return await self.sends(
            message, to=to, quoted=quoted, disappears_after=disappears_after, damaged=damaged, **details
        )

    async def sends(
        self,
        message: Any,
        *,
        to: Reader | Group | None = None,
        quoted: Heard | None = None,
        view_once: bool = False,
        disappears_after: dt.timedelta | None = None,
        **details: Any,
    ) -> str:
        """Any protobuf message; details as in Phone.send."""
        if quoted is not None:
            author = _seen_in(to, self._author(quoted))
            message = messages.quoting(message, quoted_id=quoted.id, author=author, quoted=quoted.proto)
        if view_once:
            message = messages.view_once(message)
        if disappears_after is not None:
            message = messages.disappearing(message, disappears_after)
        chat = self._whom(to)
        message_id = self.phone.send(message, to=chat, **{"kind": messages.stanza_type(message), **details})
        await _arrived(chat.members if isinstance(chat, Group) else (chat,))
        return message_id

    async def sends_image(self, data: bytes, *, caption: str = "", **details: Any) -> str:
        return await self.sends_media("image", data, caption=caption, **details)

    async def sends_voice(self, data: bytes, *, seconds: int = 3, **details: Any) -> str:
        """A voice note, as recorded by holding the microphone."""
        fields = {"PTT": True, "seconds": seconds, "waveform": bytes(64)}
        return await self.sends_media("audio", data, fields=fields, **details)

    async def sends_media(
        self,
        kind: MediaKind,
        data: bytes,
        *,
        caption: str = "",
        mimetype: str | None = None,
        filename: str | None = None,
        fields: dict[str, object] | None = None,
        **details: Any,
    ) -> str:
        """`fields` are further ones of that kind's protobuf."""
        message = messages.media(
            kind,
            self.uploads(kind, data),
            caption=caption,
            mimetype=mimetype,
            filename=filename,
            **(fields or {}),
        )
        return await self.sends(message, **details)

    def uploads(self, kind: MediaKind, data: bytes) -> Attachment:
        """Only puts the file onto the media server: a message has still to name it."""
        return self._server.media.upload(kind, data)

    async def sends_location(
        self, latitude: float, longitude: float, *, name: str = "", address: str = "", **details: Any
    ) -> str:
        return await self.sends(messages.location(latitude, longitude, name=name, address=address), **details)

    async def shares_live_location(
        self, latitude: float, longitude: float, *, caption: str = "", **details: Any
    ) -> str:
        return await self.sends(messages.live_location(latitude, longitude, caption=caption), **details)

    async def sends_contact(self, *cards: Card, **details: Any) -> str:
        return await self.sends(messages.contacts(cards), **details)

    async def sends_poll(self, question: str, *options: str, selectable: int = 1, **details: Any) -> str:
        return await self.sends(messages.poll(question, options, selectable=selectable), **details)

    async def votes(
        self,
        poll: Heard | str,
        *options: str,
        to: Reader | Group | None = None,
        addressed: Addressing = "lid",
    ) -> str:
        """In a poll of the other's, as this phone shows it, or in one's own, by its id. No option takes it back."""
        creator = self.account if isinstance(poll, str) else self._author(poll)
        proto = self.phone.sent(poll) if isinstance(poll, str) else poll.proto
        message = messages.vote(
            options,
            key=self._key(poll, to),
            secret=proto.messageContextInfo.messageSecret,
            creator=_seen_in(to, creator),
            voter=_seen_in(to, self.account) if addressed == "lid" else str(self.account.phone),
        )
        return await self.sends(message, to=to, addressed=addressed)

    async def sets_timer(self, after: dt.timedelta | None, *, to: Reader | Group | None = None) -> str:
        """Disappearing messages for this chat; None turns them off."""
        return await self.sends(messages.timer(after), to=to)

    async def posts_status(self, text: str, *readers: Reader) -> str:
        """For a day, to those who have this person's number: no message in any chat."""
        return await self._tells_all(text, readers, jid=STATUS)

    async def broadcasts(self, text: str, *readers: Reader) -> str:
        """To a broadcast list: each reader sees it in the chat with this person, and not who else got it."""
        return await self._tells_all(text, readers)

    async def _tells_all(self, text: str, readers: Sequence[Reader], *, jid: Jid | None = None) -> str:
        accounts = [reader.account for reader in readers]
        audience = self._server.groups.gather(self.account, accounts, jid=jid)
        message_id = self.phone.send(messages.text(text), to=audience)
        await _arrived(audience.members)
        return message_id

    async def edits(
        self, message_id: str, text: str, *, to: Reader | Group | None = None, **details: Any
    ) -> str:
        edit = protobuf.ProtocolMessage(
            key=self._key(message_id, to),
            type=protobuf.ProtocolMessage.MESSAGE_EDIT,
            editedMessage=messages.text(text),
        )
        return await self.sends(protobuf.Message(protocolMessage=edit), to=to, edit="1", **details)

    async def revokes(self, message: Heard | str, *, to: Reader | Group | None = None) -> str:
        """One's own, by its id, or as a group's admin somebody else's."""
        others = isinstance(message, Heard) and not message.from_me
        revoke = protobuf.ProtocolMessage(key=self._key(message, to), type=protobuf.ProtocolMessage.REVOKE)
        return await self.sends(protobuf.Message(protocolMessage=revoke), to=to, edit="8" if others else "7")

    async def reacts(
        self, message: Heard, emoji: str, *, to: Reader | Group | None = None, **details: Any
    ) -> str:
        """No emoji takes it back."""
        reaction = protobuf.ReactionMessage(key=self._key(message, to), text=emoji)
        return await self.sends(protobuf.Message(reactionMessage=reaction), to=to, **details)

    @abstractmethod
    def _person(self, to: Reader | None) -> Account:
        """Whose phone hears it."""

    def _whom(self, to: Reader | Group | None) -> Account | Group:
        """Raises LabError where nobody could get it: it would be waited for in vain."""
        if self._server.stopped:
            raise LabError("this lab is stopped")
        if isinstance(to, Group):
            if self._server.groups.find(to.jid) is not to or self.account not in to.members:
                raise LabError(f"{self.account.number} is no member of {to}")
            return to
        if isinstance(to, str):
            raise LabError(f"{to!r} is a number: name the person, as lab.customer and lab.owner return them")
        account = self._person(to)
        if self._server.directory.find(account.lid) is not account:
            raise LabError(f"{account.number} belongs to another lab")
        return account

    def _author(self, heard: Heard) -> Account:
        for account in self._server.directory:
            if account.number == heard.sender:
                return account
        raise LabError(f"nobody here has the number {heard.sender}")

    def _key(self, message: Heard | str, to: Reader | Group | None) -> Any:
        """How a message is named: in which chat, and in a group also by whom. A bare id is one's own."""
        chat = self._whom(to)
        own = isinstance(message, str) or message.from_me
        key = protobuf.MessageKey(
            remoteJID=str(chat.jid if isinstance(chat, Group) else chat.lid),
            fromMe=own,
            ID=message if isinstance(message, str) else message.id,
        )
        if isinstance(chat, Group) and isinstance(message, Heard) and not own:
            key.participant = _seen_in(chat, self._author(message))
        return key


async def _arrived(accounts: Iterable[Account]) -> None:
    """On the way to their linked devices, at least."""
    for device in [device for account in accounts for device in account.devices.values()]:
        if isinstance(device, LinkedDevice) and device.connection is not None:
            await device.connection.drain()


def _seen_in(chat: Reader | Group | None, account: Account) -> str:
    """A person's id as that chat's messages name it."""
    return str(chat.address(account) if isinstance(chat, Group) else account.lid)
