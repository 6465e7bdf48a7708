"""The people of a story: customers and owners with their phones; they only ever act through a phone."""

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from bot.lab import protobuf
from bot.lab.directory import Account, Addressing
from bot.lab.errors import LabError
from bot.lab.heard import Heard, media_message, text_message
from bot.lab.linked import LinkedDevice
from bot.lab.media import MediaKind
from bot.lab.phone import ChatState, Phone, Receipt
from bot.lab.server import Server, stream_error
from bot.lab.timeline import Timeline

What = str | Callable[[Heard], bool] | None

T = TypeVar("T")

_PATIENCE = 10.0  # seconds; a test that is right waits for milliseconds


class Person(ABC):
    """Someone with a phone. Without `to`, a customer means the only owner, and an owner means oneself.

    `number` is +5511…; `lid` and `phone_jid` are the account's two ids as text.
    """

    def __init__(self, server: Server, account: Account) -> None:
        self._server, self.account = server, account
        self.phone = Phone(server, account)

    @property
    def number(self) -> str:
        return self.account.number

    @property
    def name(self) -> str:
        return self.account.name

    @property
    def lid(self) -> str:
        return str(self.account.lid)

    @property
    def phone_jid(self) -> str:
        return str(self.account.phone)

    @property
    def heard(self) -> Timeline[Heard]:
        """All messages that this phone has decrypted, in order."""
        return self.phone.heard

    @property
    def receipts(self) -> Timeline[Receipt]:
        return self.phone.receipts

    @property
    def chat_states(self) -> Timeline[ChatState]:
        return self.phone.chat_states

    @property
    def typing(self) -> bool:
        """Whether this phone was shown "typing…" at any time."""
        return any(state.state == "composing" for state in self.chat_states)

    async def says(
        self,
        text: str,
        *,
        to: "Person | None" = None,
        addressed: Addressing = "lid",
        with_alt: bool = True,
        id: str | None = None,  # noqa: A002 - the word that tests read
        quoted: Heard | None = None,
        at: dt.datetime | None = None,
        damaged: bool = False,
    ) -> str:
        """Sends a text and returns its id. `addressed` and `with_alt`: which ids of this person are shown.

        A `damaged` message first arrives undecryptable; the bot's client asks for it again.
        """
        message = text_message(text, quoted=quoted, quoted_sender=self._quoted_sender(quoted))
        details = {"addressed": addressed, "alt": with_alt, "message_id": id, "at": at, "damaged": damaged}
        return await self.sends(message, to=to, **details)

    async def sends(self, message: Any, *, to: "Person | None" = None, **details: Any) -> str:
        """Any protobuf message; details as in Phone.send."""
        chat = self._whom(to)
        message_id = self.phone.send(message, to=chat, **details)
        for device in chat.devices.values():
            if isinstance(device, LinkedDevice) and device.connection is not None:
                await device.connection.drain()
        return message_id

    async def sends_image(self, data: bytes, *, caption: str = "", **details: Any) -> str:
        return await self.sends_media("image", data, caption=caption, **details)

    async def sends_media(
        self,
        kind: MediaKind,
        data: bytes,
        *,
        caption: str = "",
        mimetype: str | None = None,
        filename: str | None = None,
        **details: Any,
    ) -> str:
        attachment = self._server.media.upload(kind, data)
        message = media_message(kind, attachment, caption=caption, mimetype=mimetype, filename=filename)
        return await self.sends(message, kind="media", **details)

    async def edits(self, message_id: str, text: str, *, to: "Person | None" = None) -> str:
        edit = protobuf.ProtocolMessage(
            key=self._key(message_id),
            type=protobuf.ProtocolMessage.MESSAGE_EDIT,
            editedMessage=protobuf.Message(conversation=text),
        )
        return await self.sends(protobuf.Message(protocolMessage=edit), to=to, edit="1")

    async def revokes(self, message_id: str, *, to: "Person | None" = None) -> str:
        revoke = protobuf.ProtocolMessage(key=self._key(message_id), type=protobuf.ProtocolMessage.REVOKE)
        return await self.sends(protobuf.Message(protocolMessage=revoke), to=to, edit="7")

    async def reacts(self, message: Heard, emoji: str, *, to: "Person | None" = None) -> str:
        key = protobuf.MessageKey(remoteJID=str(self._whom(to).lid), fromMe=message.from_me, ID=message.id)
        reaction = protobuf.ReactionMessage(key=key, text=emoji)
        return await self.sends(protobuf.Message(reactionMessage=reaction), to=to, kind="reaction")

    async def delivered(self, message: Heard | str, *more: str, to: "Person | None" = None) -> None:
        """Two ticks on the other side: this phone has got it."""
        self._receipt("delivered", message, more, to)

    async def read(self, message: Heard | str, *more: str, to: "Person | None" = None) -> None:
        """The other side gets blue ticks, and one's own linked devices are told, as read-self."""
        self._receipt("read", message, more, to)

    async def played(self, message: Heard | str, *more: str, to: "Person | None" = None) -> None:
        self._receipt("played", message, more, to)

    async def types(
        self,
        *,
        to: "Person | None" = None,
        stops: bool = False,
        recording: bool = False,
        addressed: Addressing = "lid",
    ) -> None:
        state = ChatState(state="paused" if stops else "composing", recording=recording, sender=self.number)
        self.phone.send_chat_state(state, to=self._whom(to), addressed=addressed)

    @abstractmethod
    def _whom(self, to: "Person | None") -> Account:
        """Whose phone hears it."""

    def _receipt(self, kind: str, message: Heard | str, more: tuple[str, ...], to: "Person | None") -> None:
        first = message if isinstance(message, str) else message.id
        self.phone.send_receipt(kind, (first, *more), to=self._whom(to), addressed="lid")

    def _quoted_sender(self, quoted: Heard | None) -> str:
        authors = (
            account for account in self._server.directory if quoted and account.number == quoted.sender
        )
        return "".join(str(author.lid) for author in authors)

    def _key(self, message_id: str) -> Any:
        return protobuf.MessageKey(remoteJID=self.lid, fromMe=True, ID=message_id)


