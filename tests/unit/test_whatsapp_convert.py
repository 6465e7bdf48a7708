"""neonize's events become our nouns: every kind of message, address, receipt and bad input."""

import datetime as dt
import json
from typing import Any

import pytest

from bot.transports.whatsapp import library
from bot.transports.whatsapp.convert import Drop, Reason, moment, to_message, to_receipt, to_typing
from bot.transports.whatsapp.ids import People
from storage.models import Address, InboundMessage, Jid, MessageType, Receipt, Status, Typing

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
SENT_AT = dt.datetime(2026, 11, 23, 11, 59, 30, 250_000, tzinfo=dt.UTC)
MY_PHONE, MY_LID = Jid("5511999990000@s.whatsapp.net"), Jid("100000000000001@lid")
ANA_PHONE, ANA_LID = Jid("5511888880001@s.whatsapp.net"), Jid("200000000000001@lid")
BIA_LID = Jid("200000000000002@lid")
GROUP = Jid("120363000000000001@g.us")


@pytest.fixture(scope="module")
def neonize() -> library.Neonize:
    return library.load()


class Wire:
    """Builds events as neonize delivers them."""

    def __init__(self, neonize: library.Neonize) -> None:
        self.protocol, self.messages = neonize.protocol, neonize.messages
        self.people = People([MY_PHONE, MY_LID])

    def jid(self, text: str, device: int = 0) -> Any:
        user, _, server = text.partition("@")
        return self.protocol.JID(
            User=user, Server=server, Device=device, RawAgent=0, Integrator=0, IsEmpty=not text
        )

    def source(
        self,
        chat: str = ANA_LID,
        sender: str | None = None,
        *,
        alt: str = ANA_PHONE,
        from_me: bool = False,
        recipient_alt: str = "",
        device: int = 0,
    ) -> Any:
        return self.protocol.MessageSource(
            Chat=self.jid(chat),
            Sender=self.jid(sender or chat, device),
            IsFromMe=from_me,
            IsGroup=chat.endswith(("@g.us", "@broadcast")),
            SenderAlt=self.jid(alt, device),
            RecipientAlt=self.jid(recipient_alt),
        )

    def event(self, message: Any, source: Any = None, *, destination: str = "", **info: Any) -> Any:
        details: dict[str, Any] = {"ID": "3EB0A", "Pushname": "Ana", "Timestamp": _ms(SENT_AT), **info}
        if destination:
            details["DeviceSentMeta"] = self.protocol.DeviceSentMeta(DestinationJID=destination)
        built = self.protocol.MessageInfo(MessageSource=source or self.source(), **details)
        return self.protocol.Message(Info=built, Message=message, Raw=message)

    def text(self, text: str = "oi") -> Any:
        return self.messages.Message(conversation=text)

    def heard(self, message: Any, source: Any = None, **info: Any) -> InboundMessage:
        heard = to_message(self.event(message, source, **info), self.people, NOW)
        assert isinstance(heard, InboundMessage)
        return heard

    def dropped(self, message: Any, source: Any = None, **info: Any) -> Reason:
        heard = to_message(self.event(message, source, **info), self.people, NOW)
        assert isinstance(heard, Drop)
        return heard.reason


@pytest.fixture
def wire(neonize: library.Neonize) -> Wire:
    return Wire(neonize)


def _ms(moment: dt.datetime) -> int:
    return int(moment.timestamp() * 1000)


def test_a_customers_text(wire: Wire) -> None:
    heard = wire.heard(wire.text("oi"), wire.source(device=7))
    assert heard.external_id == "3EB0A"
    assert heard.text == "oi"
    assert heard.type is MessageType.TEXT
    assert heard.chat == heard.sender == Address(jid=ANA_LID, alt=ANA_PHONE)
    assert heard.sent_at == SENT_AT
    assert heard.push_name == "Ana"
    assert heard.sender_device == 7
    assert not heard.from_me
    assert not heard.to_self
    assert not heard.is_group


