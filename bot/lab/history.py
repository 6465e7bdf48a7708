"""What an owner's phone keeps of the past, and tells its linked devices of it: conversations, names, pairs of ids.

A new device is told by itself: the newest messages of each chat at once, then what is older, newest first and in
parts, then people's names. Each part is a file on the media server, or travels within the message if it is the first.
"""

import datetime as dt
import zlib
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Literal

from bot.lab import protobuf
from bot.lab.directory import SERVERS, Account, Addressing
from bot.lab.groups import Group
from bot.lab.heard import Heard, text_of
from bot.lab.linked import LinkedDevice
from bot.lab.nodes import PHONE, Jid
from bot.lab.phone import Phone
from bot.lab.sealing import new_id
from bot.lab.server import Server

HistoryKind = Literal["INITIAL_BOOTSTRAP", "RECENT", "FULL", "PUSH_NAME", "NON_BLOCKING_DATA", "ON_DEMAND"]

_FIRST = 20  # messages of each chat that come at once
_PART = 1000
_RECENT = dt.timedelta(days=90)
_INLINE_BYTES = 64 * 1024


class History:
    """`addressed`: which of its ids a private chat has. With `shares` False a new device is told nothing by itself."""

    def __init__(self, server: Server, account: Account, phone: Phone) -> None:
        self.shares = True
        self.addressed: Addressing = "lid"
        self._server, self._account, self._phone = server, account, phone
        # What was said here, each with how much had been heard before it.
        self._said: list[tuple[int, Heard]] = []
        linked = phone.on_linked

        def on_linked(device: LinkedDevice) -> None:
            linked(device)
            if self.shares and self.messages:
                self.tells(device)

        phone.on_linked = on_linked

    @property
    def messages(self) -> list[Heard]:
        """All that this phone shows, by time."""
        ranked = [(at + 0.5, heard) for at, heard in enumerate(self._phone.heard)]
        ranked += [(float(at), said) for at, said in self._said]
        return [heard for _, heard in sorted(ranked, key=lambda entry: (entry[1].at, entry[0]))]

    def keeps(
        self,
        message: Any,
        *,
        chat: str,
        sender: Account,
        at: dt.datetime | None = None,
        id: str | None = None,  # noqa: A002
    ) -> str:
        """A message as if it had been sent; returns its id. `chat` is a number, or a group's address."""
        kept = Heard(
            id=id or new_id(),
            text=text_of(message),
            chat=chat,
            sender=sender.number,
            from_me=sender is self._account,
            at=(at or dt.datetime.now(dt.UTC)).replace(microsecond=0),  # all that phones know
            proto=message,
            _store=self._server.media,
        )
        self._said.append((len(self._phone.heard), kept))
        return kept.id

    def tells(self, device: LinkedDevice) -> int:
        """All that a device is told after pairing; how many messages. What is older than 90 days only if it asked."""
        told = self.messages
        newest = {chat: list(group)[-_FIRST:] for chat, group in _by_chat(told)}
        first = [heard for group in newest.values() for heard in group]
        known = {id(heard) for heard in first}
        rest = [heard for heard in told if id(heard) not in known]
        border = dt.datetime.now(dt.UTC) - _RECENT
        older = [heard for heard in rest if heard.at < border] if device.properties.requireFullSync else []
        recent = [heard for heard in rest if heard.at >= border]
        inline = device.properties.historySyncConfig.inlineInitialPayloadInE2EeMsg
        self.send(device, "INITIAL_BOOTSTRAP", first, inline=inline)
        self.send_parts(device, "RECENT", recent)
        self.send_parts(device, "FULL", older)
        self._send(device, "PUSH_NAME", protobuf.HistorySync(pushnames=self._names(told)))
        self._send(device, "NON_BLOCKING_DATA", protobuf.HistorySync())
        return len(first) + len(recent) + len(older)

    def send_parts(
        self, device: LinkedDevice, kind: HistoryKind, told: Sequence[Heard], *, per_part: int = _PART
    ) -> int:
        """The newest first; returns how many parts that made."""
        starts = range(max(0, len(told) - per_part), -per_part, -per_part) if told else ()
        for number, start in enumerate(starts, start=1):
            part = told[max(0, start) : start + per_part]
            self.send(device, kind, part, number=number, progress=100 * number // len(starts))
        return len(starts)

    def send(
        self,
        device: LinkedDevice,
        kind: HistoryKind,
        told: Sequence[Heard],
        *,
        number: int = 1,
        progress: int = 100,
        inline: bool = False,
    ) -> None:
        people = {heard.chat for heard in told} | {heard.sender for heard in told}
        accounts = [account for account in self._server.directory if account.number in people]
        part = protobuf.HistorySync(
            chunkOrder=number,
            progress=progress,
            conversations=[self._conversation(chat, list(group)) for chat, group in _by_chat(told)],
            phoneNumberToLidMappings=[
                protobuf.PhoneNumberToLIDMapping(pnJID=str(account.phone), lidJID=str(account.lid))
                for account in accounts
            ],
        )
        self._send(device, kind, part, inline=inline)

    def _send(self, device: LinkedDevice, kind: HistoryKind, part: Any, *, inline: bool = False) -> None:
        part.syncType = protobuf.HistorySync.HistorySyncType.Value(kind)
        blob = zlib.compress(part.SerializeToString())
        notification = protobuf.HistorySyncNotification(
            syncType=part.syncType, chunkOrder=part.chunkOrder, progress=part.progress
        )
        if inline and len(blob) <= _INLINE_BYTES:
            notification.initialHistBootstrapInlinePayload = blob
        else:
            attachment = self._server.media.upload("history", blob)
            notification.mediaKey, notification.directPath = attachment.key, attachment.path
            notification.fileSHA256 = attachment.plain_sha256
            notification.fileEncSHA256 = attachment.sealed_sha256
            notification.fileLength = attachment.plain_bytes
        protocol = protobuf.ProtocolMessage(
            type=protobuf.ProtocolMessage.HISTORY_SYNC_NOTIFICATION, historySyncNotification=notification
        )
        self._phone.tells(device, protobuf.Message(protocolMessage=protocol))

    def _conversation(self, chat: str, told: list[Heard]) -> Any:
        """Newest first, with the phone's own note that all is encrypted as the oldest."""
        group = self._group(chat)
        account = None if group else self._account_of(chat)
        jid = str(account.address(SERVERS[self.addressed])) if account else chat
        listed = self._folded(told, jid)
        stub = protobuf.WebMessageInfo(
            key=protobuf.MessageKey(remoteJID=jid, fromMe=True, ID=new_id()),
            messageTimestamp=int(told[0].at.timestamp()),
            messageStubType=protobuf.WebMessageInfo.E2E_ENCRYPTED,
        )
        order = range(len(listed), -1, -1)
        return protobuf.Conversation(
            ID=jid,
            messages=[
                protobuf.HistorySyncMsg(message=message, msgOrderID=number)
                for number, message in zip(order, [*reversed(listed), stub], strict=True)
            ],
            conversationTimestamp=int(told[-1].at.timestamp()),
            name=account.name if account else group.subject if group else None,
            lidJID=str(account.lid) if account else None,
            pnJID=str(account.phone) if account else None,
            unreadCount=0,
            endOfHistoryTransfer=True,
        )

    def _folded(self, told: list[Heard], jid: str) -> list[Any]:
        """As the phone keeps it: what changes a message has no place of its own."""
        kept: dict[str, Any] = {}
        for heard in told:
            content = heard.content
            change = content.protocolMessage
            target = kept.get(change.key.ID or content.reactionMessage.key.ID)
            if target is None:
                kept[heard.id] = self._told(heard, jid)
            elif content.HasField("reactionMessage"):
                text, at = content.reactionMessage.text, int(heard.at.timestamp() * 1000)
                target.reactions.add(key=self._key(heard, jid), text=text, senderTimestampMS=at)
            elif change.HasField("editedMessage"):
                target.message.CopyFrom(change.editedMessage)
            else:
                target.ClearField("message")
                target.messageStubType = protobuf.WebMessageInfo.REVOKE
        return list(kept.values())

    def _told(self, heard: Heard, jid: str) -> Any:
        key, at = self._key(heard, jid), int(heard.at.timestamp())
        told = protobuf.WebMessageInfo(key=key, message=heard.proto, messageTimestamp=at)
        if heard.from_me:
            told.status = protobuf.WebMessageInfo.READ
        else:
            told.pushName = self._account_of(heard.sender).name
            told.participant = key.participant
        return told

    def _key(self, heard: Heard, jid: str) -> Any:
        key = protobuf.MessageKey(remoteJID=jid, fromMe=heard.from_me, ID=heard.id)
        if (group := self._group(jid)) and not heard.from_me:
            key.participant = str(group.address(self._account_of(heard.sender)))
        return key

    def _group(self, chat: str) -> Group | None:
        return None if chat.startswith("+") else self._server.groups.find(Jid.parse(chat))

    def _account_of(self, number: str) -> Account:
        account = self._server.directory.find(Jid(number.removeprefix("+"), PHONE))
        assert account is not None  # noqa: S101  a phone shows only what people of this lab have said
        return account

    def _names(self, told: Iterable[Heard]) -> list[Any]:
        numbers = dict.fromkeys(heard.sender for heard in told if not heard.from_me)
        accounts = [self._account_of(number) for number in numbers]
        return [protobuf.Pushname(ID=str(account.phone), pushname=account.name) for account in accounts]


def _by_chat(told: Iterable[Heard]) -> Iterable[tuple[str, Iterable[Heard]]]:
    return groupby(sorted(told, key=lambda heard: heard.chat), key=lambda heard: heard.chat)
