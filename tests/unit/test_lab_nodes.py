"""Binary XML: whatever is encoded comes back, and rubbish is an error of its own."""

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.lab.errors import ProtocolError
from bot.lab.nodes import LID, PHONE, SERVER, Codec, Jid, Node, Tokens

TOKENS = Tokens(
    single=("", "xmlstreamstart", "xmlstreamend", "s.whatsapp.net", "type", "message", "to", "lid"),
    double=(("read-self", "active"), ("composing",)),
)
CODEC = Codec(TOKENS)

words = st.text(max_size=300) | st.sampled_from(["type", "composing", "lid", "", "active"])
users = st.text("0123456789", min_size=1, max_size=15)
jids = st.builds(Jid, users, st.sampled_from([PHONE, LID]), st.integers(0, 99)) | st.just(SERVER)
nodes = st.recursive(
    st.builds(
        Node, words, st.dictionaries(words, words | jids, max_size=4), st.none() | st.binary(max_size=600)
    ),
    lambda inner: st.builds(
        Node,
        words,
        st.dictionaries(words, words | jids, max_size=4),
        st.lists(inner, min_size=1, max_size=4).map(tuple),
    ),
    max_leaves=12,
)


@given(nodes)
def test_a_node_comes_back_as_it_was(node: Node) -> None:
    assert CODEC.decode(CODEC.encode(node)) == node


@given(nodes)
def test_a_frame_may_be_compressed(node: Node) -> None:
    frame = CODEC.encode(node)
    assert CODEC.decode(b"\x02" + zlib.compress(frame[1:])) == node


@given(st.binary(max_size=200))
def test_rubbish_is_a_protocol_error(frame: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        CODEC.decode(frame)


def test_known_words_are_one_byte_or_two() -> None:
    assert CODEC.encode(Node("message", {"type": "composing"})) == b"\x00\xf8\x03\x05\x04\xed\x00"


def test_the_server_is_an_id_without_a_user() -> None:
    frame = CODEC.encode(Node("message", {"to": SERVER}))
    assert frame == b"\x00\xf8\x03\x05\x06\xfa\x00\x03"


def test_long_lists_and_long_data_have_longer_headers() -> None:
    node = Node("list", {}, tuple(Node("key", {}, b"x" * 70_000 if i == 0 else b"y") for i in range(300)))
    assert CODEC.decode(CODEC.encode(node)) == node


@pytest.mark.parametrize(
    ("packed", "text"),
    [(b"\xff\x02\x12\x34", "1234"), (b"\xff\x82\x12\x3f", "123"), (b"\xfb\x02\xab\xcd", "ABCD")],
)
def test_clients_pack_digits(packed: bytes, text: str) -> None:
    assert CODEC.decode(b"\x00\xf8\x03\x05\x04" + packed) == Node("message", {"type": text})


def test_ids_are_written_with_their_device() -> None:
    assert str(Jid("55119", PHONE, 3)) == "55119:3@s.whatsapp.net"
    assert Jid.parse("55119:3@s.whatsapp.net") == Jid("55119", PHONE, 3)
    assert Jid.parse("120@lid") == Jid("120", LID)
    with pytest.raises(ProtocolError):
        Jid.parse("55119")


def test_a_missing_part_is_named() -> None:
    node = Node("iq", {}, (Node("usync"),))
    assert node.find("usync", "list") is None
    with pytest.raises(ProtocolError, match="<iq> lacks <usync/list>"):
        node.child("usync", "list")
    with pytest.raises(ProtocolError, match="<iq> lacks id"):
        node.text("id")
    with pytest.raises(ProtocolError, match="carries no data"):
        _ = node.data