def test_a_pair_of_addresses_once_seen_completes_later_events(wire: Wire) -> None:
    assert wire.heard(wire.text(), wire.source(alt="")).chat.alt is None
    wire.heard(wire.text())
    assert wire.heard(wire.text(), wire.source(alt="")).chat.alt == ANA_PHONE
    assert wire.heard(wire.text(), wire.source(ANA_PHONE, alt="")).chat.alt == ANA_LID


@pytest.mark.parametrize("server", ["hosted", "c.us"])
def test_the_same_number_under_another_server_is_the_same_person(wire: Wire, server: str) -> None:
    assert wire.heard(wire.text(), wire.source(f"5511888880001@{server}", alt="")).chat.jid == ANA_PHONE


def test_the_owner_writing_to_a_customer(wire: Wire) -> None:
    source = wire.source(ANA_LID, MY_LID, alt="", from_me=True, recipient_alt=ANA_PHONE, device=0)
    heard = wire.heard(wire.text("já respondo"), source, Pushname="Dona")
    assert heard.from_me
    assert not heard.to_self
    assert heard.chat == Address(jid=ANA_LID, alt=ANA_PHONE)
    assert heard.sender == Address(jid=MY_LID, alt=MY_PHONE)
    assert heard.push_name is None


def test_the_destination_names_the_chat_where_the_envelope_does_not(wire: Wire) -> None:
    source = wire.source(MY_PHONE, MY_PHONE, alt="", from_me=True)
    assert wire.heard(wire.text(), source, destination=ANA_LID).chat.jid == ANA_LID


@pytest.mark.parametrize(("jid", "other"), [(MY_PHONE, MY_LID), (MY_LID, MY_PHONE)])
def test_the_chat_with_oneself_under_either_address(wire: Wire, jid: Jid, other: Jid) -> None:
    heard = wire.heard(
        wire.text("/status"), wire.source(jid, jid, alt="", from_me=True), destination=str(jid)
    )
    assert heard.to_self
    assert heard.from_me
    assert heard.chat == Address(jid=jid, alt=other)


def test_a_group_has_one_address_and_its_sender_two(wire: Wire) -> None:
    heard = wire.heard(wire.text(), wire.source(GROUP, ANA_LID))
    assert heard.is_group
    assert heard.chat == Address(jid=GROUP)
    assert heard.sender == Address(jid=ANA_LID, alt=ANA_PHONE)


def test_the_first_of_a_group_senders_two_events_is_dropped(wire: Wire) -> None:
    keys = wire.messages.SenderKeyDistributionMessage(groupID=GROUP)
    only_key = wire.messages.Message(senderKeyDistributionMessage=keys)
    only_key.messageContextInfo.messageSecret = b"secret"
    source = wire.source(GROUP, ANA_LID)
    assert wire.dropped(only_key, source) is Reason.NO_CONTENT
    both = wire.messages.Message(senderKeyDistributionMessage=keys, conversation="oi")
    assert wire.heard(both, source).text == "oi"


def test_a_customers_broadcast_belongs_into_her_chat(wire: Wire) -> None:
    heard = wire.heard(wire.text(), wire.source("1700000000@broadcast", ANA_LID))
    assert heard.chat == Address(jid=ANA_LID, alt=ANA_PHONE)
    assert not heard.is_group


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        ("status@broadcast", Reason.STATUS_UPDATE),
        ("120363000000000009@newsletter", Reason.NOT_A_CHAT),
        ("867051314767696@bot", Reason.NOT_A_CHAT),
        ("0@s.whatsapp.net", Reason.NOT_A_CHAT),
        ("", Reason.NO_ADDRESS),
    ],
)
def test_what_is_no_chat_is_dropped_with_its_reason(wire: Wire, chat: str, reason: Reason) -> None:
    assert wire.dropped(wire.text(), wire.source(chat, ANA_LID)) is reason


