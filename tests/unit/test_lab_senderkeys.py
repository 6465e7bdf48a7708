"""Sender keys as the lab's phones use them: who can read, in which order, and what does not open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.lab.errors import Duplicate, SignalError
from bot.lab.senderkeys import SenderKey, SendersKeys
from bot.lab.wire import SIGNATURE_BYTES, SenderKeyDistribution, SenderKeyMessage


def reader_of(sender: SenderKey) -> SendersKeys:
    reader = SendersKeys()
    reader.learn(sender.distribution())
    return reader


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_readers_open_what_comes_in_any_order_and_with_gaps(texts: list[bytes], random: object) -> None:
    sender = SenderKey()
    reader = reader_of(sender)
    sealed = [(text, sender.seal(text)) for text in texts]
    random.shuffle(sealed)  # type: ignore[attr-defined] # hypothesis gives a random.Random
    for text, message in sealed[: len(sealed) // 2 + 1]:
        assert reader.open(message) == text
        with pytest.raises(Duplicate):
            reader.open(message)


@given(st.integers(0, 20), st.integers(0, 20))
def test_who_is_told_later_reads_only_from_there_on(before: int, after: int) -> None:
    sender = SenderKey()
    first = reader_of(sender)
    earlier = [sender.seal(b"%d" % i) for i in range(before)]
    late = reader_of(sender)
    later = [sender.seal(b"%d" % i) for i in range(after)]
    for message in earlier:
        with pytest.raises(SignalError):
            late.open(message)
    assert [late.open(message) for message in later] == [first.open(message) for message in later]
    assert [first.open(message) for message in earlier] == [b"%d" % i for i in range(before)]


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_changed_message_does_not_open_nor_use_up_the_real_one(place: int, bit: int) -> None:
    sender = SenderKey()
    reader = reader_of(sender)
    message = sender.seal(b"oi")
    at = 1 + place % (len(message) - 1)
    with pytest.raises(SignalError):
        reader.open(message[:at] + bytes([message[at] ^ 1 << bit]) + message[at + 1 :])
    assert reader.open(message) == b"oi"


def test_another_member_cannot_write_in_the_senders_name() -> None:
    sender, other = SenderKey(), SenderKey()
    reader = reader_of(sender)
    reader.learn(other.distribution())
    own = SenderKeyDistribution.parse(sender.distribution())
    forged = SenderKeyMessage(key_id=own.key_id, iteration=0, ciphertext=b"c" * 16).to_bytes()
    with pytest.raises(SignalError, match="signature"):
        reader.open(forged + other.seal(b"")[-SIGNATURE_BYTES:])
    assert reader.open(sender.seal(b"oi")) == b"oi"


def test_a_key_told_twice_keeps_what_has_not_come_yet() -> None:
    sender = SenderKey()
    reader = reader_of(sender)
    late, last = sender.seal(b"um"), sender.seal(b"dois")
    reader.open(last)
    reader.learn(sender.distribution())
    assert reader.open(late) == b"um"
    assert reader.open(sender.seal(b"tres")) == b"tres"


def test_the_last_few_keys_of_a_sender_stay_usable() -> None:
    reader = SendersKeys()
    senders = [SenderKey() for _ in range(6)]
    messages = []
    for sender in senders:
        reader.learn(sender.distribution())
        messages.append(sender.seal(b"oi"))
    with pytest.raises(SignalError, match="has not come"):
        reader.open(messages[0])
    assert [reader.open(message) for message in messages[1:]] == [b"oi"] * 5


def test_a_message_from_far_ahead_is_refused() -> None:
    sender = SenderKey()
    reader = reader_of(sender)
    for _ in range(2001):
        sender.seal(b"")
    with pytest.raises(SignalError, match="future"):
        reader.open(sender.seal(b"oi"))


@pytest.mark.parametrize("data", [b"", b"\x33", b"\x33\x08\xff", b"\x33" + b"\xff" * 90])
def test_rubbish_neither_opens_nor_teaches(data: bytes) -> None:
    reader = reader_of(SenderKey())
    with pytest.raises(SignalError):
        reader.open(data)
    with pytest.raises(SignalError):
        reader.learn(data)


def test_wire_messages_come_back_as_they_were() -> None:
    message = SenderKeyMessage(key_id=2**31 - 1, iteration=300, ciphertext=b"c" * 200)
    assert SenderKeyMessage.parse(message.to_bytes() + bytes(SIGNATURE_BYTES)) == message
    told = SenderKeyDistribution(key_id=7, iteration=0, chain_key=b"k" * 32, signing_key=b"s" * 32)
    assert SenderKeyDistribution.parse(told.to_bytes()) == told
