"""What WhatsApp and its phones would not take from a client, the lab does not take either: it fails, and says why."""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.jid import build_jid

from bot.lab import bundles, protobuf, vouching, web
from bot.lab.connection import Registration
from bot.lab.directory import Account
from bot.lab.errors import ProtocolError
from bot.lab.files import FileServer
from bot.lab.keys import KeyPair
from bot.lab.lab import Lab
from bot.lab.media import MediaStore
from bot.lab.nodes import LID, PHONE
from bot.lab.nodes import Jid as LabJid
from bot.lab.people import Customer, Owner
from bot.lab.sessions import pad, unpad
from bot.lab.signal import Keyring
from bot.transports.base import ConnectionState, TransportError
from storage.models import Jid
from tests.conftest import connected, until
from tests.lab.bot_client import BotClient
from tests.lab.transport_bot import TransportBot, make_session_schema

pytestmark = pytest.mark.lab


@contextmanager
def failing(words: str) -> Iterator[None]:
    """The lab that is stopped within this block says that a client did this."""
    with pytest.raises(BaseExceptionGroup) as failed:
        yield
    # More than once, where the client tries it again on its next connection.
    assert {str(each) for each in failed.value.exceptions} == {words}


async def test_a_device_that_its_phone_has_not_vouched_for_is_found_out(empty_dsn: str) -> None:
    await make_session_schema(empty_dsn)
    with failing("a device shows an identity that its account's phone has not signed"):
        async with Lab() as lab:
            owner, customer = lab.owner("+5511999990000"), lab.customer("+5511888880001")
            bot = TransportBot(empty_dsn, lab)
            await bot.pair(owner)
            await bot.stop()
            async with connected(empty_dsn) as store:
                await store.execute("UPDATE whatsmeow.whatsmeow_device SET adv_account_sig = $1", bytes(64))
            again = TransportBot(empty_dsn, lab, jid=Jid(owner.phone_jid))
            again.start()
            await again.reaches(ConnectionState.CONNECTED)
            sending = asyncio.create_task(again.says(customer.lid, "oi"))
            await again.reaches(ConnectionState.RECONNECTING)
            await again.stop()
            await asyncio.wait([sending])
            assert isinstance(sending.exception(), TransportError)
            assert customer.heard == []


async def test_every_stanza_that_lasts_is_acknowledged(
    lab: Lab, client: BotClient, owner: Owner, customer: Customer
) -> None:
    async def nothing_waits() -> bool:
        return owner.linked[0].waiting == 0

    group = lab.group("Amigas", owner, customer)
    sent = await client.api.send_message(
        build_jid(customer.account.lid.user, "lid"), Message(conversation="olá")
    )
    await customer.delivered(sent.ID)
    await customer.read(sent.ID)
    await customer.says("oi")
    await customer.says("oi gente", to=group)
    await owner.says("já respondo", to=customer)
    group.rename("Família", by=customer)
    owner.settings.saves(customer, "Ana")
    await until(nothing_waits)


def linked_keys(number: int) -> tuple[Account, bytes, bytes]:
    """An account; the identity of its device of this number, and what that shows of it."""
    account = Account(phone=LabJid("5511", PHONE), lid=LabJid("2000", LID), name="Dona")
    device = KeyPair.generate()
    details = protobuf.ADVDeviceIdentity(rawID=1, timestamp=1, keyIndex=number).SerializeToString()
    sealed = protobuf.ADVSignedDeviceIdentityHMAC.FromString(
        vouching.vouch(account, details, device.public, b"secret")
    )
    shown = protobuf.ADVSignedDeviceIdentity.FromString(sealed.details)
    shown.deviceSignature = device.sign(b"\x06\x01" + details + device.public + account.primary.public)
    return account, device.public, shown.SerializeToString()


def test_what_a_device_shows_is_about_itself_only() -> None:
    account, identity, shown = linked_keys(3)
    vouching.check(account, 3, identity, shown)
    with pytest.raises(ProtocolError, match="of another one"):
        vouching.check(account, 4, identity, shown)
    with pytest.raises(ProtocolError, match="phone has not signed"):
        vouching.check(account, 3, KeyPair.generate().public, shown)
    with pytest.raises(ProtocolError, match="phone has not signed"):
        vouching.check(linked_keys(3)[0], 3, identity, shown)
    said = protobuf.ADVSignedDeviceIdentity.FromString(shown)
    said.deviceSignature = bytes(64)
    with pytest.raises(ProtocolError, match="device's signature"):
        vouching.check(account, 3, identity, said.SerializeToString())


def test_messages_are_padded() -> None:
    assert all(unpad(pad(bytes(size))) == bytes(size) for size in range(40))
    for padded in (b"", b"oi", b"oi\x00", b"oi\x02", b"oi\x01\x02", b"oi" + bytes([17]) * 17):
        with pytest.raises(ProtocolError, match="padded"):
            unpad(padded)


def test_a_signed_prekey_is_signed() -> None:
    bundle = Keyring().publish()
    keys = Registration(
        registration_id=1,
        identity=bundle.identity,
        signed_prekey_id=1,
        signed_prekey=bundle.signed_prekey,
        signature=bundle.signature,
    )
    bundles.check(keys)
    with pytest.raises(ProtocolError, match="has not signed"):
        bundles.check(replace(keys, signed_prekey=bytes(32)))


@pytest.mark.parametrize(
    ("query", "words"), [("token={}", "without the word"), ("auth=lab&token=AAAA", "another hash")]
)
async def test_an_upload_is_allowed_and_what_it_says_to_be(query: str, words: str) -> None:
    token = base64.urlsafe_b64encode(bytes(32)).decode()
    headers = {"content-length": "4"}
    request = web.Request(method="POST", target=f"/mms/image/{token}?{query.format(token)}", headers=headers)
    reader = asyncio.StreamReader()
    reader.feed_data(b"file")
    with pytest.raises(ProtocolError, match=words):
        await FileServer(MediaStore()).serve(request, reader, None)  # type: ignore[arg-type] # nothing is answered