def test_what_own_devices_tell_each_other_is_no_human_writing(wire: Wire) -> None:
    mine = wire.source(MY_LID, MY_LID, alt="", from_me=True)
    assert wire.dropped(wire.text(), mine, Category="peer") is Reason.BETWEEN_OWN_DEVICES
    notice = wire.messages.ProtocolMessage(type=wire.messages.ProtocolMessage.HISTORY_SYNC_NOTIFICATION)
    assert wire.dropped(wire.messages.Message(protocolMessage=notice), mine) is Reason.NO_CONTENT
    assert (
        wire.dropped(wire.messages.Message(protocolMessage=wire.messages.ProtocolMessage()))
        is Reason.NO_CONTENT
    )


def _content(messages: Any, name: str) -> Any:
    """A message with this field set to something; texts where people write."""
    field = messages.Message.DESCRIPTOR.fields_by_name[name]
    inner = getattr(messages, field.message_type.name)()
    for written in ("caption", "text", "displayName", "name", "selectedDisplayText", "title", "comment"):
        if written in inner.DESCRIPTOR.fields_by_name:
            setattr(inner, written, "palavras")
    return messages.Message(**{name: inner})


@pytest.mark.parametrize(
    ("field", "kind", "text"),
    [
        ("extendedTextMessage", MessageType.TEXT, "palavras"),
        ("imageMessage", MessageType.IMAGE, "palavras"),
        ("videoMessage", MessageType.VIDEO, "palavras"),
        ("ptvMessage", MessageType.VIDEO, "palavras"),
        ("audioMessage", MessageType.AUDIO, None),
        ("documentMessage", MessageType.DOCUMENT, "palavras"),
        ("stickerMessage", MessageType.STICKER, None),
        ("locationMessage", MessageType.LOCATION, "palavras\npalavras"),
        ("liveLocationMessage", MessageType.LOCATION, "palavras"),
        ("contactMessage", MessageType.CONTACT, "palavras"),
        ("contactsArrayMessage", MessageType.CONTACT, "palavras"),
        ("pollCreationMessageV3", MessageType.POLL, "palavras"),
        ("buttonsResponseMessage", MessageType.TEXT, "palavras"),
        ("listResponseMessage", MessageType.TEXT, "palavras"),
        ("templateButtonReplyMessage", MessageType.TEXT, "palavras"),
        ("albumMessage", MessageType.SYSTEM, None),
        ("callLogMesssage", MessageType.SYSTEM, None),
        ("groupInviteMessage", MessageType.UNKNOWN, None),
        ("orderMessage", MessageType.UNKNOWN, None),
        ("interactiveMessage", MessageType.UNKNOWN, None),
        ("encEventResponseMessage", MessageType.SYSTEM, None),
        ("declinePaymentRequestMessage", MessageType.SYSTEM, None),
    ],
)
def test_every_message_has_its_type_and_its_words(
    wire: Wire, field: str, kind: MessageType, text: str | None
) -> None:
    heard = wire.heard(_content(wire.messages, field))
    assert (heard.type, heard.text) == (kind, text)


def test_every_field_of_whatsapps_schema_converts(wire: Wire) -> None:
    for field in wire.messages.Message.DESCRIPTOR.fields:
        if field.message_type is None:
            continue
        message = wire.messages.Message()
        getattr(message, field.name).SetInParent()
        assert isinstance(to_message(wire.event(message), wire.people, NOW), InboundMessage | Drop), (
            field.name
        )


def test_a_message_without_anything_in_it_is_nobodys_word(wire: Wire) -> None:
    secret = wire.messages.MessageContextInfo(messageSecret=b"\x01" * 32)
    for empty in (wire.messages.Message(), wire.messages.Message(messageContextInfo=secret)):
        assert wire.heard(empty).type is MessageType.SYSTEM


def test_a_message_of_a_newer_whatsapp_is_recorded_as_unknown(wire: Wire) -> None:
    field_9999 = b"\xfa\xf0\x04\x02hi"
    assert wire.heard(wire.messages.Message.FromString(field_9999)).type is MessageType.UNKNOWN


