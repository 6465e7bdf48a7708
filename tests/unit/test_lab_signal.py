"""Signal as the lab's phones speak it: what opens, what does not, and what survives."""

import pytest

from bot.lab.errors import Duplicate, SignalError
from bot.lab.keys import KeyPair, verify
from bot.lab.signal import Bundle, Correspondence, Keyring, Sealed
from bot.lab.wire import PreKeyMessage, WhisperMessage


class Pair:
    """Two devices, of which Ana knows Bia's published keys."""

    def __init__(self) -> None:
        self.ana_keys, self.bia_keys = Keyring(), Keyring()
        self.ana, self.bia = Correspondence(self.ana_keys), Correspondence(self.bia_keys)

    def started(self) -> "Pair":
        self.ana.begin(self.bia_keys.publish())
        return self


def test_what_one_side_writes_the_other_reads() -> None:
    pair = Pair().started()
    first = pair.ana.seal(b"oi")
    assert first.kind == "pkmsg"
    assert pair.bia.open(first) == b"oi"
    answer = pair.bia.seal(b"ol\xc3\xa1")
    assert answer.kind == "msg"
    assert pair.ana.open(answer) == b"ol\xc3\xa1"
    assert pair.ana.seal(b"tudo bem?").kind == "msg"


def test_until_it_is_answered_every_message_can_start_the_session() -> None:
    pair = Pair().started()
    first, second = pair.ana.seal(b"um"), pair.ana.seal(b"dois")
    assert second.kind == "pkmsg"
    assert pair.bia.open(second) == b"dois"
    assert pair.bia.open(first) == b"um"


def test_a_long_conversation_changes_keys_at_each_turn() -> None:
    pair = Pair().started()
    seen = set()
    for turn in range(50):
        sent = pair.ana.seal(b"a%d" % turn)
        assert pair.bia.open(sent) == b"a%d" % turn
        back = pair.bia.seal(b"b%d" % turn)
        assert pair.ana.open(back) == b"b%d" % turn
        seen.add(WhisperMessage.parse(back.data).ratchet_key)
    assert len(seen) == 50


def test_messages_may_overtake_each_other_also_across_turns() -> None:
    pair = Pair().started()
    pair.bia.open(pair.ana.seal(b"oi"))
    late = pair.bia.seal(b"0")
    pair.ana.open(pair.bia.seal(b"1"))
    pair.bia.open(pair.ana.seal(b"!"))
    pair.ana.open(pair.bia.seal(b"2"))
    assert pair.ana.open(late) == b"0"


def test_a_message_opens_once() -> None:
    pair = Pair().started()
    sent = pair.ana.seal(b"oi")
    pair.bia.open(sent)
    with pytest.raises(Duplicate):
        pair.bia.open(sent)


def test_a_forged_message_does_not_use_up_the_real_ones_key() -> None:
    pair = Pair().started()
    sent = pair.ana.seal(b"oi")
    forged = Sealed(kind="pkmsg", data=sent.data[:40] + bytes([sent.data[40] ^ 1]) + sent.data[41:])
    with pytest.raises(SignalError):
        pair.bia.open(forged)
    assert pair.bia.open(sent) == b"oi"


def test_a_wrong_mac_is_noticed() -> None:
    pair = Pair().started()
    pair.bia.open(pair.ana.seal(b"oi"))
    sent = pair.bia.seal(b"ola")
    with pytest.raises(SignalError, match="MAC"):
        pair.ana.open(Sealed(kind="msg", data=sent.data[:-1] + bytes([sent.data[-1] ^ 1])))
    assert pair.ana.open(sent) == b"ola"


def test_both_sides_may_begin_at_once() -> None:
    pair = Pair().started()
    pair.bia.begin(pair.ana_keys.publish())
    from_ana, from_bia = pair.ana.seal(b"a"), pair.bia.seal(b"b")
    assert pair.bia.open(from_ana) == b"a"
    assert pair.ana.open(from_bia) == b"b"
    for turn in range(3):
        assert pair.bia.open(pair.ana.seal(b"%d" % turn)) == b"%d" % turn
        assert pair.ana.open(pair.bia.seal(b"%d" % turn)) == b"%d" % turn


def test_a_side_that_lost_its_sessions_can_begin_again() -> None:
    pair = Pair().started()
    pair.bia.open(pair.ana.seal(b"oi"))
    pair.ana.open(pair.bia.seal(b"ola"))
    pair.ana.forget()
    with pytest.raises(SignalError, match="no session"):
        pair.ana.open(pair.bia.seal(b"esta ai?"))
    pair.ana.begin(pair.bia_keys.publish())
    assert pair.bia.open(pair.ana.seal(b"voltei")) == b"voltei"


def test_a_bundle_whose_signature_is_wrong_is_refused() -> None:
    good, other = Keyring().publish(), Keyring().publish()
    bad = Bundle(
        registration_id=good.registration_id,
        identity=good.identity,
        signed_prekey_id=1,
        signed_prekey=other.signed_prekey,
        signature=good.signature,
    )
    with pytest.raises(SignalError, match="signature"):
        Correspondence(Keyring()).begin(bad)


def test_a_bundle_without_a_one_time_prekey_will_do() -> None:
    pair = Pair()
    full = pair.bia_keys.publish()
    pair.ana.begin(
        Bundle(
            registration_id=full.registration_id,
            identity=full.identity,
            signed_prekey_id=full.signed_prekey_id,
            signed_prekey=full.signed_prekey,
            signature=full.signature,
        )
    )
    assert pair.bia.open(pair.ana.seal(b"oi")) == b"oi"


def test_a_one_time_prekey_starts_one_session_only() -> None:
    pair = Pair()
    bundle = pair.bia_keys.publish()
    pair.ana.begin(bundle)
    pair.bia.open(pair.ana.seal(b"oi"))
    other = Correspondence(Keyring())
    other.begin(bundle)
    with pytest.raises(SignalError, match="used before"):
        Correspondence(pair.bia_keys).open(other.seal(b"oi"))


@pytest.mark.parametrize("data", [b"", b"\x33", b"\x33\x0a\xff\xff", b"\x33" + b"\xff" * 40])
def test_rubbish_does_not_open(data: bytes) -> None:
    for kind in ("msg", "pkmsg"):
        pair = Pair().started()
        pair.bia.open(pair.ana.seal(b"oi"))
        with pytest.raises(SignalError):
            pair.bia.open(Sealed(kind="msg" if kind == "msg" else "pkmsg", data=data))


def test_signatures_verify_under_the_key_that_made_them_only() -> None:
    for _ in range(20):  # the sign bit differs from key to key
        ana, bia = KeyPair.generate(), KeyPair.generate()
        signature = ana.sign(b"oi")
        assert verify(ana.public, b"oi", signature)
        assert not verify(ana.public, b"ola", signature)
        assert not verify(bia.public, b"oi", signature)
    assert not verify(ana.public, b"oi", b"short")


def test_wire_messages_come_back_as_they_were() -> None:
    whisper = WhisperMessage(ratchet_key=b"r" * 32, counter=300, previous_counter=0, ciphertext=b"c" * 200)
    assert WhisperMessage.parse(whisper.to_bytes() + bytes(8)) == whisper
    for prekey_id in (None, 0, 70_000):
        first = PreKeyMessage(
            registration_id=7,
            prekey_id=prekey_id,
            signed_prekey_id=1,
            base_key=b"b" * 32,
            identity_key=b"i" * 32,
            message=b"m",
        )
        assert PreKeyMessage.parse(first.to_bytes()) == first
