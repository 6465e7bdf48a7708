"""What a message says, to a reader: the words of every kind, its marks, and contents that mean harm."""

import hashlib
import random
from typing import Any

import pytest

from bot.transports.whatsapp import library
from bot.transports.whatsapp.content import Said, read_content
from bot.transports.whatsapp.ids import People
from bot.transports.whatsapp.raw import raw_json
from bot.transports.whatsapp.timers import Timers
from bot.transports.whatsapp.votes import Votes, is_vote
from storage.models import Address, ExternalId, InboundMessage, Jid, MessageType
from tests.unit.test_whatsapp_convert import NOW

ANA = Address(jid=Jid("200000000000001@lid"), alt=Jid("5511888880001@s.whatsapp.net"))
DAY = 86_400


@pytest.fixture(scope="module")
def proto() -> Any:
    return library.load().messages


def said(message: Any) -> Said:
    found = read_content(message)
    assert found is not None
    return found


def inbound(found: Said) -> InboundMessage:
    return InboundMessage(
        external_id=ExternalId("M1"),
        chat=ANA,
        sender=ANA,
        sent_at=NOW,
        type=found.type,
        text=found.text,
        reply_to=found.reply_to,
        metadata=found.metadata,
    )


def test_a_place_is_told_by_its_name_else_by_its_coordinates(proto: Any) -> None:
    place = proto.LocationMessage(degreesLatitude=-23.5614, degreesLongitude=-46.6559)
    assert said(proto.Message(locationMessage=place)).text == "-23.561400, -46.655900"
    place.name, place.address = "MASP", "Av. Paulista, 1578"
    assert said(proto.Message(locationMessage=place)).text == "MASP\nAv. Paulista, 1578"
    live = proto.LiveLocationMessage(degreesLatitude=1.5, degreesLongitude=2)
    assert said(proto.Message(liveLocationMessage=live)).text == "1.500000, 2.000000"
    live.caption = "chegando"
    assert said(proto.Message(liveLocationMessage=live)).text == "chegando"
    assert said(proto.Message(locationMessage=proto.LocationMessage())).text is None


def test_contacts_are_told_by_their_names(proto: Any) -> None:
    cards = [proto.ContactMessage(displayName=name) for name in ("Bia", "", "Caio")]
    several = proto.ContactsArrayMessage(displayName="3 contacts", contacts=cards)
    assert said(proto.Message(contactsArrayMessage=several)).text == "Bia, Caio"
    nameless = proto.ContactsArrayMessage(displayName="3 contacts")
    assert said(proto.Message(contactsArrayMessage=nameless)).text == "3 contacts"


def a_poll(proto: Any, question: str, *options: str) -> Any:
    made = [proto.PollCreationMessage.Option(optionName=option) for option in options]
    return proto.Message(pollCreationMessageV3=proto.PollCreationMessage(name=question, options=made))


def test_a_poll_is_told_with_its_options(proto: Any) -> None:
    found = said(a_poll(proto, "Qual bolo?", "cenoura", "fubá"))
    assert (found.type, found.text) == (MessageType.POLL, "Qual bolo?\n- cenoura\n- fubá")


def test_a_vote_is_told_from_a_poll_before_it_can_be_read(proto: Any) -> None:
    message = proto.Message()
    message.pollUpdateMessage.pollCreationMessageKey.ID = "M1"
    found = said(message)
    assert (found.type, found.reply_to, found.metadata) == (MessageType.POLL, "M1", {"voted": None})


def test_a_vote_names_what_was_chosen_if_its_poll_is_known(proto: Any) -> None:
    votes, poll = Votes(), a_poll(proto, "Qual?", "a", "b")
    votes.remember(inbound(said(poll)), poll)
    digests = [hashlib.sha256(name).digest() for name in (b"b", b"a")]
    vote = inbound(Said(type=MessageType.POLL, reply_to=ExternalId("M1")))
    named = votes.named(vote, digests)
    assert (named.text, named.metadata) == ("b, a", {"voted": ["b", "a"]})
    taken_back = votes.named(vote, [])
    assert (taken_back.text, taken_back.metadata) == (None, {"voted": []})
    assert votes.named(vote, [b"of another poll", *digests]) == vote
    other = inbound(Said(type=MessageType.POLL, reply_to=ExternalId("M2")))
    assert votes.named(other, digests) == other


def test_only_a_vote_that_go_can_open_is_given_to_it(proto: Any) -> None:
    message = proto.Message()
    message.pollUpdateMessage.pollCreationMessageKey.ID = "M1"
    for size, opens in ((0, False), (11, False), (12, True), (13, False), (4096, False)):
        message.pollUpdateMessage.vote.encIV = bytes(size)
        assert is_vote(message) is opens, size
    assert not is_vote(proto.Message(conversation="oi"))


@pytest.mark.parametrize(
    ("build", "marks"),
    [
        (lambda p: p.Message(audioMessage=p.AudioMessage(PTT=True)), {"voice": True}),
        (lambda p: p.Message(audioMessage=p.AudioMessage()), {}),
        (lambda p: p.Message(imageMessage=p.ImageMessage(viewOnce=True)), {"view_once": True}),
        (lambda p: timed(p, DAY), {"expires_in": DAY}),
        (lambda p: timed(p, 0), {}),
    ],
)
def test_what_is_special_is_marked(proto: Any, build: Any, marks: dict[str, Any]) -> None:
    assert said(build(proto)).metadata == marks