@pytest.mark.parametrize(
    "envelope",
    ["ephemeralMessage", "viewOnceMessageV2", "documentWithCaptionMessage", "groupMentionedMessage"],
)
def test_envelopes_are_opened(wire: Wire, envelope: str) -> None:
    inner = wire.messages.Message(imageMessage=wire.messages.ImageMessage(caption="olha"))
    outer = wire.messages.Message(**{envelope: wire.messages.FutureProofMessage(message=inner)})
    twice = wire.messages.Message(ephemeralMessage=wire.messages.FutureProofMessage(message=outer))
    for message in (outer, twice):
        assert (wire.heard(message).type, wire.heard(message).text) == (MessageType.IMAGE, "olha")


def _quoting(wire: Wire, participant: str, *mentions: str) -> Any:
    context = wire.messages.ContextInfo(stanzaID="Q1", participant=participant, mentionedJID=mentions)
    return wire.messages.Message(
        extendedTextMessage=wire.messages.ExtendedTextMessage(text="por quê?", contextInfo=context)
    )


@pytest.mark.parametrize(
    ("participant", "to_me"),
    [(MY_LID, True), (MY_PHONE, True), ("100000000000001:9@lid", True), (ANA_LID, False), ("", False)],
)
def test_a_reply_names_what_it_answers(wire: Wire, participant: str, to_me: bool) -> None:
    heard = wire.heard(_quoting(wire, participant))
    assert (heard.reply_to, heard.reply_to_me) == ("Q1", to_me)


@pytest.mark.parametrize("mention", [MY_LID, MY_PHONE])
def test_a_mention_of_either_own_address_is_of_me(wire: Wire, mention: str) -> None:
    assert wire.heard(_quoting(wire, ANA_LID, BIA_LID, mention), wire.source(GROUP, ANA_LID)).mentions_me
    assert not wire.heard(_quoting(wire, ANA_LID, BIA_LID), wire.source(GROUP, ANA_LID)).mentions_me


def _key(wire: Wire, *, from_me: bool) -> Any:
    from_key = type(wire.messages.ReactionMessage().key)
    return from_key(remoteJID=MY_LID, fromMe=from_me, ID="T1")


def test_a_reaction_names_its_target_and_whose_it_was(wire: Wire) -> None:
    for from_me in (True, False):
        reaction = wire.messages.ReactionMessage(key=_key(wire, from_me=from_me), text="👍")
        heard = wire.heard(wire.messages.Message(reactionMessage=reaction), Type="reaction")
        assert (heard.type, heard.text, heard.reply_to) == (MessageType.REACTION, "👍", "T1")
        # "Mine" is said from the customer's side.
        assert heard.reply_to_me is not from_me


def test_an_edit_brings_the_new_text_and_the_old_id(wire: Wire) -> None:
    protocol = wire.messages.ProtocolMessage(
        key=_key(wire, from_me=True),
        type=wire.messages.ProtocolMessage.MESSAGE_EDIT,
        editedMessage=wire.text("três"),
    )
    bare = wire.messages.Message(protocolMessage=protocol)
    wrapped = wire.messages.Message(editedMessage=wire.messages.FutureProofMessage(message=bare))
    for message in (bare, wrapped):
        heard = wire.heard(message, Edit="1")
        assert (heard.type, heard.text, heard.reply_to) == (MessageType.EDIT, "três", "T1")


def test_a_revoke_names_what_is_gone(wire: Wire) -> None:
    protocol = wire.messages.ProtocolMessage(
        key=_key(wire, from_me=True), type=wire.messages.ProtocolMessage.REVOKE
    )
    heard = wire.heard(wire.messages.Message(protocolMessage=protocol), Edit="7")
    assert (heard.type, heard.text, heard.reply_to) == (MessageType.REVOKE, None, "T1")


def test_a_reaction_is_taken_back_by_an_empty_one_and_not_by_one_that_cannot_be_read(wire: Wire) -> None:
    taken_back = wire.messages.Message(
        reactionMessage=wire.messages.ReactionMessage(key=_key(wire, from_me=True))
    )
    sealed = wire.messages.Message()
    sealed.encReactionMessage.targetMessageKey.ID = "T1"
    assert [(h.type, h.text, h.reply_to) for h in map(wire.heard, (taken_back, sealed))] == [
        (MessageType.REACTION, "", "T1"),
        (MessageType.REACTION, None, "T1"),
    ]


