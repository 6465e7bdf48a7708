"""The people of a story: customers and owners with their phones; they only ever act through a phone."""

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar

from bot.lab import devicelist, messages
from bot.lab.directory import Account, Addressing
from bot.lab.errors import LabError
from bot.lab.groups import Group
from bot.lab.heard import Heard
from bot.lab.history import History, HistoryKind
from bot.lab.linked import LinkedDevice
from bot.lab.phone import Phone
from bot.lab.server import Server, stream_error
from bot.lab.settings import Settings
from bot.lab.shown import ChatState, Presence, Receipt
from bot.lab.timeline import PATIENCE, Timeline
from bot.lab.writer import Reader, Writer

What = str | Callable[[Heard], bool] | None

T = TypeVar("T")


class Person(Writer):
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
    def presences(self) -> Timeline[Presence]:
        """What stood above the chats that this person watches."""
        return self.phone.presences

    @property
    def typing(self) -> bool:
        """Whether this phone was shown "typing…" at any time."""
        return any(state.state == "composing" for state in self.chat_states)

    async def delivered(self, message: Heard | str, *more: str, to: Reader | Group | None = None) -> None:
        """Two ticks on the other side: this phone has got it."""
        self._receipt("delivered", message, more, to)

    async def read(self, message: Heard | str, *more: str, to: Reader | Group | None = None) -> None:
        """The other side gets blue ticks, and one's own linked devices are told, as read-self."""
        self._receipt("read", message, more, to)

    async def played(self, message: Heard | str, *more: str, to: Reader | Group | None = None) -> None:
        self._receipt("played", message, more, to)

    async def gives_receipt(
        self,
        kind: str,
        *message_ids: str,
        to: Reader | None = None,
        addressed: Addressing = "lid",
        at: dt.datetime | None = None,
    ) -> None:
        """Any receipt for any ids: also inactive, server-error, or of a kind that nobody knows."""
        self.phone.send_receipt(kind, message_ids, to=self._whom(to), addressed=addressed, at=at)

    async def types(
        self,
        *,
        to: Reader | Group | None = None,
        stops: bool = False,
        recording: bool = False,
        addressed: Addressing = "lid",
    ) -> None:
        state = ChatState(state="paused" if stops else "composing", recording=recording, sender=self.number)
        self.phone.send_chat_state(state, to=self._whom(to), addressed=addressed)

    def opens_whatsapp(self) -> None:
        """This person is online, and is told who else is."""
        self.phone.shows_itself(online=True)

    def leaves_whatsapp(self) -> None:
        self.phone.shows_itself(online=False)

    def watches(self, other: "Person", *, addressed: Addressing = "lid") -> None:
        """With the chat open: hears at once, and from now on, whether the other is online."""
        self.opens_whatsapp()
        self.phone.watches(other.account, addressed=addressed)

    async def sees_online(self, other: "Person", *, within: float = PATIENCE) -> Presence:
        return await self._sees(other, online=True, within=within)

    async def sees_offline(self, other: "Person", *, within: float = PATIENCE) -> Presence:
        return await self._sees(other, online=False, within=within)

    async def _sees(self, other: "Person", *, online: bool, within: float) -> Presence:
        return await self.presences.expect(
            lambda seen: seen.person == other.number and seen.online is online,
            within=within,
            what="online" if online else "offline",
        )

    def _receipt(
        self, kind: str, message: Heard | str, more: tuple[str, ...], to: Reader | Group | None
    ) -> None:
        first = message if isinstance(message, str) else message.id
        author = None if isinstance(message, str) else self._author(message)
        self.phone.send_receipt(kind, (first, *more), to=self._whom(to), author=author)


