"""How a phone vouches for its account's linked devices, and they for themselves: two signatures of one identity.

Made once, when a device is linked; shown with every message that begins a session, so that a reader who has never
heard of the device knows whose it is.
"""

from bot.lab import protobuf
from bot.lab.directory import Account
from bot.lab.errors import ProtocolError
from bot.lab.keys import hmac_sha256, verify

_BY_ACCOUNT, _BY_DEVICE = b"\x06\x00", b"\x06\x01"  # set the two signatures apart


def vouch(account: Account, details: bytes, identity: bytes, secret: bytes) -> bytes:
    """The phone's word that this device belongs to the account, for the device's eyes only."""
    signed: bytes = protobuf.ADVSignedDeviceIdentity(
        details=details,
        accountSignatureKey=account.primary.public,
        accountSignature=account.primary.sign(_BY_ACCOUNT + details + identity),
    ).SerializeToString()
    sealed: bytes = protobuf.ADVSignedDeviceIdentityHMAC(
        details=signed, HMAC=hmac_sha256(secret, signed)
    ).SerializeToString()
    return sealed


def check_own_word(account: Account, details: bytes, identity: bytes, said: bytes) -> None:
    """What a device answers to the phone's word: that it is the one."""
    signature = protobuf.ADVSignedDeviceIdentity.FromString(said).deviceSignature
    if not verify(identity, _BY_DEVICE + details + identity + account.primary.public, signature):
        raise ProtocolError("a device's signature of its identity is wrong")


def check(account: Account, number: int, identity: bytes, shown: bytes) -> None:
    """What a device shows to readers: both words, and that they are of this device."""
    said = protobuf.ADVSignedDeviceIdentity.FromString(shown)
    details = protobuf.ADVDeviceIdentity.FromString(said.details)
    if details.keyIndex != number:
        raise ProtocolError("a device shows the identity of another one")
    if not verify(account.primary.public, _BY_ACCOUNT + said.details + identity, said.accountSignature):
        raise ProtocolError("a device shows an identity that its account's phone has not signed")
    check_own_word(account, said.details, identity, shown)