def test_an_edit_may_take_a_caption_away_and_one_that_cannot_be_read_does_not(wire: Wire) -> None:
    protocol = wire.messages.ProtocolMessage(
        key=_key(wire, from_me=True),
        type=wire.messages.ProtocolMessage.MESSAGE_EDIT,
        editedMessage=wire.messages.Message(imageMessage=wire.messages.ImageMessage(mimetype="image/png")),
    )
    without_caption = wire.messages.Message(protocolMessage=protocol)
    empty = wire.messages.Message()
    empty.protocolMessage.CopyFrom(protocol)
    empty.protocolMessage.ClearField("editedMessage")
    secret = wire.messages.Message()
    secret.secretEncryptedMessage.targetMessageKey.ID = "T1"
    secret.secretEncryptedMessage.secretEncType = secret.secretEncryptedMessage.MESSAGE_EDIT
    assert [(h.type, h.text, h.reply_to) for h in map(wire.heard, (without_caption, empty, secret))] == [
        (MessageType.EDIT, "", "T1"),
        (MessageType.EDIT, None, "T1"),
        (MessageType.EDIT, None, "T1"),
    ]


@pytest.mark.parametrize(
    ("from_me", "key", "to_me", "by"),
    [
        # (whose phone, what its key says, whether the target is ours, who wrote it)
        (False, {"fromMe": False, "participant": MY_LID}, True, MY_LID),
        (False, {"fromMe": False, "participant": MY_PHONE}, True, MY_PHONE),
        (False, {"fromMe": False, "participant": BIA_LID}, False, BIA_LID),
        (False, {"fromMe": True}, False, ANA_LID),
        (False, {"fromMe": True, "participant": ANA_LID}, False, ANA_LID),
        (False, {"fromMe": False}, False, None),
        (True, {"fromMe": True}, True, MY_LID),
        (True, {"fromMe": False, "participant": ANA_PHONE}, False, ANA_PHONE),
        (True, {"fromMe": False}, False, None),
    ],
)
def test_in_a_group_a_key_names_who_wrote_what_it_is_about(
    wire: Wire, from_me: bool, key: dict[str, Any], to_me: bool, by: Jid | None
) -> None:
    source = wire.source(GROUP, MY_LID if from_me else ANA_LID, alt="", from_me=from_me)
    message = wire.messages.Message()
    message.reactionMessage.text = "👍"
    message.reactionMessage.key.CopyFrom(type(message.reactionMessage.key)(remoteJID=GROUP, ID="T1", **key))
    heard = wire.heard(message, source)
    assert (heard.reply_to_me, heard.reply_to_sender) == (to_me, by)


def test_texts_can_be_stored(wire: Wire) -> None:
    heard = wire.heard(wire.text("a\x00b"), Pushname="An\x00a", ID="3E\x00B")
    assert (heard.text, heard.push_name, heard.external_id) == ("ab", "Ana", "3EB")
    assert wire.heard(wire.text("")).text is None
    assert "\\u0000" not in (heard.raw or "")


def test_broken_utf8_loses_nothing_but_itself(wire: Wire) -> None:
    broken = wire.messages.Message.FromString(b"\x0a\x04a\xffbc")
    heard = wire.heard(broken)
    assert heard.text == "a�bc"
    assert json.loads(heard.raw or "")["Message"]["conversation"] == "a�bc"