class Owner(Person):
    """The person whose number the bot is linked to. Without `to`, writes are messages to oneself."""

    @property
    def linked(self) -> list[LinkedDevice]:
        """The devices that were paired, in order; the phone is not among them."""
        return [device for device in self.account.devices.values() if isinstance(device, LinkedDevice)]

    async def scan(self, qr: str | bytes, *, within: float = _PATIENCE) -> LinkedDevice:
        """Pairs the client that shows this QR code."""
        text = qr.decode() if isinstance(qr, bytes) else qr
        return await self._server.pairing.scan(self.account, text, within=within)

    async def hears(
        self, what: What = None, *, chat: Person | None = None, within: float = _PATIENCE
    ) -> Heard:
        """Waits for what appears in the chat with oneself, or in `chat`, which also shows what the bot wrote."""
        number, wanted = (chat or self).number, _matcher(what)
        return await self.heard.expect(
            lambda heard: heard.chat == number and wanted(heard), within=within, what=_named(what)
        )

    async def hears_nothing(self, what: What = None, *, chat: Person | None = None, during: float) -> None:
        number, wanted = (chat or self).number, _matcher(what)
        await self.heard.expect_none(lambda heard: heard.chat == number and wanted(heard), during=during)

    def unlinks(self, device: LinkedDevice | None = None) -> None:
        """Removes a linked device on the phone; without a name, the only one."""
        gone = device or _only(self.linked, "linked device")
        del self.account.devices[gone.number]
        stream_error(gone, code="401", conflict="device_removed")

    def _whom(self, to: Person | None) -> Account:
        return to.account if to else self.account


class Customer(Person):
    """Someone who writes to the bot. Without `to`, to the only owner of the lab."""

    async def hears(self, what: What = None, *, within: float = _PATIENCE) -> Heard:
        """Waits until this phone has decrypted a message: this text, one that fits, or simply the next."""
        return await self.heard.expect(_matcher(what), within=within, what=_named(what))

    async def hears_nothing(self, what: What = None, *, during: float) -> None:
        await self.heard.expect_none(_matcher(what), during=during)

    async def sees_typing(self, *, within: float = _PATIENCE) -> ChatState:
        return await self.chat_states.expect(
            lambda state: state.state == "composing", within=within, what="typing"
        )

    async def sees_receipt(self, message_id: str, *kinds: str, within: float = _PATIENCE) -> Receipt:
        """Waits until the bot's receipt for a message of this customer came; without `kinds`, any."""
        return await self.receipts.expect(
            lambda receipt: message_id in receipt.ids and (not kinds or receipt.kind in kinds),
            within=within,
            what=f"a receipt for {message_id}",
        )

    def _whom(self, to: Person | None) -> Account:
        return to.account if to else _only(self._server.owners, "owner")


def _matcher(what: What) -> Callable[[Heard], bool]:
    if what is None:
        return lambda heard: True
    return what if callable(what) else lambda heard: heard.text == what


def _named(what: What) -> str:
    return repr(what) if isinstance(what, str) else "a message"


def _only(candidates: list[T], what: str) -> T:
    if len(candidates) != 1:
        raise LabError(f"there is not just one {what} here: say which")
    return candidates[0]
