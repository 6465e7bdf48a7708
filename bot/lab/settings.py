"""What an owner sets on the phone and linked devices are told: names, contacts, marks on chats; no messages."""

import time
from typing import TYPE_CHECKING, Any

from bot.lab import protobuf
from bot.lab.appstate import Collection, Key, Ledger, Setting
from bot.lab.directory import Account
from bot.lab.linked import LinkedDevice
from bot.lab.phone import Phone
from bot.lab.server import Server

if TYPE_CHECKING:
    from bot.lab.people import Person

_FOR_EVER = -1


class Settings:
    """The phone writes them, sealed; it gives the key to each device that is linked, unless `shares_key` is False."""

    def __init__(self, server: Server, account: Account, phone: Phone, *, shares_key: bool) -> None:
        self._server, self._account, self._phone = server, account, phone
        self._key = Key()
        self._ledgers: dict[Collection, Ledger] = {}
        self.shares_key = shares_key
        phone.on_linked = self._on_linked
        phone.on_peer_message = self._on_peer_message
        self.calls_oneself(account.name)

    def calls_oneself(self, name: str) -> None:
        """The name that others see where they have saved none: the push name."""
        self._account.name = name
        setting = protobuf.PushNameSetting(name=name)
        self._write("critical_block", ("setting_pushName",), 1, pushNameSetting=setting)

    def saves(self, person: "Person", name: str) -> None:
        """Into the phone's address book."""
        contact = protobuf.ContactAction(
            fullName=name, firstName=name.partition(" ")[0], lidJID=person.lid, saveOnPrimaryAddressbook=True
        )
        self._write("critical_unblock_low", ("contact", person.phone_jid), 2, contactAction=contact)

    def mutes(self, person: "Person") -> None:
        mute = protobuf.MuteAction(muted=True, muteEndTimestamp=_FOR_EVER)
        self._write("regular_high", ("mute", person.phone_jid), 2, muteAction=mute)

    def pins(self, person: "Person", *, pinned: bool = True) -> None:
        pin = protobuf.PinAction(pinned=pinned)
        self._write("regular_low", ("pin_v1", person.phone_jid), 5, pinAction=pin)

    def archives(self, person: "Person", *, archived: bool = True) -> None:
        mark = protobuf.ArchiveChatAction(archived=archived)
        self._write("regular_low", ("archive", person.phone_jid), 3, archiveChatAction=mark)

    def gives_key_to(self, device: LinkedDevice) -> None:
        """As the phone does after pairing, and when the device asks; without it the device can read nothing."""
        fingerprint = protobuf.AppStateSyncKeyFingerprint(rawID=1, currentIndex=device.number)
        data = protobuf.AppStateSyncKeyData(
            keyData=self._key.data, fingerprint=fingerprint, timestamp=_milliseconds()
        )
        key = protobuf.AppStateSyncKey(keyID=protobuf.AppStateSyncKeyId(keyID=self._key.id), keyData=data)
        share = protobuf.ProtocolMessage(
            type=protobuf.ProtocolMessage.APP_STATE_SYNC_KEY_SHARE,
            appStateSyncKeyShare=protobuf.AppStateSyncKeyShare(keys=[key]),
        )
        self._phone.tells(device, protobuf.Message(protocolMessage=share))

    def _on_linked(self, device: LinkedDevice) -> None:
        if self.shares_key:
            self.gives_key_to(device)

    def _on_peer_message(self, number: int, message: Any) -> None:
        device = self._account.devices.get(number)
        asked = message.protocolMessage.HasField("appStateSyncKeyRequest")
        if asked and self.shares_key and isinstance(device, LinkedDevice):
            self.gives_key_to(device)

    def _write(self, name: Collection, index: tuple[str, ...], version: int, **value: Any) -> None:
        action = protobuf.SyncActionValue(timestamp=_milliseconds(), **value)
        ledger = self._ledgers.setdefault(name, Ledger(name, self._key))
        patch = ledger.patch([Setting(index=index, value=action, version=version)])
        self._server.collections.append(self._account, name, patch)


def _milliseconds() -> int:
    return int(time.time() * 1000)