def test_raw_keeps_the_event_but_neither_blobs_nor_message_secrets(wire: Wire) -> None:
    image = wire.messages.ImageMessage(caption="olha", mediaKey=b"k" * 32, JPEGThumbnail=b"t" * 5000)
    message = wire.messages.Message(imageMessage=image)
    message.messageContextInfo.messageSecret = b"secret"
    raw = json.loads(wire.heard(message).raw or "")
    assert raw["Info"]["ID"] == "3EB0A"
    assert raw["Message"]["imageMessage"]["caption"] == "olha"
    assert raw["Message"]["imageMessage"]["mediaKey"]
    assert "JPEGThumbnail" not in raw["Message"]["imageMessage"]
    assert "messageSecret" not in raw["Message"].get("messageContextInfo", {})
    assert "Raw" not in raw
    assert image.JPEGThumbnail, "the event itself is left as it is"


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (_ms(SENT_AT), SENT_AT),
        (0, dt.datetime(2009, 1, 1, tzinfo=dt.UTC)),
        (-62135596800000, dt.datetime(2009, 1, 1, tzinfo=dt.UTC)),
        (2**63 - 1, NOW),
        (_ms(NOW + dt.timedelta(days=2)), NOW),
        (_ms(NOW + dt.timedelta(minutes=5)), NOW + dt.timedelta(minutes=5)),
    ],
)
def test_wild_timestamps_are_clamped(milliseconds: int, expected: dt.datetime) -> None:
    assert moment(milliseconds, per_second=1000, now=NOW) == expected


def _receipt(wire: Wire, kind: str | None, source: Any = None, ids: tuple[str, ...] = ("A", "B")) -> Any:
    receipt = wire.protocol.Receipt(
        MessageSource=source or wire.source(), MessageIDs=ids, Timestamp=int(SENT_AT.timestamp())
    )
    if kind is not None:
        receipt.Type = wire.protocol.Receipt.ReceiptType.Value(kind)
    return receipt


@pytest.mark.parametrize(
    ("kind", "status"), [("DELIVERED", Status.DELIVERED), ("READ", Status.READ), ("PLAYED", Status.READ)]
)
def test_a_receipt_tells_what_became_of_several_messages(wire: Wire, kind: str, status: Status) -> None:
    receipt = to_receipt(_receipt(wire, kind), wire.people, NOW)
    assert isinstance(receipt, Receipt)
    assert (receipt.external_ids, receipt.status) == (("A", "B"), status)
    assert receipt.chat == Address(jid=ANA_LID, alt=ANA_PHONE)
    assert receipt.at == SENT_AT.replace(microsecond=0)


@pytest.mark.parametrize(
    "kind", ["SENDER", "RETRY", "READ_SELF", "PLAYED_SELF", "SERVER_ERROR", "INACTIVE", "HISTORY_SYNC", None]
)
def test_other_receipts_say_nothing_of_a_customer(wire: Wire, kind: str | None) -> None:
    """Also an unset type, which neonize makes of the ones it does not know, and which reads as DELIVERED."""
    assert to_receipt(_receipt(wire, kind), wire.people, NOW) == Drop(reason=Reason.NOT_ABOUT_THE_CUSTOMER)


def test_own_devices_confirm_only_what_is_in_the_chat_with_oneself(wire: Wire) -> None:
    to_ana = wire.source(ANA_LID, MY_LID, from_me=True)
    assert isinstance(to_receipt(_receipt(wire, "READ", to_ana), wire.people, NOW), Drop)
    to_me = wire.source(MY_LID, MY_LID, alt="", from_me=True)
    assert isinstance(to_receipt(_receipt(wire, "READ", to_me), wire.people, NOW), Receipt)


def test_a_customer_starts_and_stops_typing(wire: Wire) -> None:
    states = wire.protocol.ChatPresence
    for state, typing in ((states.COMPOSING, True), (states.PAUSED, False)):
        event = states(MessageSource=wire.source(), State=state)
        assert to_typing(event, wire.people) == Typing(
            chat=Address(jid=ANA_LID, alt=ANA_PHONE), typing=typing
        )
    mine = states(MessageSource=wire.source(ANA_LID, MY_LID, from_me=True), State=states.COMPOSING)
    assert isinstance(to_typing(mine, wire.people), Drop)
    assert isinstance(to_typing(states(MessageSource=wire.source()), wire.people), Drop)