def timed(proto: Any, seconds: int) -> Any:
    text = proto.ExtendedTextMessage(text="oi", contextInfo=proto.ContextInfo(expiration=seconds))
    return proto.Message(extendedTextMessage=text)


def timer(proto: Any, seconds: int) -> Any:
    kind = proto.ProtocolMessage.EPHEMERAL_SETTING
    return proto.Message(protocolMessage=proto.ProtocolMessage(type=kind, ephemeralExpiration=seconds))


def test_a_chats_timer_is_learnt_and_forgotten(proto: Any) -> None:
    timers = Timers(People())
    answer = proto.Message(conversation="olá")

    def learn(message: Any) -> None:
        timers.learn(inbound(said(message)))

    assert timers.applied(ANA.jid, answer) is answer
    for on, off in (
        (timer(proto, DAY), timer(proto, 0)),
        (timed(proto, DAY), timed(proto, 0)),
        (timed(proto, DAY), answer),
    ):
        learn(on)
        for jid in ANA.jids:
            applied = timers.applied(jid, answer).extendedTextMessage
            assert (applied.text, applied.contextInfo.expiration) == ("olá", DAY)
        learn(off)
        assert timers.applied(ANA.jid, answer) is answer
    assert answer.conversation == "olá", "the prepared message is left as it is: it may go out elsewhere"


def test_what_tells_nothing_of_the_timer_leaves_it(proto: Any) -> None:
    timers = Timers(People())
    timers.learn(inbound(said(timer(proto, DAY))))
    reaction = proto.Message(reactionMessage=proto.ReactionMessage(text="👍"))
    once = proto.Message(imageMessage=proto.ImageMessage(viewOnce=True))
    for message in (reaction, once):
        timers.learn(inbound(said(message)))
    image = timers.applied(ANA.jid, proto.Message(imageMessage=proto.ImageMessage(caption="olha")))
    assert image.imageMessage.contextInfo.expiration == DAY
    assert image.imageMessage.caption == "olha"


def test_envelopes_within_envelopes_end(proto: Any) -> None:
    message = proto.Message(conversation="oi")
    for _ in range(30):
        message = proto.Message(ephemeralMessage=proto.FutureProofMessage(message=message))
    assert said(message).type is MessageType.UNKNOWN
    edit = proto.Message(conversation="oi")
    for _ in range(30):
        edit = proto.Message(protocolMessage=proto.ProtocolMessage(type=14, editedMessage=edit))
    assert said(edit).type is MessageType.EDIT


def test_a_huge_caption_is_read_whole(proto: Any) -> None:
    caption = "palavra " * 100_000
    assert said(proto.Message(imageMessage=proto.ImageMessage(caption=caption))).text == caption


@pytest.mark.parametrize("field", ["name", "address", "comment"])
def test_broken_utf8_and_nul_within_are_mended(proto: Any, field: str) -> None:
    number = proto.LocationMessage.DESCRIPTOR.fields_by_name[field].number
    place = proto.LocationMessage.FromString(bytes([number << 3 | 2, 4]) + b"a\xff\x00b")
    assert said(proto.Message(locationMessage=place)).text == "a\N{REPLACEMENT CHARACTER}b"


def test_nothing_that_arrives_breaks_the_reading_of_it(proto: Any) -> None:
    """Every kind, filled at random down to some depth, is read and kept as JSON."""
    dice = random.Random(7)  # noqa: S311 - only for tests
    for field in proto.Message.DESCRIPTOR.fields:
        for _ in range(3):
            message = proto.Message()
            _fill(message, field, dice, depth=3)
            found = read_content(message)
            assert found is None or isinstance(found.type, MessageType), field.name
            assert raw_json(message)


def _fill(message: Any, field: Any, dice: random.Random, depth: int) -> None:
    value = getattr(message, field.name)
    if field.message_type is not None and not field.message_type.GetOptions().map_entry:
        inner = value.add() if hasattr(value, "add") else value
        inner.SetInParent()
        for below in inner.DESCRIPTOR.fields if depth else ():
            if dice.random() < 0.4:
                _fill(inner, below, dice, depth - 1)
    elif field.message_type is None:
        wild = _wild(field, dice)
        if hasattr(value, "append"):
            value.append(wild)
        else:
            setattr(message, field.name, wild)


def _wild(field: Any, dice: random.Random) -> Any:
    if field.enum_type is not None:
        return dice.choice(field.enum_type.values).number
    match field.cpp_type:
        case field.CPPTYPE_BOOL:
            return dice.random() < 0.5
        case field.CPPTYPE_STRING:
            return (
                b"\x00\xff" * 9
                if field.type == field.TYPE_BYTES
                else dice.choice(("", "\x00é\u202e", "x" * 9999))
            )
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return dice.choice((0.0, float("nan"), float("inf"), -1e30))
        case field.CPPTYPE_INT32 | field.CPPTYPE_INT64:
            return dice.choice((0, -1, 2**31 - 1))
        case _:
            return dice.choice((0, 1, 2**32 - 1))