class Owner(Person):
    """The person whose number the bot is linked to. Without `to`, writes are messages to oneself."""

    def __init__(self, server: Server, account: Account, *, shares_key: bool = True) -> None:
        super().__init__(server, account)
        self.settings = Settings(server, account, self.phone, shares_key=shares_key)
        self.history = History(server, account, self.phone)

    async def sends(self, message: Any, *, to: Reader | Group | None = None, **details: Any) -> str:
        message_id = await super().sends(message, to=to, **details)
        sent, chat, at = self.phone.sent(message_id), _place(to or self), details.get("at")
        return self.history.keeps(sent, chat=chat, sender=self.account, at=at, id=message_id)

    def remembers(
        self,
        words: str,
        *,
        chat: Person | Group,
        sender: Person | None = None,
        at: dt.datetime | None = None,
        id: str | None = None,  # noqa: A002 - the word that tests read
    ) -> str:
        """A message of before the story: the phone has it, nobody has to send it.

        Without `sender` it is the other's, in a group one's own.
        """
        author = chat.account if sender is None and isinstance(chat, Person) else (sender or self).account
        return self.history.keeps(messages.text(words), chat=_place(chat), sender=author, at=at, id=id)

    @property
    def linked(self) -> list[LinkedDevice]:
        """The devices that were paired, in order; the phone is not among them."""
        return [device for device in self.account.devices.values() if isinstance(device, LinkedDevice)]

    async def scan(self, qr: str | bytes, *, within: float = PATIENCE) -> LinkedDevice:
        """Pairs the client that shows this QR code."""
        text = qr.decode() if isinstance(qr, bytes) else qr
        return await self._server.pairing.scan(self.account, text, within=within)

    async def enters(self, code: str, *, within: float = PATIENCE) -> LinkedDevice:
        """Types in the eight characters that a client shows for this number: "Link with phone number instead"."""
        return await self._server.codes.enter(self.account, code, within=within)

    async def hears(
        self, what: What = None, *, chat: Reader | Group | None = None, within: float = PATIENCE
    ) -> Heard:
        """Waits for what appears in the chat with oneself, or in `chat`, which also shows what the bot wrote."""
        return await self.heard.expect(_matcher(what, chat or self), within=within, what=_named(what))

    async def hears_nothing(
        self, what: What = None, *, chat: Reader | Group | None = None, during: float
    ) -> None:
        await self.heard.expect_none(_matcher(what, chat or self), during=during)

    async def syncs_history(
        self, device: LinkedDevice | None = None, *, kind: HistoryKind = "RECENT", per_part: int = 1000
    ) -> int:
        """Tells a linked device, without a name the only one, all of the past once more; in how many parts."""
        to = device or _only(self.linked, "linked device")
        parts = self.history.send_parts(to, kind, self.history.messages, per_part=per_part)
        if to.connection is not None:
            await to.connection.drain()
        return parts

    def unlinks(self, device: LinkedDevice | None = None) -> None:
        """Removes a linked device on the phone; without a name, the only one."""
        gone = device or _only(self.linked, "linked device")
        del self.account.devices[gone.number]
        devicelist.announce(self.account)
        stream_error(gone, code="401", conflict="device_removed")

    def _person(self, to: Reader | None) -> Account:
        return to.account if to else self.account


class Customer(Person):
    """Someone who writes to the bot. Without `to`, to the only owner of the lab."""

    async def hears(
        self, what: What = None, *, chat: Reader | Group | None = None, within: float = PATIENCE
    ) -> Heard:
        """Waits until this phone has decrypted a message: this text, one that fits, or simply the next.

        `chat` wants it there, with this person or in this group; without, it may come from anywhere.
        """
        return await self.heard.expect(_matcher(what, chat), within=within, what=_named(what))

    async def hears_nothing(self, what: What = None, *, during: float) -> None:
        await self.heard.expect_none(_matcher(what), during=during)

    async def sees_typing(self, *, within: float = PATIENCE) -> ChatState:
        return await self.chat_states.expect(
            lambda state: state.state == "composing", within=within, what="typing"
        )

    async def sees_receipt(self, message_id: str, *kinds: str, within: float = PATIENCE) -> Receipt:
        """Waits until the bot's receipt for a message of this customer came; without `kinds`, any."""
        return await self.receipts.expect(
            lambda receipt: message_id in receipt.ids and (not kinds or receipt.kind in kinds),
            within=within,
            what=f"a receipt for {message_id}",
        )

    def _person(self, to: Reader | None) -> Account:
        return to.account if to else _only(self._server.owners, "owner")


def _place(chat: Reader | Group) -> str:
    """As phones name a chat."""
    return str(chat.jid) if isinstance(chat, Group) else chat.account.number


def _matcher(what: What, chat: Reader | Group | None = None) -> Callable[[Heard], bool]:
    place = None if chat is None else _place(chat)

    def matches(heard: Heard) -> bool:
        if place is not None and heard.chat != place:
            return False
        return what is None or (what(heard) if callable(what) else heard.text == what)

    return matches


def _named(what: What) -> str:
    return repr(what) if isinstance(what, str) else "a message"


def _only(candidates: list[T], what: str) -> T:
    if len(candidates) != 1:
        raise LabError(f"there is not just one {what} here: say which")
    return candidates[0]
